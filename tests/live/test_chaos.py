"""Runs of `make chaos`: every fault shows under its name, and none is invented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_S = 900


@pytest.mark.live
@pytest.mark.timeout(LONGEST_S + 60)
@pytest.mark.parametrize(
    ("names", "runs", "injections"),
    [
        pytest.param(["events-and-pulls"], 1, 18, id="events-and-pulls"),
        pytest.param([], 7, 60, id="all", marks=pytest.mark.full),
    ],
)
def test_every_injected_fault_is_found_and_no_other(
    names: list[str], runs: int, injections: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *names],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) runs, (\d+) faults injected", done.stdout)
    assert counted, done.stdout
    assert int(counted[1]) >= runs
    assert int(counted[2]) >= injections  # a matrix that injects hardly anything finds all of it
