"""The rehearsal of studies/smoke.yaml on four real nodes, end to end: time, memory, overhead.

Two runs: the first makes the images that the local registry lacks, the second is measured.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from benchmarks import Figure
from experiment.run_folder import RunFolder
from experiment.terminal.summary import image_lines
from schema.run_records import CellRecord, Phase, TrialRecord

_ROOT = Path(__file__).parent.parent
_COMMAND = [
    "-m", "experiment", "run", "--stack", "size-4",
    "--study", str(_ROOT / "studies" / "smoke.yaml"), "--rehearse", "--yes", "--run-id",
]  # fmt: skip
_LONGEST_S = 600


def measure() -> list[Figure]:
    """Run twice, measure the second."""
    with tempfile.TemporaryDirectory() as place:
        _run(Path(place), "first")
        wall_s, peak_gib = _run(Path(place), "second")
        folder = RunFolder(Path(place) / "data" / "runs" / "second")
        phases = {p.phase: (p.ended_at - p.started_at).total_seconds() for p in folder.phases()}
        trials = folder.last_trials()
        lines = image_lines(trials, folder.cells())
        gaps = [line.gap_s for line in lines if line.gap_s is not None]
        valid = sum(line.valid for line in lines)
        cells = sum(line.cells for line in lines)
    return [
        Figure("cells valid", 100 * valid / cells, "%", "100 %"),
        Figure("whole command", wall_s, "s", "at most 90 s"),
        Figure("memory of all processes, peak", peak_gib, "GiB", "at most 4 GiB"),
        Figure("provision: control plane and nodes", phases[Phase.PROVISION], "s", "at most 15 s"),
        Figure("teardown", phases[Phase.TEARDOWN], "s", "at most 10 s"),
        Figure("gap between two images, largest, as the runner saw it", max(gaps), "s", "0.5 s"),
        Figure(
            "the same from the container's own end, with the kubelet's time to notice it, largest",
            max(_container_gaps(trials, folder.cells())),
            "s",
            "0.5 s",
        ),
    ]


def _container_gaps(trials: list[TrialRecord], cells: list[CellRecord]) -> list[float]:
    """Each container sleeps for a second after its start, which the kubelet's event times."""
    gaps = []
    for before, after in pairwise(trials):
        starts = [cell.phases.started_at for cell in cells if cell.trial == before.trial]
        ended = max(start for start in starts if start) + timedelta(seconds=1)
        if after.first_bound_at:
            gaps.append((after.first_bound_at - ended).total_seconds())
    return gaps


def _run(place: Path, run_id: str) -> tuple[float, float]:
    before = _used_gib()
    peak = 0.0
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.5):
            peak = max(peak, _used_gib() - before)

    sampler = threading.Thread(target=sample)
    sampler.start()
    begun = time.monotonic()
    try:
        command = [sys.executable, *_COMMAND, run_id]
        subprocess.run(
            command,
            cwd=place,
            check=True,
            timeout=_LONGEST_S,
            stdout=subprocess.DEVNULL,
            env=os.environ,
        )
    finally:
        done.set()
        sampler.join()
    return time.monotonic() - begun, peak


def _used_gib() -> float:
    """Memory in use on this machine, page cache apart; the run's share is the growth."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines()
    )
    kib = {name: int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable")}
    return (kib["MemTotal"] - kib["MemAvailable"]) / 2**20
