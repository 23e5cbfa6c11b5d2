"""Studies of MiniClusters, by the stand-in of their operator: on real nodes and simulated ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.settings import FLUX_OPERATOR
from rehearsal.faults.faults import injected_file
from schema.errors import ExitCode
from schema.run_records import Status
from tests.live.harness import FAST, LONGEST_S, ROOT, Place, needs_real_nodes, place_in

STACK = f"""
config:
  pull-study:fluxOperator: {FLUX_OPERATOR}
  pull-study:nodeCount: "%s"
encryptionsalt: v1:GLaoFvNotSg=:v1:mQZYjTQiYfnzah9x:rbuc03MEE1eMxsJ3BN8M9TrlL/3tIA==
"""
STUDY = yaml.safe_load((ROOT / "studies" / "minicluster.yaml").read_text(encoding="utf-8"))

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(2 * LONGEST_S)]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("flux")) as place:
        yield place


def command(place: Place, nodes: int, *more: str, images: int = 4) -> tuple[str, ...]:
    (group,) = STUDY["images"]
    study = {**STUDY, "images": [{**group, "tags": group["tags"][:images]}]}
    (place.folder / "Pulumi.flux.yaml").write_text(STACK % nodes)
    (place.folder / "study.yaml").write_text(yaml.safe_dump(study))
    common = ("run", "--stack", "flux", "--study", "study.yaml", "--rehearse", "--yes")
    return (*common, "--run-id", "flux", *more)


def injected(home: Path) -> list[str]:
    lines = injected_file(home).read_text(encoding="utf-8").splitlines()
    return [json.loads(each)["fault"] for each in lines]


@needs_real_nodes
def test_four_real_nodes_run_every_image_as_a_minicluster(place: Place) -> None:
    output = place.succeed("experiment", *command(place, 4))
    assert "16 of 16 cells of a rehearsal are valid" in output
    folder = place.record("flux")
    cells = folder.last_cells()
    assert all(cell.phases.view_started_at for cell in cells)
    assert {cell.status for cell in cells} == {Status.VALID}
    place.expect_nothing_left()


def test_256_simulated_nodes_run_images_as_miniclusters(place: Place) -> None:
    output = place.succeed("experiment", *command(place, 256, *FAST, images=2))
    assert "512 of 512 cells of a rehearsal are valid" in output
    place.expect_nothing_left()


def test_a_pull_that_fails_excludes_its_own_cell_though_all_pods_wait_for_it(place: Place) -> None:
    fault = ("--fault", "pull:how=404,trial=2,node=1")
    code, output = place.run("experiment", *command(place, 4, *FAST, *fault))
    assert code == ExitCode.IMAGE_MISSING
    assert "15 of 16 cells of a rehearsal are valid" in output
    found = Counter(cell.status for cell in place.record("flux").last_cells())
    assert found == {Status.VALID: 15, Status.FAILED: 1}


def test_an_operator_that_is_down_for_a_while_delays_a_trial(place: Place) -> None:
    fault = ("--fault", "operator-down:trial=1,s=15")
    output = place.succeed("experiment", *command(place, 4, *FAST, *fault))
    assert "16 of 16 cells of a rehearsal are valid" in output
    assert Counter(injected(place.home.folder)) == {"operator-down": 1}


def test_a_view_that_is_missing_ends_the_run_before_its_first_trial(place: Place) -> None:
    code, output = place.run("experiment", *command(place, 4, *FAST, "--fault", "view-missing"))
    assert code == ExitCode.IMAGE_MISSING
    assert "cannot start the Flux view" in output
    assert place.record("flux").trials() == []
    assert set(injected(place.home.folder)) == {"view-missing"}
    place.expect_nothing_left()
