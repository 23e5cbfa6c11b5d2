"""One run on four real nodes with faults of their real processes, registry and disk.

Each trial has one fault, and each test reads the ledger of its own trial. The order is by size:
small images first, and last those whose fault must happen during the pull. Faults that the
rehearsal injects itself are judged by tests/chaos, on real nodes too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import yaml

from experiment.run_folder import RunFolder
from rehearsal.machine.home import Home
from rehearsal.real_nodes import registry
from schema.names import MEASURED_LABEL
from schema.run_records import CellRecord, Phase, Status, TrialRecord
from tests.live.footprint import footprint
from tests.live.harness import LONGEST_S, Place, needs_real_nodes
from tests.live.study.node_failures import (
    Nodes,
    fill,
    hidden,
    restart_registry,
    send,
    small_disk,
)
from tests.until import until

RUN_ID = "faults"
REPOSITORY = "ghcr.io/pull-study/faults"
SCALE = 0.01
NODES = 4
SMALL, LARGE = 50_000_000, 6_000_000_000
"""Bytes that the tags claim; a large image takes a node about two seconds here."""

(
    CACHED, MISSING, LAYERS_CACHED, REGISTRY_KILLED, REGISTRY_BACK, CONTAINERD_KILLED,
    KUBELET_KILLED, DISK_PRESSURE,
) = range(7, 15)  # fmt: skip
CONTROL = 1
"""The first without a fault; those up to CACHED are the time to prepare it."""
TAGS = [
    *(f"1-layers-size-{SMALL + number}-bytes" for number in range(CONTROL, LAYERS_CACHED)),
    f"3-layers-size-{LARGE}-bytes-gzip6sa",
    *(f"3-layers-size-{LARGE + n}-bytes" for n in range(REGISTRY_KILLED, DISK_PRESSURE + 1)),
]
STUDY = {
    "name": "faults",
    "order": "ascending",
    "images": [{"repository": REPOSITORY, "tags": TAGS}],
}
POD = re.compile(rf"{RUN_ID}-t(?P<trial>\d+)-a1-\d+-\w+")
DISK_BYTES = 8 << 30
PRESSURE_BYTES = 1 << 30
"""Less than the 2 GiB below which a kubelet reports pressure (rehearsal.real_nodes.node_files)."""

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(LONGEST_S + 60),
    needs_real_nodes,
]


@dataclass
class FaultyRun:
    """The run, and what it has written so far."""

    home: Home
    folder: RunFolder
    process: subprocess.Popen[str]
    _seen: set[tuple[str, int, str]] = field(default_factory=set)
    _read: int = 0

    def until(self, what: Callable[[], object], why: str) -> None:
        """Wait until the run has reached this."""

        def reached() -> bool:
            assert self.process.poll() is None, self.process.communicate()[0]
            return bool(what())

        until(reached, LONGEST_S, why)

    def await_phase(self, phase: Phase) -> None:
        path = self.folder.path / "phases.jsonl"
        self.until(
            lambda: path.exists() and any(p.phase is phase for p in self.folder.phases()), phase
        )

    def await_trial(self, trial: int) -> None:
        self.until(lambda: trial in {t.trial for t in self.folder.trials()}, f"end of {trial}")

    def await_event(self, reason: str, trial: int, *nodes: str) -> None:
        """Wait for this event of the trial's pods on these nodes."""
        self.until(
            lambda: {(reason, trial, node) for node in nodes} <= self._events(),
            f"{reason} of trial {trial}",
        )

    def _events(self) -> set[tuple[str, int, str]]:
        path = self.folder.path / "events.watch.jsonl"
        if not path.exists():
            return self._seen
        with path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                event = json.loads(line)["event"]
                if pod := POD.fullmatch(event["involvedObject"].get("name", "")):
                    host = event.get("source", {}).get("host", "")
                    self._seen.add((event["reason"], int(pod["trial"]), host))
        return self._seen

    def reference(self, trial: int) -> tuple[str, str]:
        """Return the reference and digest of its image."""
        image = self.folder.read_run().trials[trial - 1].image
        return image.reference, image.digest


def inject(run: FaultyRun, place: Place) -> None:
    """Inject the faults, each in its trial."""
    home = run.home
    run.await_phase(Phase.PROVISION)
    nodes = Nodes(home)
    listed = nodes.kubectl("get", "nodes", "-l", f"{MEASURED_LABEL}=true", "-o", "name")
    first, second, third, fourth = sorted(name.partition("/")[2] for name in listed.split())
    nodes.pull_beforehand(first, run.reference(CACHED)[0])
    twin = f"{REPOSITORY}:3-layers-size-{LARGE}-bytes-zstd3sa"
    inspect = ["skopeo", "inspect", "--raw", f"docker://{twin}"]
    subprocess.run(inspect, check=True, stdout=subprocess.DEVNULL, env=place.environment())
    nodes.pull_beforehand(second, twin)

    storage = registry.storage_of(SCALE)
    with hidden(storage, REPOSITORY.partition("/")[2], run.reference(MISSING)[1]):
        run.await_trial(MISSING)

    everywhere = (first, second, third, fourth)
    run.await_event("Pulled", LAYERS_CACHED, *everywhere)
    send(signal.SIGSTOP, home.folder, "docker-registry")  # else a pull could end before the kill
    run.await_event("Pulling", REGISTRY_KILLED, *everywhere)
    send(signal.SIGKILL, home.folder, "docker-registry")
    restart_registry(home)  # the next trial may still find none, so no test is about it

    run.await_event("Pulling", CONTAINERD_KILLED, third)
    send(signal.SIGKILL, nodes.folder(third), "containerd")
    time.sleep(1)
    nodes.restart_containerd(third)

    run.await_event("Pulling", KUBELET_KILLED, fourth)
    send(signal.SIGKILL, nodes.folder(fourth), "kubelet")

    run.await_trial(KUBELET_KILLED)
    stopped = send(signal.SIGSTOP, home.folder, "docker-registry")
    run.await_event("Pulling", DISK_PRESSURE, first, second, third)
    fill(home.folder.parent, leave=PRESSURE_BYTES)
    until(lambda: nodes.under_pressure() >= {first, second, third}, 30, "disk pressure")
    os.kill(stopped, signal.SIGCONT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRun]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.yaml").write_text(yaml.safe_dump(STUDY))
    with small_disk(folder / "disk", DISK_BYTES) as disk:
        home = Home(disk / "home")
        outside = Place(folder, home, footprint(home.folder))
        with outside.session(scale=SCALE) as place:
            arguments = ("--stack", "size-4", "--study", "faults.yaml", "--rehearse", "--yes")
            process = place.start("experiment", "run", *arguments, "--run-id", RUN_ID)
            found = FaultyRun(home, place.record(RUN_ID), process)
            try:
                inject(found, place)
                output, _ = process.communicate(timeout=LONGEST_S)
            finally:
                process.kill()
                process.wait()
        assert "Traceback" not in output
        yield found


@pytest.fixture(scope="module")
def cells(run: FaultyRun) -> list[CellRecord]:
    return run.folder.cells()


def by_node(cells: list[CellRecord], trial: int) -> list[CellRecord]:
    return sorted((c for c in cells if c.trial == trial), key=lambda cell: cell.node)


def seconds(run: FaultyRun, trial: int) -> float:
    """From a trial's release to the end of its last pod."""
    record: TrialRecord = next(each for each in run.folder.trials() if each.trial == trial)
    ends = [pod.over_seen for pod in record.pods if pod.over_seen]
    assert record.released_at
    return (max(ends) - record.released_at).total_seconds()


def test_no_cell_is_missing_from_the_ledger(run: FaultyRun, cells: list[CellRecord]) -> None:
    assert run.process.returncode not in {0, 1, 2}
    assert Counter(cell.trial for cell in cells) == dict.fromkeys(
        range(CONTROL, DISK_PRESSURE + 1), NODES
    )
    assert all(bool(cell.reason) != (cell.status is Status.VALID) for cell in cells)


VALID, FAILED, LOST = {Status.VALID}, {Status.FAILED}, {Status.NODE_LOST}
HARMED = {Status.FAILED, Status.RETRIED, Status.NODE_LOST}
FULL = {Status.DISK_PRESSURE, Status.EVICTED}


@pytest.mark.parametrize(
    ("trial", "allowed"),
    [
        pytest.param(CONTROL, [VALID] * 4, id="no-fault"),
        pytest.param(CACHED, [{Status.CACHED}, VALID, VALID, VALID], id="pulled-before"),
        pytest.param(
            LAYERS_CACHED,
            [VALID, {Status.CACHED, Status.WARM_LAYERS}, VALID, VALID],
            id="layers-pulled-before",
        ),
        pytest.param(MISSING, [FAILED] * 4, id="missing-from-the-registry"),
        pytest.param(CONTAINERD_KILLED, [VALID, VALID, HARMED, VALID], id="containerd-killed"),
        pytest.param(KUBELET_KILLED, [VALID, VALID, VALID, LOST], id="kubelet-killed"),
        pytest.param(DISK_PRESSURE, [FULL, FULL, FULL, LOST], id="disk-pressure"),
    ],
)
def test_a_fault_is_reported_on_the_nodes_that_had_it_and_no_others(
    cells: list[CellRecord], trial: int, allowed: list[set[Status]]
) -> None:
    found = by_node(cells, trial)
    assert all(cell.status in each for cell, each in zip(found, allowed, strict=True)), found


def test_a_registry_that_dies_during_pulls_fails_them(cells: list[CellRecord]) -> None:
    found = by_node(cells, REGISTRY_KILLED)
    assert {cell.status for cell in found} <= {Status.FAILED, Status.RETRIED, Status.VALID}
    harmed = [cell for cell in found if cell.status is not Status.VALID]
    assert harmed
    assert all("ErrImagePull" in c.reason or "failed first" in c.reason for c in harmed), harmed


def test_a_failure_is_noticed_at_once_and_a_lost_node_is_not_waited_for(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    assert all("not found" in cell.reason for cell in by_node(cells, MISSING))
    assert seconds(run, MISSING) < 10
    assert seconds(run, REGISTRY_KILLED) < 20
    assert seconds(run, DISK_PRESSURE) < 60
