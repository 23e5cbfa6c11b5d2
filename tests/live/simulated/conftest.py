from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.harness import FAST, Place, place_in

STUDY = """\
name: shared
images:
  - repository: ghcr.io/a/b
    tags: [1-layers-size-48702097-bytes, 3-layers-size-48702097-bytes, 9-layers-size-48702097-bytes]
"""


@pytest.fixture(scope="package")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The folder's one session of simulated nodes, with study.yaml."""
    with place_in(tmp_path_factory.mktemp("simulated")) as outside:
        (outside.folder / "study.yaml").write_text(STUDY)
        with outside.session(nodes="simulated", speed=20) as place:
            yield place
            assert place.clusters() == []
        outside.expect_nothing_left()


@pytest.fixture(scope="package")
def two_sizes(simulated: Place) -> str:
    """Output of one command that measured size-4 and size-8 as r-size-4 and r-size-8."""
    more = "roofs: true\nread: [0.5, 1.0]\n"
    (simulated.folder / "roofs.yaml").write_text(f"{STUDY}{more}")
    return simulated.succeed(
        "experiment", "run", "--stack", "size-4", "--stack", "size-8", "--study", "roofs.yaml",
        "--rehearse", "--yes", "--run-id", "r", *FAST,
    )  # fmt: skip
