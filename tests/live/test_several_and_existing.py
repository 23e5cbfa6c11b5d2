"""Several sizes in one command, a budget, a cluster that is there already: as a user has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiment.run_folder import RunFolder
from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE, Home, end
from schema.errors import ExitCode
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import Phase, Status

ROOT = Path(__file__).parents[2]
LONGEST_S = 280
STUDY = """\
name: two
images:
  - repository: ghcr.io/a/b
    tags: [1-layers-size-48702097-bytes, 9-layers-size-48702097-bytes]
"""
FAST = ("--rehearse", "--nodes", "simulated", "--speed", "20")

pytestmark = [pytest.mark.live, pytest.mark.timeout(2 * LONGEST_S)]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "study.yaml").write_text(STUDY)
    yield tmp_path
    end(Home(tmp_path / "home"))


def call(folder: Path, module: str, *arguments: str) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if k != REHEARSAL_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**environment, HOME_VARIABLE: str(folder / "home")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def run_of(folder: Path, run_id: str) -> RunFolder:
    return RunFolder(folder / "data" / "runs" / run_id)


def test_two_sizes_share_one_rehearsal_one_plan_and_one_report(here: Path) -> None:
    code, output = call(
        here, "experiment", "run", "--stack", "size-4", "--stack", "size-8", "--study",
        "study.yaml", "--yes", "--run-id", "r", *FAST,
    )  # fmt: skip
    assert code == 0, output
    assert "│ size-4 │     4 │   8/8 │" in output
    assert "│ size-8 │     8 │ 16/16 │" in output
    small, large = run_of(here, "r-size-4"), run_of(here, "r-size-8")
    assert small.read_run().seed == large.read_run().seed
    assert small.read_run().trials == large.read_run().trials
    assert [phase.phase for phase in large.phases()] == list(Phase)
    (report,) = (here / "data" / "reports").glob("two-*/report.html")
    assert "simulated" in report.read_text("utf-8")
    assert not (here / "home").exists()


def test_a_budget_ends_a_run_before_the_trial_that_would_exceed_it(here: Path) -> None:
    code, output = call(
        here, "experiment", "run", "--stack", "size-4", "--study", "study.yaml", "--yes",
        "--run-id", "r", "--budget-usd", "0.1", *FAST,
    )  # fmt: skip
    assert code == ExitCode.BUDGET, output
    assert "Error (budget): Trial 1 was not started: the cluster has cost 0.0" in output
    folder = run_of(here, "r")
    assert Counter(cell.status for cell in folder.cells()) == {Status.ABORTED: 8}
    assert folder.phases()[-1].phase is Phase.TEARDOWN
    assert "Warning (cost)" in output


def test_plan_and_preflight_tell_what_a_run_would_do(here: Path) -> None:
    words = ("--stack", "size-4", "--study", "study.yaml", "--rehearse")
    code, output = call(here, "experiment", "plan", *words, "--json")
    told = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert code == 0
    assert [trial["layers"] for trial in told["trials"]] in ([1, 9], [9, 1])
    assert all(trial["digest"].startswith("sha256:") for trial in told["trials"])
    assert told["stacks"][0]["cells"] == 8
    assert told["rehearsal"]["nodes"] == "real"
    code, output = call(here, "experiment", "preflight", *words)
    assert code == 0, output
    for check in ("credentials", "APIs", "permissions", "quotas", "registry", "exporter"):
        assert f" ok │ {check} " in output
    assert not (here / "data").exists()


EXISTING = """\
set -e
P="{python} -m experiment"
$P run --stack size-4 --study study.yaml --yes --run-id stack --keep-cluster --quiet
{python} -c "
import json
open('config', 'w').write(json.load(open('data/runs/stack/run.json'))['outputs']['kubeconfig'])"
$P run --kubeconfig config --node-selector pull-study/measured=true --study study.yaml --yes \
    --run-id borrowed
$P ledger borrowed
$P destroy --stack size-4 --yes
"""


@pytest.mark.skipif(
    bool(requirements.obstacles(Path("/var/lib"))), reason="this machine cannot run real nodes"
)
def test_images_of_an_earlier_run_are_removed_from_a_cluster_that_is_there(here: Path) -> None:
    script = EXISTING.format(python=sys.executable)
    code, output = call(here, "rehearsal", "shell", "--", "bash", "-c", script)
    assert code == 0, output
    folder = run_of(here, "borrowed")
    record = folder.read_run()
    assert record.existing is not None
    assert record.stack == "existing-pull-study-size-4"
    assert record.outputs is not None
    assert record.outputs.kubeconfig == ""
    assert record.existing.context == "pull-study-size-4"
    assert Counter(cell.status for cell in folder.cells()) == {Status.VALID: 8}
    removals = folder.removals()
    assert len({(removal.reference, removal.node) for removal in removals}) == 8
    assert all(removal.absent for removal in removals)
    assert "Events: watch saw 40 and lost 0; 0 seen by several sources, 40 by one" in output
    assert "Warning (events): The runner's watch is the only source of events" in output
