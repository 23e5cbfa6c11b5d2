"""The one loop in which tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(
    what: Callable[[], Found | None],
    timeout_s: float = 40,
    why: str = "it did not happen",
    *,
    every_s: float = 0.02,
) -> Found:
    """Poll until something is true; return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {why}"
        time.sleep(every_s)
    return found
