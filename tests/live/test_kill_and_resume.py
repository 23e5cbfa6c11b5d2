"""The runner killed by SIGKILL at random moments, and resumed: no cell is lost, no cluster is left.

The local Google outlives the runner here, as Google does: what is left behind is in its own list
of clusters. The moments are drawn by a seed; both are printed.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml

from experiment.run_folder import RunFolder
from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE
from rehearsal.session import session
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import Status

NODES = 4
IMAGES = {"simulated": 6, "real": 3}
KILLS = {"simulated": 8, "real": 2}
MOST_STARTS = 4
"""For each kill: a run that ended before its moment has to be begun anew."""
LONGEST_S = 200
SEED = int(os.environ.get("PULL_STUDY_TEST_SEED", "20261125"))

Cell = tuple[int, str]
"""Trial and node."""

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(3 * LONGEST_S),
    pytest.mark.skipif(
        bool(requirements.obstacles(Path("/var/lib"))), reason="this machine cannot run real nodes"
    ),
]


@dataclass(frozen=True)
class Place:
    """A folder to run in, inside a local Google that stays."""

    folder: Path
    variables: Mapping[str, str]
    options: tuple[str, ...]
    """Of a new run in this Google."""

    def start(self, run_id: str) -> subprocess.Popen[bytes]:
        """Begin the run, or go on with it if it was begun."""
        begun = (self.record(run_id).path / "run.json").exists()
        what = ("--resume", run_id) if begun else ("--run-id", run_id, *self.options)
        command = [sys.executable, "-m", "experiment", "run", *what, "--rehearse", "--yes"]
        with (self.folder / f"{run_id}.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def finish(self, run_id: str) -> float:
        """Let it come to its end; the seconds that it took."""
        begun = time.monotonic()
        process = self.start(run_id)
        try:
            code = process.wait(LONGEST_S)
        finally:
            process.kill()
            process.wait()
        assert code == 0, self.output(run_id)
        return time.monotonic() - begun

    def output(self, run_id: str) -> str:
        return (self.folder / f"{run_id}.txt").read_text()

    def record(self, run_id: str) -> RunFolder:
        return RunFolder(self.folder / "data" / "runs" / run_id)

    def clusters(self) -> list[str]:
        """Those that Google lists."""
        base = self.variables["GOOGLE_CONTAINER_CUSTOM_ENDPOINT"]
        url = f"{base}projects/{self.variables['GOOGLE_CLOUD_PROJECT']}/locations/-/clusters"
        answer = requests.get(url, headers={"Authorization": "Bearer any"}, timeout=10)
        return [cluster["name"] for cluster in answer.json().get("clusters", [])]


@contextmanager
def google(folder: Path, nodes: str, speed: float) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        patch.delenv(REHEARSAL_VARIABLE, raising=False)
        tags = [f"3-layers-size-{50_000_000 + number}-bytes" for number in range(IMAGES[nodes])]
        images = [{"repository": "ghcr.io/pull-study/killed", "tags": tags}]
        study = folder / "killed.yaml"
        study.write_text(yaml.safe_dump({"name": "killed", "images": images}))
        options = ["--stack", "size-4", "--study", str(study), "--seed", str(SEED)]
        options += ["--nodes", nodes, "--speed", str(speed)] if nodes == "simulated" else []
        with session(nodes=nodes, speed=speed) as variables:
            yield Place(folder, variables, tuple(options))


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


def kill_again_and_again(place: Place, kills: int, whole_s: float) -> list[str]:
    """Kill runs at random moments, each resumed until it is whole; their names."""
    moments = random.Random(SEED)
    killed, runs, unfinished = 0, [], ""
    for start in range(kills * MOST_STARTS):
        if killed == kills:
            break
        if not unfinished:
            unfinished = f"killed-{start}"
            runs.append(unfinished)
        moment = moments.uniform(0, whole_s)
        process = place.start(unfinished)
        try:
            code = process.wait(moment)
            print(f"seed {SEED}: {unfinished} ended with {code} before {moment:.2f} s")
            assert code == 0, place.output(unfinished)
            unfinished = ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            print(f"seed {SEED}: kill {killed} of {unfinished} after {moment:.2f} s")
    assert killed == kills
    if unfinished:
        place.finish(unfinished)
    return runs


@pytest.mark.parametrize(
    ("nodes", "speed"), [("simulated", 20.0), ("real", 1.0)], ids=["simulated", "real"]
)
def test_a_runner_killed_at_any_moment_loses_no_cell_and_leaves_no_cluster(
    nodes: str, speed: float, tmp_path: Path
) -> None:
    with google(tmp_path, nodes, speed) as place:
        whole_s = place.finish("whole")
        whole = place.record("whole")
        assert len(valid_cells(whole)) == IMAGES[nodes] * NODES
        assert place.clusters() == []

        for run_id in kill_again_and_again(place, KILLS[nodes], whole_s):
            folder = place.record(run_id)
            assert valid_cells(folder) == valid_cells(whole)
            assert rows(folder) == rows(whole)
            assert "Traceback" not in place.output(run_id)
            assert [t.image.reference for t in folder.read_run().trials] == [
                t.image.reference for t in whole.read_run().trials
            ]
            told = {(cell.trial, cell.attempt): cell.cluster for cell in folder.cells()}
            assert all(told.values())
            assert told == {(t.trial, t.attempt): t.cluster for t in folder.trials()}
        assert place.clusters() == []
