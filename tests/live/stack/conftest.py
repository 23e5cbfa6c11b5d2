from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.stack.rig import Rig, open_rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With providers in this process, which retry for a short while."""
    with open_rig(tmp_path_factory.mktemp("rig")) as rig, rig.retrying_providers(1.5):
        yield rig
