from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.harness import Place, place_in


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("place")) as place:
        yield place
