"""No failing disk, log or terminal keeps a run from taking its cluster down."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from experiment import run_folder, run_study
from experiment.errors import (
    FolderError,
    InternalError,
    Interrupted,
    MeasureError,
    RunError,
    TeardownError,
    print_error,
)
from experiment.interrupts import interrupts_wait
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.terminal.progress import Progress
from experiment.terminal.views import JsonView, PipeSafeConsole, PlainView
from schema.errors import ExitCode, UserError
from schema.run_records import Phase
from tests.experiment.cells import run_record
from tests.experiment.fakes import FakeCluster, FakeMeasurement
from tests.generated.limits import limited

AFTER_PROVISION = (Phase.PREPARE, Phase.MEASURE, Phase.COLLECT, Phase.TEARDOWN)


class Disk:
    """A disk under a run's folder that fails from the moment at which `error` is set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = 0
        self.open = run_folder._open

    def patched(self, path: Path, mode: str) -> Any:
        file = self.open(path, mode)
        if self.error and self.folder in path.parents:
            return FailingFile(file, self._fail)
        return file

    def _fail(self, *_: Any) -> NoReturn:
        raise OSError(self.error, os.strerror(self.error))


class FailingFile:
    def __init__(self, file: Any, fail: Callable[..., NoReturn]) -> None:
        self.file, self.write = file, fail

    def __enter__(self) -> "FailingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_run(run_record())
    return folder


@pytest.fixture
def disk(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(folder.path)
    monkeypatch.setattr(run_folder, "_open", disk.patched)
    return disk


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def measurement(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> FakeMeasurement:
    measurement = FakeMeasurement(folder)
    monkeypatch.setattr(run_study, "connect", measurement.connect)
    return measurement


def study_run(
    folder: RunFolder,
    cluster: FakeCluster,
    view: Any = None,
    *,
    hooks: Mapping[Phase, Callable[[], None]] | None = None,
    measurement: FakeMeasurement | None = None,
) -> StudyRun:
    """A run; with a hook in its preflight, one that resumes on a cluster that was left."""
    hooks = dict(hooks or {})
    preflight = hooks.pop(Phase.PREFLIGHT, None)
    cluster.left = preflight is not None
    for phase, hook in hooks.items():
        if phase in {Phase.PROVISION, Phase.TEARDOWN}:
            cluster.hooks[phase] = hook
        else:
            assert measurement is not None
            measurement.hooks[phase] = hook
    return StudyRun(
        folder,
        folder.read_run(),
        cluster,
        2 if preflight else 1,
        Progress(view or PlainView(Console(file=io.StringIO())), folder.log),
        preflight=preflight or (lambda: None),
    )


def problem_of(run: StudyRun) -> UserError:
    with pytest.raises(UserError) as raised:
        run.run()
    return raised.value


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EMFILE]
)
@pytest.mark.parametrize("phase", Phase)
def test_a_disk_that_fails_in_a_phase_does_not_keep_the_cluster_up(  # noqa: PLR0917
    phase: Phase,
    number: int,
    folder: RunFolder,
    cluster: FakeCluster,
    measurement: FakeMeasurement,
    disk: Disk,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        disk.error = number

    problem = problem_of(study_run(folder, cluster, hooks={phase: fail}, measurement=measurement))
    assert cluster.done[-1] == "teardown"
    assert isinstance(problem, FolderError)
    assert problem.exit_code is ExitCode.MEASURE
    assert os.strerror(number) in problem.problem
    assert '"phase":"teardown"' in capsys.readouterr().err


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[RunFolder]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=True)
    try:
        folder = RunFolder(tmp_path)
        folder.write_run(run_record())
        yield folder
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
@pytest.mark.parametrize("broken", ["full", "read-only", "memory", "descriptors"])
@pytest.mark.parametrize("phase", Phase)
def test_a_real_disk_or_limit_does_not_keep_the_cluster_up(
    phase: Phase, broken: str, small_disk: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, measurement = FakeCluster(), FakeMeasurement(small_disk)
    monkeypatch.setattr(run_study, "connect", measurement.connect)
    with ExitStack() as limits:

        def break_it() -> None:
            if broken == "full":
                fill(small_disk.path)
            elif broken == "read-only":
                remount_read_only(small_disk.path)
            else:
                limits.enter_context(limited(broken))()

        run = study_run(small_disk, cluster, hooks={phase: break_it}, measurement=measurement)
        told = ""
        try:
            run.run()  # a short record may still fit into a file's last page
        except UserError as error:
            told = str(error)
    assert "teardown" in cluster.done
    assert not cluster.exists or "The cluster size-4 may be up" in told


@pytest.mark.parametrize("phase", AFTER_PROVISION[:3])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), InternalError),
        (MemoryError(), InternalError),
        (MeasureError("broken"), MeasureError),
        (KeyboardInterrupt(), Interrupted),
    ],
)
def test_what_ends_a_phase_does_not_keep_the_cluster_up(  # noqa: PLR0917
    phase: Phase,
    error: BaseException,
    expected: type[UserError],
    folder: RunFolder,
    cluster: FakeCluster,
    measurement: FakeMeasurement,
) -> None:
    measurement.errors[phase] = error
    assert isinstance(problem_of(study_run(folder, cluster)), expected)
    assert cluster.done[-1] == "teardown"


def test_the_program_ending_within_a_phase_takes_the_cluster_down_first(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    measurement.errors[Phase.MEASURE] = SystemExit(3)
    with pytest.raises(SystemExit):
        study_run(folder, cluster).run()
    assert cluster.done[-1] == "teardown"


def test_the_first_problem_is_shown_although_teardown_failed_too(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    measurement.errors[Phase.MEASURE] = MeasureError("The trial failed.", "try again")
    cluster.errors["teardown"] = TeardownError("It is still there.", "delete it")
    problem = problem_of(study_run(folder, cluster))
    assert problem.problem == "It is still there."
    assert "The run had failed before: The trial failed." in str(problem)
    assert (problem.exit_code, problem.fix) == (ExitCode.TEARDOWN, "delete it")
    assert isinstance(problem.__cause__, MeasureError)


def test_what_teardown_left_at_no_cost_is_shown_beside_the_first_problem(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    def leave() -> None:
        cluster.exists = False

    measurement.errors[Phase.MEASURE] = MeasureError("The trial failed.", "try again")
    cluster.hooks["teardown"] = leave
    cluster.errors["teardown"] = RunError("Accounts are left.", "destroy")
    problem = problem_of(study_run(folder, cluster))
    assert isinstance(problem, MeasureError)
    assert "The teardown failed too: Accounts are left. Fix: destroy" in str(problem)


def test_a_teardown_that_fails_in_any_way_is_a_teardown_error(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    cluster.errors["teardown"] = RuntimeError("our mistake")
    problem = problem_of(study_run(folder, cluster))
    assert isinstance(problem, TeardownError)
    assert problem.exit_code is ExitCode.TEARDOWN
    assert problem.problem.startswith("The cluster size-4 may be up: Internal error in phase tear")
    assert "pull-study list" in problem.fix
    assert "pull-study destroy --stack size-4" in problem.fix


def test_a_teardown_that_ran_out_of_something_is_carried_out_once_more(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    def run_out() -> None:
        del cluster.hooks["teardown"]
        raise MemoryError

    cluster.hooks["teardown"] = run_out
    study_run(folder, cluster).run()
    assert cluster.done[-2:] == ["teardown", "teardown"]
    assert [phase.error for phase in folder.phases() if phase.phase is Phase.TEARDOWN] == [None]


def test_connections_that_do_not_close_do_not_keep_the_cluster_up(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    measurement.errors["close"] = RuntimeError("stuck")
    study_run(folder, cluster).run()
    assert cluster.done[-1] == "teardown"


class Broken:
    """A view that fails whatever is shown."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError("I/O operation on closed file")


@pytest.fixture(params=["none", "closed", "full", "broken pipe"])
def standard_streams(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Standard output and error of which neither takes anything."""
    closed = io.StringIO()
    closed.close()
    pipe = os.pipe()
    os.close(pipe[0])
    with (
        open("/dev/full", "w") as full,  # noqa: PTH123
        os.fdopen(pipe[1], "w") as broken,
    ):
        stream = {"none": None, "closed": closed, "full": full, "broken pipe": broken}
        monkeypatch.setattr(sys, "stdout", stream[request.param])
        monkeypatch.setattr(sys, "stderr", stream[request.param])
        yield
        for file in (full, broken):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, file.fileno())  # so that what is buffered can be flushed
            os.close(null)


@pytest.mark.parametrize(
    "view",
    [Broken, JsonView, lambda: PlainView(PipeSafeConsole(width=80))],
    ids=["broken", "JSON", "plain"],
)
def test_a_terminal_that_fails_does_not_end_a_run(
    view: Callable[[], Any],
    standard_streams: None,
    folder: RunFolder,
    cluster: FakeCluster,
    measurement: FakeMeasurement,
) -> None:
    study_run(folder, cluster, view()).run()
    assert cluster.done == ["recover", "provision", "teardown"]
    assert measurement.done == ["connect", "measure", "collect", "close"]


def test_a_closed_standard_error_is_survived(standard_streams: None) -> None:
    print_error("a line")


def test_signals_while_the_cluster_is_taken_down_are_survived(
    folder: RunFolder, cluster: FakeCluster, measurement: FakeMeasurement
) -> None:
    measurement.errors[Phase.MEASURE] = KeyboardInterrupt()
    cluster.hooks["teardown"] = lambda: signal.raise_signal(signal.SIGINT)
    assert isinstance(problem_of(study_run(folder, cluster)), Interrupted)
    assert cluster.done[-1] == "teardown"
    assert "Still taking the cluster down" in (folder.path / "run.log").read_text()


def test_a_signal_while_the_log_is_written_does_not_hang(folder: RunFolder) -> None:
    with interrupts_wait(lambda: folder.log("told")), folder._lock:
        signal.raise_signal(signal.SIGTERM)
    assert "told" in (folder.path / "run.log").read_text()
