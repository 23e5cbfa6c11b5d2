"""One run on four real nodes with many faults, each found by its name.

Each trial has one fault, and each test reads the ledger of its own trial. Faults of nodes, registry
and disk are injected into their real processes and files, those of events by the rehearsal. The
order is by size: small images first, and last those whose fault must happen during the pull.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from experiment.run_folder import RunFolder
from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE, Home
from rehearsal.real_nodes import registry
from rehearsal.session import session
from schema.names import MEASURED_LABEL, REHEARSAL_VARIABLE
from schema.run_records import CellRecord, Phase, Source, Status, TrialRecord
from tests.live.node_failures import (
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
    CONTROL, WATCH_CUT, EXPORTER_KILLED, LATE_AND_TWICE, NEVER, LOST, CACHED, MISSING,
    LAYERS_CACHED, REGISTRY_KILLED, REGISTRY_BACK, CONTAINERD_KILLED, KUBELET_KILLED, DISK_PRESSURE,
) = range(1, 15)  # fmt: skip
FAULTS = (
    f"watch:how=closed,trial={WATCH_CUT},resource=events,s=1",
    f"exporter:how=restart,trial={EXPORTER_KILLED}",
    f"event:how=late,source=logging,trial={LATE_AND_TWICE},s=20",
    f"event:how=twice,trial={LATE_AND_TWICE},source=exporter",
    f"event:how=lost,source=logging,trial={NEVER},node=1,reason=Pulled",
    f"event:how=lost,trial={LOST},node=2,reason=Pulled,source=both",
)
POD = re.compile(rf"{RUN_ID}-t(?P<trial>\d+)-a1-\d+-\w+")
DISK_BYTES = 8 << 30
PRESSURE_BYTES = 1 << 30
"""Less than the 2 GiB below which a kubelet reports pressure (rehearsal.real_nodes.node_files)."""
LONGEST_S = 400

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(LONGEST_S + 60),
    pytest.mark.skipif(
        bool(requirements.obstacles(Path("/var/lib"))), reason="this machine cannot run real nodes"
    ),
]


def tags() -> list[str]:
    """One a trial, in the order of their sizes."""
    small = [f"1-layers-size-{SMALL + number}-bytes" for number in range(CONTROL, LAYERS_CACHED)]
    layers = f"3-layers-size-{LARGE}-bytes-gzip6sa"
    large = range(REGISTRY_KILLED, DISK_PRESSURE + 1)
    return [*small, layers, *(f"3-layers-size-{LARGE + number}-bytes" for number in large)]


@dataclass
class FaultyRun:
    """The run, and what it has written so far."""

    home: Home
    folder: RunFolder
    process: subprocess.Popen[bytes]
    _seen: set[tuple[str, int, str]] = field(default_factory=set)
    _read: int = 0

    @property
    def output(self) -> str:
        """What the terminal would show."""
        return (self.folder.path.parent / "output.txt").read_text("utf-8")

    def until(self, what: object, why: str) -> None:
        """Wait until the run has reached this."""

        def reached() -> bool:
            assert self.process.poll() is None, self.output
            return bool(what())  # type: ignore[operator]

        until(reached, LONGEST_S, why, every_s=0.02)

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


def inject(run: FaultyRun) -> None:
    """Inject the faults of nodes, registry and disk, each in its trial."""
    home = run.home
    run.await_phase(Phase.PROVISION)
    nodes = Nodes(home)
    listed = nodes.kubectl("get", "nodes", "-l", f"{MEASURED_LABEL}=true", "-o", "name")
    first, second, third, fourth = sorted(name.partition("/")[2] for name in listed.split())
    nodes.pull_beforehand(first, run.reference(CACHED)[0])
    twin = f"{REPOSITORY}:3-layers-size-{LARGE}-bytes-zstd3sa"
    subprocess.run(["skopeo", "inspect", "--raw", f"docker://{twin}"], check=True, stdout=-3)
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
    until(
        lambda: nodes.under_pressure() >= {first, second, third}, 30, "disk pressure", every_s=0.02
    )
    os.kill(stopped, signal.SIGCONT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRun]:
    place = tmp_path_factory.mktemp("faults")
    study = place / "faults.yaml"
    images = [{"repository": REPOSITORY, "tags": tags()}]
    study.write_text(yaml.safe_dump({"name": "faults", "order": "ascending", "images": images}))
    with small_disk(place / "disk", DISK_BYTES) as disk, pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(disk / "home"))
        patch.delenv(REHEARSAL_VARIABLE, raising=False)
        with session(SCALE, faults=FAULTS):
            command = ["-m", "experiment", "run", "--stack", "size-4", "--study", str(study)]
            command += ["--rehearse", "--yes", "--run-id", RUN_ID]
            runs = place / "data" / "runs"
            runs.mkdir(parents=True)
            with (runs / "output.txt").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=place,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            found = FaultyRun(Home(disk / "home"), RunFolder(runs / RUN_ID), process)
            try:
                inject(found)
                process.wait(LONGEST_S)
            finally:
                process.kill()
                process.wait()
        yield found


@pytest.fixture(scope="module")
def cells(run: FaultyRun) -> list[CellRecord]:
    return run.folder.cells()


def statuses(cells: list[CellRecord], trial: int) -> list[str]:
    """By node."""
    return [cell.status.value for cell in by_node(cells, trial)]


def by_node(cells: list[CellRecord], trial: int) -> list[CellRecord]:
    return sorted((c for c in cells if c.trial == trial), key=lambda cell: cell.node)


def trial_record(run: FaultyRun, trial: int) -> TrialRecord:
    return next(record for record in run.folder.trials() if record.trial == trial)


def seconds(record: TrialRecord) -> float:
    """From its release to the end of its last pod."""
    ends = [pod.over_seen for pod in record.pods if pod.over_seen]
    assert record.released_at
    return (max(ends) - record.released_at).total_seconds()


def test_no_cell_is_missing_from_the_ledger(run: FaultyRun, cells: list[CellRecord]) -> None:
    assert run.process.returncode not in {0, 1, 2}
    assert "Traceback" not in run.output
    assert Counter(cell.trial for cell in cells) == dict.fromkeys(range(1, 15), NODES)
    assert all(bool(cell.reason) != (cell.status is Status.VALID) for cell in cells)


def test_a_trial_without_faults_is_valid(cells: list[CellRecord]) -> None:
    assert statuses(cells, CONTROL) == ["valid"] * NODES


def test_an_image_pulled_before_is_cached_on_its_node_only(
    cells: list[CellRecord],
) -> None:
    assert statuses(cells, CACHED) == ["cached", "valid", "valid", "valid"]


def test_layers_pulled_before_are_found_though_the_kubelet_reports_pulled(
    cells: list[CellRecord],
) -> None:
    found = by_node(cells, LAYERS_CACHED)
    assert found[1].status in {Status.CACHED, Status.WARM_LAYERS}, found[1]
    assert [cell.status for cell in found if cell is not found[1]] == [Status.VALID] * 3


def test_an_image_missing_from_the_registry_fails_at_once_with_its_reason(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    assert statuses(cells, MISSING) == ["failed"] * NODES
    assert all("not found" in cell.reason for cell in by_node(cells, MISSING))
    assert seconds(trial_record(run, MISSING)) < 10


def test_a_registry_that_dies_during_pulls_fails_them(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    found = by_node(cells, REGISTRY_KILLED)
    assert {cell.status for cell in found} <= {Status.FAILED, Status.RETRIED, Status.VALID}
    harmed = [cell for cell in found if cell.status is not Status.VALID]
    assert harmed
    assert all("ErrImagePull" in c.reason or "failed first" in c.reason for c in harmed), harmed
    assert seconds(trial_record(run, REGISTRY_KILLED)) < 20


def test_a_containerd_that_dies_during_a_pull_affects_its_node_only(
    cells: list[CellRecord],
) -> None:
    found = by_node(cells, CONTAINERD_KILLED)
    assert found[2].status in {Status.FAILED, Status.RETRIED, Status.NODE_LOST}, found[2]
    others = [cell.status for cell in found if cell is not found[2]]
    assert others == [Status.VALID] * 3


def test_a_node_without_kubelet_is_lost_and_the_others_are_not(cells: list[CellRecord]) -> None:
    assert statuses(cells, KUBELET_KILLED) == ["valid", "valid", "valid", "node-lost"]


def test_a_lost_node_is_not_waited_for_in_the_next_trial(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    assert statuses(cells, DISK_PRESSURE)[3] == "node-lost"
    assert seconds(trial_record(run, DISK_PRESSURE)) < 60


def test_disk_pressure_is_reported_on_the_nodes_that_had_it(cells: list[CellRecord]) -> None:
    found = {cell.status for cell in by_node(cells, DISK_PRESSURE)[:3]}
    assert found <= {Status.DISK_PRESSURE, Status.EVICTED}


def test_a_closed_watch_is_a_gap_and_excludes_no_cell(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    assert statuses(cells, WATCH_CUT) == ["valid"] * NODES
    record = trial_record(run, WATCH_CUT)
    assert record.released_at
    gaps = [gap for gap in run.folder.gaps() if gap.source is Source.WATCH]
    assert any(gap.until >= record.released_at for gap in gaps)


def test_a_killed_exporter_is_a_gap_and_excludes_no_cell(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    assert statuses(cells, EXPORTER_KILLED) == ["valid"] * NODES
    assert any(gap.source is Source.EXPORTER for gap in run.folder.gaps())


def test_late_or_repeated_entries_change_nothing(cells: list[CellRecord]) -> None:
    found = by_node(cells, LATE_AND_TWICE)
    assert [cell.status for cell in found] == [Status.VALID] * NODES
    assert all(Source.EXPORTER in cell.sources["Pulled"] for cell in found)


def test_a_lost_entry_is_counted_and_the_watch_replaces_it(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    first, *others = by_node(cells, NEVER)
    assert first.status is Status.VALID
    assert first.sources["Pulled"] == [Source.WATCH]
    assert all(Source.EXPORTER in cell.sources["Pulled"] for cell in others)
    (evidence,) = run.folder.evidence()
    assert evidence.complete is False
    assert evidence.sources[Source.EXPORTER].lost >= 1


def test_an_event_that_no_source_saw_is_missing(cells: list[CellRecord]) -> None:
    assert statuses(cells, LOST) == ["valid", "missing-events", "valid", "valid"]
    assert "Pulled" in by_node(cells, LOST)[1].reason


def test_the_ledger_command_shows_every_status_with_its_count(
    run: FaultyRun, cells: list[CellRecord]
) -> None:
    command = [sys.executable, "-m", "experiment", "ledger", str(run.folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    for status, count in Counter(cell.status.value for cell in cells).items():
        assert status in done.stdout
        assert str(count) in done.stdout
