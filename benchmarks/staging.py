"""Whether making the next image's pods while this one is pulled slows the pulls, on 4 real nodes.

Runs with and without staging take turns (with, without, without, with, ...), each on a cluster of
its own with images of one size. What is compared is the median pull of each run; how far runs of
one kind lie apart says what a difference means.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks import Figure
from experiment.run_folder import RunFolder
from experiment.terminal.summary import image_lines
from rehearsal.machine.home import HOME_VARIABLE
from schema.run_records import Status

IMAGES = 6
TURNS = ("--staging", "--no-staging", "--no-staging", "--staging", "--staging", "--no-staging")

_REPOSITORY = "ghcr.io/converged-computing/container-chonks"
_SIZE = 1_176_249_324
"""Of the smallest image of the original study's run1; a hundredth of it is pulled."""
_LONGEST_S = 600


def measure() -> list[Figure]:
    """Run in turns, compare medians."""
    medians: dict[str, list[float]] = {"--staging": [], "--no-staging": []}
    gaps: dict[str, list[float]] = {"--staging": [], "--no-staging": []}
    with tempfile.TemporaryDirectory() as place:
        for turn, option in enumerate(TURNS):
            pulls, gap = _run(Path(place), f"turn-{turn}", option)
            medians[option].append(pulls)
            gaps[option].append(gap)
    staged, unstaged = medians["--staging"], medians["--no-staging"]
    return [
        Figure("median pull with staging, median of 3 runs", statistics.median(staged), "s"),
        Figure("median pull without, median of 3 runs", statistics.median(unstaged), "s"),
        Figure("runs of one kind lie apart by up to", max(map(_spread, medians.values())), "s"),
        Figure(
            "gap between images with staging, median", statistics.median(gaps["--staging"]), "s"
        ),
        Figure("gap between images without, median", statistics.median(gaps["--no-staging"]), "s"),
    ]


def _spread(values: list[float]) -> float:
    return max(values) - min(values)


def _run(place: Path, run_id: str, option: str) -> tuple[float, float]:
    """Median pull of the valid cells, and median gap, in seconds."""
    tags = [f"9-layers-size-{_SIZE}-bytes-s{number}" for number in range(IMAGES)]
    study = place / "staging.yaml"
    images = [{"repository": _REPOSITORY, "tags": tags}]
    study.write_text(yaml.safe_dump({"name": "staging", "images": images}), encoding="utf-8")
    command = [sys.executable, "-m", "experiment", "run", "--stack", "size-4", "--study"]
    command += [str(study), "--rehearse", "--yes", option, "--seed", "1", "--run-id", run_id]
    subprocess.run(
        command,
        cwd=place,
        check=True,
        timeout=_LONGEST_S,
        stdout=subprocess.DEVNULL,
        env=os.environ | {HOME_VARIABLE: str(place / "home")},
    )
    folder = RunFolder(place / "data" / "runs" / run_id)
    cells = folder.cells()
    pulls = [c.pull_s for c in cells if c.status is Status.VALID and c.pull_s is not None]
    lines = image_lines(folder.trials(), cells)
    return (
        statistics.median(pulls),
        statistics.median(line.gap_s for line in lines if line.gap_s is not None),
    )
