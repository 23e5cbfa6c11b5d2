"""Fixtures of the rehearsal's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.local_google import Google, Loopback, google_in


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    """One server for all tests: to start and stop one takes longer than most tests."""
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def google(tmp_path: Path, loopback: Loopback) -> Iterator[Google]:
    """A local Google without anything in it, over a fleet that keeps a list."""
    with google_in(tmp_path, loopback) as running:
        yield running
