"""Several runs at once; a script replaces each run's process, so that it can end in any way."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiment.cli import several_runs
from experiment.cli.several_runs import carry_out_all
from experiment.plan.open_run import Planned
from experiment.plan.request import RunOptions, runs_folder
from experiment.provision.stack_cluster import StackCluster
from experiment.run_folder import RunFolder
from experiment.terminal.progress import Progress
from experiment.terminal.views import PipeSafeConsole, PlainView
from schema.errors import ExitCode
from schema.project_files import PROJECT_DIR
from schema.run_records import RunRecord
from tests.experiment.cells import cell, fill, run_record

RUN = """\
#!{python}
import json, os, signal, sys, time
run = sys.argv[sys.argv.index("--resume") + 1]
assert sys.argv[1:4] == ["-m", "experiment", "run"], sys.argv
def tell(kind, **fields):
    print(json.dumps({{"kind": kind, **fields}}), flush=True)
def ended(*_):
    open(run + ".signalled", "w").close()
    sys.stderr.write("Error (interrupted): Interrupted.\\n")
    sys.exit(130)
signal.signal(signal.SIGINT, ended)
signal.signal(signal.SIGTERM, ended)
open(run + ".started", "w").close()
tell("line", text="what the parent has said already")
tell("begin", phase="measure")
tell("progress", phase="measure", text="1 of 4", cells_ended=4, cells=8)
tell("line", text="a line of " + run)
{body}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")


def each_run_does(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = Path("run.py").resolve()
    script.write_text(RUN.format(python=sys.executable, body=body))
    script.chmod(0o755)
    only = SimpleNamespace(executable=str(script))  # of runs: a report starts Python too
    monkeypatch.setattr("experiment.cli.several_runs.sys", only)


def plans(*stacks: str) -> list[Planned]:
    """A run for each stack; `size-4/c2` is run size-4-c2 on stack size-4."""
    found = []
    for name in stacks:
        run, stack = name.replace("/", "-"), name.partition("/")[0]
        folder = RunFolder.create(runs_folder(), run)
        record: RunRecord = run_record(run_id=run, stack=stack)
        folder.write_run(record)
        found.append(Planned(folder, record, StackCluster(stack, PROJECT_DIR), attempt=1))
    return found


def carry_out(planned: list[Planned], parallel: int = 1) -> tuple[int, str]:
    text = io.StringIO()
    progress = Progress(PlainView(PipeSafeConsole(file=text, width=120)), lambda _line: None)
    code = carry_out_all(planned, RunOptions(parallel=parallel), progress)
    return code, text.getvalue()


def test_one_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = 'sys.stderr.write("Error (quota): Too few CPUs.\\n"); sys.exit(10)'
    each_run_does(monkeypatch, f"if run == 'size-4': {failing}")
    planned = plans("size-4", "size-8", "size-16")
    fill(planned[1].folder, [cell(trial, f"n{n}") for trial in (1, 2) for n in range(8)], nodes=8)
    code, output = carry_out(planned)
    assert code == ExitCode.QUOTA
    assert {path.name for path in Path().glob("*.started")} == {
        "size-4.started",
        "size-8.started",
        "size-16.started",
    }
    assert "size-8: a line of size-8\n" in output
    assert "what the parent has said already" not in output
    assert "│ size-4  │     4 │   0/8 │     0.0 │ 0.00 │ quota: Too few CPUs. │" in output
    assert "│ size-8  │     8 │ 16/16 │     3.2 │ 0.34 │ ok" in output
    assert "  to continue: pull-study run --resume size-4\n" in output
    assert "Report over all: data/reports/s-" in output


def test_a_run_that_is_killed_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    each_run_does(monkeypatch, "if run == 'size-4': os.kill(os.getpid(), signal.SIGKILL)")
    code, output = carry_out(plans("size-4", "size-8"))
    assert code == 128 + signal.SIGKILL
    assert "died: The run was killed by signal 9." in output


def test_three_clusters_that_could_not_be_deleted_are_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each_run_does(monkeypatch, 'sys.stderr.write("Error: It is still there.\\n"); sys.exit(7)')
    code, output = carry_out(plans("size-4", "size-8", "size-16", "size-32"))
    assert code == ExitCode.TEARDOWN
    assert Path("size-16.started").exists()
    assert not Path("size-32.started").exists()
    assert "size-32: Not started, since 3 clusters before could not be deleted" in output


def test_runs_go_in_order_unless_several_are_requested_in_parallel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = "sum(name.endswith('.started') for name in os.listdir('.'))"
    each_run_does(
        monkeypatch,
        f"time.sleep(0.6); open(run + '.saw', 'w').write(str({others}))",
    )
    carry_out(plans("size-4", "size-8"))
    assert Path("size-4.saw").read_text() == "1"
    for path in Path().glob("*.started"):
        path.unlink()
    carry_out(plans("size-16", "size-32"), parallel=2)
    assert Path("size-16.saw").read_text() == Path("size-32.saw").read_text() == "2"


def test_clusters_of_one_stack_follow_each_other_and_others_run_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = "sorted(name[:-6] for name in os.listdir('.') if name.endswith('.under'))"
    each_run_does(
        monkeypatch,
        "open(run + '.under', 'w').close(); time.sleep(0.5); "
        f"open(run + '.saw', 'w').write(' '.join({now})); time.sleep(0.2); "
        "os.unlink(run + '.under')",
    )
    code, output = carry_out(plans("size-4/c1", "size-8", "size-4/c2", "size-4/c3"), parallel=3)
    assert code == 0
    saw = {path.name[:-4]: path.read_text().split() for path in Path().glob("*.saw")}
    assert saw["size-4-c1"] == ["size-4-c1", "size-8"]
    assert (saw["size-4-c2"], saw["size-4-c3"]) == (["size-4-c2"], ["size-4-c3"])
    assert "size-4-c2: a line of size-4-c2\n" in output


def test_a_stack_whose_cluster_could_not_be_deleted_gets_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = 'sys.stderr.write("Error: It is still there.\\n"); sys.exit(7)'
    each_run_does(monkeypatch, f"if run == 'size-4-c1': {failing}")
    code, output = carry_out(plans("size-4/c1", "size-8/c1", "size-4/c2", "size-8/c2"))
    assert code == ExitCode.TEARDOWN
    assert not Path("size-4-c2.started").exists()
    assert Path("size-8-c2.started").exists()
    assert "size-4-c2: Not started, since the stack's cluster before could not be" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_reaches_the_run_under_way_and_no_other_begins(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    each_run_does(monkeypatch, "time.sleep(30)")

    def interrupt() -> None:
        end = time.monotonic() + 20
        while not Path("size-4.started").exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, output = carry_out(plans("size-4", "size-8"))
    thread.join()
    assert code == ExitCode.INTERRUPTED
    assert Path("size-4.signalled").exists()
    assert not Path("size-8.started").exists()
    assert "Interrupted: every cluster is being taken down; please wait." in output
    assert output.count("interrupted: ") == 2


def test_an_interruption_while_a_run_is_being_started_reaches_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each_run_does(monkeypatch, "time.sleep(60)")
    start, stop, stopped = subprocess.Popen, several_runs._RunPool._stop, threading.Event()

    def start_interrupted(*arguments: Any, **options: Any) -> Any:
        process = start(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(20)
        return process

    def noted(pool: Any, *arguments: Any) -> None:
        stop(pool, *arguments)
        stopped.set()

    monkeypatch.setattr("experiment.cli.several_runs.subprocess.Popen", start_interrupted)
    monkeypatch.setattr(several_runs._RunPool, "_stop", noted)
    began = time.monotonic()
    code, _ = carry_out(plans("size-4"))
    assert code != ExitCode.OK
    assert time.monotonic() - began < 30
