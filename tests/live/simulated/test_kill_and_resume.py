"""The runner killed by SIGKILL and resumed: no cell is lost, no cluster is left.

The local Google outlives the runner, as Google does. CI kills at two moments that it takes from a
recorded run; the full matrix at random ones, whose seed it prints (PULL_STUDY_SEED repeats one).
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from experiment.run_folder import RunFolder
from schema.run_records import Phase, Status
from tests.live.harness import FAST, LONGEST_S, Place, needs_real_nodes, place_in
from tests.until import until

NODES = 4
IMAGES = {"simulated": 6, "real": 3}
KILLS = {"simulated": 8, "real": 2}
MOST_STARTS = 4
"""For each kill: a run that ended before its moment is followed by another."""

Cell = tuple[int, str]
"""Trial and node."""

pytestmark = [pytest.mark.live, pytest.mark.timeout(3 * LONGEST_S)]


def start(place: Place, run_id: str, *options: str) -> subprocess.Popen[str]:
    """Start the run, or resume it."""
    exists = (place.record(run_id).path / "run.json").exists()
    what = ("--resume", run_id) if exists else ("--run-id", run_id, *options)
    return place.start("experiment", "run", *what, "--rehearse", "--yes")


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it was killed, not finished before."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        assert "Traceback" not in output
        return True
    assert process.returncode == 0, output
    return False


def valid_cells(folder: RunFolder) -> set[Cell]:
    """Of each trial's last attempt."""
    last = {trial.trial: trial.attempt for trial in folder.trials()}
    return {
        (cell.trial, cell.node)
        for cell in folder.cells()
        if cell.status is Status.VALID and cell.attempt == last[cell.trial]
    }


def rows(folder: RunFolder) -> set[tuple[str, str]]:
    """Image and node of every valid row of the run's table."""
    with (folder.report_dir / "pulls.csv").open() as file:
        return {
            (row["tag"], row["node"]) for row in csv.DictReader(file) if row["status"] == "valid"
        }


def expect_like(folder: RunFolder, whole: RunFolder) -> None:
    """Expect the same valid cells, rows and order as in an undisturbed run of the same seed."""
    assert valid_cells(folder) == valid_cells(whole)
    assert rows(folder) == rows(whole)
    assert [t.image.reference for t in folder.read_run().trials] == [
        t.image.reference for t in whole.read_run().trials
    ]
    clusters = {(cell.trial, cell.attempt): cell.cluster for cell in folder.cells()}
    assert all(clusters.values())
    assert clusters == {(t.trial, t.attempt): t.cluster for t in folder.trials()}


@pytest.mark.usefixtures("two_sizes")
def test_a_run_killed_while_it_provisions_and_while_it_measures_is_resumed(
    simulated: Place,
) -> None:
    whole = simulated.record("r-size-4")
    seed = str(whole.read_run().seed)
    options = ("--stack", "size-4", "--study", "study.yaml", "--seed", seed, *FAST)
    killed = simulated.record("killed")
    (provision,) = [each for each in whole.phases() if each.phase is Phase.PROVISION]
    provision_s = (provision.ended_at - provision.started_at).total_seconds()

    def in_provision() -> bool:
        return (killed.path / "phases.jsonl").exists() and bool(killed.phases())

    for reached, more_s in ((in_provision, provision_s / 2), (lambda: bool(killed.trials()), 0)):
        process = start(simulated, "killed", *options)
        until(reached, LONGEST_S, "the moment to kill at")
        assert kill_after(process, more_s)
    simulated.succeed("experiment", "run", "--resume", "killed", "--rehearse", "--yes")
    expect_like(simulated.record("killed"), whole)
    assert simulated.clusters() == []


@pytest.fixture(params=["simulated", pytest.param("real", marks=needs_real_nodes)])
def google(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, str]]:
    """A local Google that stays, with killed.yaml; and its kind of nodes."""
    kind = str(request.param)
    tags = [
        f"3-layers-size-{50_000_000 + each}-bytes" for each in range(3 * (1 + (kind != "real")))
    ]
    images = [{"repository": "ghcr.io/pull-study/killed", "tags": tags}]
    (tmp_path / "killed.yaml").write_text(yaml.safe_dump({"name": "killed", "images": images}))
    speed = 1.0 if kind == "real" else 20.0
    with place_in(tmp_path) as outside, outside.session(nodes=kind, speed=speed) as place:
        yield place, kind


@pytest.mark.full
def test_a_runner_killed_at_any_moment_loses_no_cell_and_leaves_no_cluster(
    google: tuple[Place, str],
) -> None:
    place, kind = google
    seed = int(os.environ.get("PULL_STUDY_SEED") or random.SystemRandom().randrange(10**6))
    print(f"PULL_STUDY_SEED={seed}")
    moments = random.Random(seed)
    fast = FAST if kind == "simulated" else ()
    options = ("--stack", "size-4", "--study", "killed.yaml", "--seed", str(seed), *fast)
    process = start(place, "whole", *options)
    assert not kill_after(process, LONGEST_S)
    whole = place.record("whole")
    phases = whole.phases()
    whole_s = (phases[-1].ended_at - phases[0].started_at).total_seconds()
    assert len(valid_cells(whole)) == len(whole.read_run().trials) * NODES

    killed, unfinished, runs = 0, "", []
    for number in range(KILLS[kind] * MOST_STARTS):
        if killed == KILLS[kind]:
            break
        if not unfinished:
            unfinished = f"killed-{number}"
            runs.append(unfinished)
        moment = moments.uniform(0, whole_s)
        print(f"{unfinished}: killed after {moment:.2f} s, if it has not ended")
        if kill_after(start(place, unfinished, *options), moment):
            killed += 1
        else:
            unfinished = ""
    assert killed == KILLS[kind]
    if unfinished:
        assert not kill_after(start(place, unfinished, *options), LONGEST_S)
    for run_id in runs:
        expect_like(place.record(run_id), whole)
    assert place.clusters() == []
