from collections.abc import Iterator

import pytest

from tests.rehearsal.local_google import Google, serving


@pytest.fixture
def google() -> Iterator[Google]:
    """A local Google without anything in it, over a fleet that keeps a list."""
    with serving() as google:
        yield google
