"""How `pytest -n 2` shares the tests between its workers, and what holds for every rehearsal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from rehearsal.google.recorder import EXCHANGES_VARIABLE
from tests.rehearsal.discovery import expect_documented

SHARED_SESSIONS = {"simulated"}
"""Folders of tests/live whose tests share a session, so they run in one worker."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Give a worker a file at a time, or a folder that shares a session."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        return str(path.parent if path.parent.name in SHARED_SESSIONS else path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_configure() -> None:
    # A shell's background job ignores Ctrl-C, and a run rightly leaves an ignored signal alone.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the live tests, so that no worker is left alone with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("live") is None)


@pytest.fixture(scope="session", autouse=True)
def _google_as_documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Record every exchange of the rehearsals, and compare it with Google's discovery documents."""
    path = tmp_path_factory.mktemp("google") / "exchanges.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXCHANGES_VARIABLE, str(path))
        yield
    expect_documented(path)
