"""The matrix of faults, as `make chaos` runs it: each is found under its name, none is invented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_S = 900
LEAST_RUNS, LEAST_STRIKES = 10, 60
"""A matrix that strikes hardly anything would find all of it."""

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(LONGEST_S + 60)]


def test_every_fault_of_the_matrix_is_found_and_no_other() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) runs, (\d+) strikes", done.stdout)
    assert counted, done.stdout
    assert int(counted[1]) >= LEAST_RUNS
    assert int(counted[2]) >= LEAST_STRIKES
