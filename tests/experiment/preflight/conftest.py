from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.local_google import Google, lead_to, serving


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """A local Google that the environment's variables lead to."""
    with serving() as google:
        lead_to(google, tmp_path, monkeypatch)
        yield google
