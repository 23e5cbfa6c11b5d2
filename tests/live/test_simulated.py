"""A study through several sizes on simulated nodes, from nothing to a report over all of them."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from experiment.run_folder import RunFolder
from schema.run_records import Status

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SIZES = (4, 16, 64)
STUDY = """
name: sizes
images:
  - repository: ghcr.io/converged-computing/container-chonks
    tags: [1-layers-size-48702097-bytes, 9-layers-size-387602448-bytes]
"""


def test_every_size_is_measured_whole_and_marked_as_simulated(tmp_path: Path) -> None:
    study = tmp_path / "sizes.yaml"
    study.write_text(STUDY)
    environment = {**os.environ, "PULL_STUDY_REHEARSAL_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "experiment", "run", "--study", str(study), "--yes"]
    for size in SIZES:
        command += ["--stack", f"size-{size}"]
    command += ["--rehearse", "--nodes", "simulated", "--speed", "20"]
    before = set((ROOT / "data/runs").glob("*"))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "home").exists()
    made = [path for path in (ROOT / "data/runs").glob("sizes-*") if path not in before]
    runs = [RunFolder(path) for path in made if (path / "run.json").exists()]
    cells = Counter({len(run.node_names(1)): len(run.cells()) for run in runs})
    assert cells == {size: 2 * size for size in SIZES}
    for run in runs:
        record = run.read_run()
        assert record.rehearsal is not None
        assert (record.rehearsal.nodes, record.rehearsal.speed) == ("simulated", 20)
        assert {cell.status for cell in run.cells()} == {Status.VALID}
        assert "simulated" in (run.report_dir / "report.html").read_text("utf-8")
        with (run.report_dir / "pulls.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 2 * len(run.node_names(1))
    for path in made:
        shutil.rmtree(path)
