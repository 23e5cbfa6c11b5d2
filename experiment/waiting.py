"""The runner's clock, and the one loop that polls."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


def now() -> datetime:
    """Return the time by the runner's clock, in UTC."""
    return datetime.now(UTC)


class Clock(Protocol):
    """The part of the module `time` that waiting needs."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""

    def sleep(self, seconds: float, /) -> None:
        """Pause."""


def wait_until(
    condition: Callable[[], T],
    timeout_s: float,
    pause_s: float,
    clock: Clock = time,
    *,
    longest_pause_s: float | None = None,
) -> T:
    """Call a condition until it returns something true or the time is over; return its last value.

    Args:
        condition: called at once, after each pause, and a last time when the time is over.
        timeout_s: when to give up; what the first call takes is not counted, so that a slow answer
            is followed by a second look.
        pause_s: between two calls.
        clock: the module `time`, or a test's.
        longest_pause_s: pauses double up to this; by default they are all alike.
    """
    value = condition()
    end = clock.monotonic() + timeout_s
    while not value and (left := end - clock.monotonic()) > 0:
        clock.sleep(min(pause_s, left))
        pause_s = min(pause_s * 2, longest_pause_s or pause_s)
        value = condition()
    return value
