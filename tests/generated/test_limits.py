"""A process that runs out of memory or descriptors leaves no cluster that nobody is told of."""

import subprocess
import sys

import pytest

from schema.errors import ExitCode
from tests.generated.limits import run_limited
from tests.generated.world import prepare


@pytest.mark.parametrize("call", [0, 60])
def test_descriptors_that_run_out_leave_no_cluster_unnamed(
    call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    assert run_limited("descriptors", call).code == ExitCode.MEASURE


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["memory", "descriptors"])
def test_a_limit_that_is_met_at_any_call_leaves_no_cluster_unnamed(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "tests.generated.limits", kind, "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    with capsys.disabled():
        print(done.stdout)
