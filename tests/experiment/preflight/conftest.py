from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.google.environment import google_variables
from rehearsal.machine.home import Home
from tests.rehearsal.local_google import Google, serving


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """A local Google that the environment's variables lead to."""
    with serving() as google:
        (tmp_path / "home").mkdir()
        variables = google_variables(Home(tmp_path / "home"), url=google.url, logging="127.0.0.1:1")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield google
