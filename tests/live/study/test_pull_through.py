"""Real nodes pull through a real cache, which is cold for the first pull and warm for the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from schema.run_records import Cache, Status
from tests.live.harness import LONGEST_S, Place, needs_real_nodes, place_in

STACK = """
config:
  pull-study:nodeCount: "2"
  pull-study:remoteRepository: ghcr.io
encryptionsalt: v1:GLaoFvNotSg=:v1:mQZYjTQiYfnzah9x:rbuc03MEE1eMxsJ3BN8M9TrlL/3tIA==
"""
REPOSITORY = "ghcr.io/converged-computing/container-chonks"
STUDY = {
    "name": "through",
    "contrasts": ["cache"],
    "repetitions": 2,
    "images": [
        {
            "repository": REPOSITORY,
            "tags": ["9-layers-size-48702097-bytes", "9-layers-size-127399102-bytes"],
        }
    ],
}

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(2 * LONGEST_S),
    needs_real_nodes,
]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("through")) as place:
        yield place


def test_first_pulls_meet_a_cold_cache_and_later_ones_a_warm_one(place: Place) -> None:
    (place.folder / "Pulumi.through.yaml").write_text(STACK)
    (place.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    command = ("run", "--stack", "through", "--study", "study.yaml", "--rehearse", "--yes")
    output = place.succeed("experiment", *command, "--run-id", "through")
    assert "8 of 8 cells of a rehearsal are valid" in output
    folder = place.record("through")
    found = Counter((cell.repetition, cell.cache, cell.status) for cell in folder.last_cells())
    assert found == {(1, Cache.COLD, Status.VALID): 4, (2, Cache.WARM, Status.VALID): 4}
    outputs = folder.read_run().outputs
    assert outputs is not None
    for trial in folder.read_run().trials:
        assert trial.image.upstream == REPOSITORY
        assert trial.image.repository == (
            f"{outputs.remote_repository}/converged-computing/container-chonks"
        )
    place.expect_nothing_left()
