"""Two checkouts of one user rehearse side by side; each ends its own rehearsal alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from experiment.run_folder import RunFolder
from rehearsal.machine import processes
from rehearsal.machine.home import HOME_VARIABLE, Home, default_home, end
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import Status
from tests.checkout_copy import copy_checkout
from tests.live.harness import FAST, LONGEST_S
from tests.live.simulated.conftest import STUDY
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(2 * LONGEST_S)]


@dataclass(frozen=True)
class Checkout:
    """A copy, whose modules are its own also for the processes that it starts."""

    folder: Path
    home: Home

    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def kill(self) -> None:
        """End what a failed test left."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout:
                process.stdout.close()

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if k not in {HOME_VARIABLE, REHEARSAL_VARIABLE}}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def measure(self) -> subprocess.Popen[str]:
        """Start a run of 18 trials."""
        (self.folder / "study.yaml").write_text(STUDY, "utf-8")
        return self.start(
            "experiment", "run", "--stack", "size-4", "--study", "study.yaml", "--rehearse",
            "--yes", "--repeat", "6", "--run-id", "r", *FAST,
        )  # fmt: skip

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "data" / "runs" / "r")


@pytest.fixture
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Checkout]]:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    with ExitStack() as closing:
        found = []
        for name in ("one", "two"):
            folder = copy_checkout(tmp_path / name)
            monkeypatch.setattr("rehearsal.machine.home._CHECKOUT", folder)
            found.append(Checkout(folder, default_home()))
            closing.callback(end, found[-1].home)
            closing.callback(found[-1].kill)
        yield found


def test_down_in_one_leaves_the_rehearsal_of_the_other(checkouts: list[Checkout]) -> None:
    one, two = checkouts
    assert one.home.folder != two.home.folder
    ended, stays = one.measure(), two.measure()

    def both_measure() -> bool:
        for process in (ended, stays):
            assert process.poll() is None, process.communicate()[0]
        return all(each.run.trials() for each in checkouts)

    until(both_measure, LONGEST_S, "both measure")
    down = one.start("rehearsal", "down")
    said, _ = down.communicate(timeout=LONGEST_S)
    assert (down.returncode, said) == (0, f"removed {one.home.folder}\n")
    assert processes.running(one.home.folder) == []
    assert processes.running(two.home.folder)
    output, _ = stays.communicate(timeout=LONGEST_S)
    assert stays.returncode == 0, output
    assert Counter(cell.status for cell in two.run.last_cells()) == {Status.VALID: 72}
    assert ended.poll() is None  # it waits for the API server, as for one of GKE
    one.kill()
    assert not one.home.folder.exists()
    assert not two.home.folder.exists()
