"""How `pytest -n 2` shares the tests between its workers."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the live tests, so that no worker is left alone with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("live") is None)
