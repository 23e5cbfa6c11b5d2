"""Fixtures of the rehearsal's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.local_google import Google, serving


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Google]:
    """A local Google without anything in it, over a fleet that keeps a list."""
    with serving(tmp_path) as running:
        yield running
