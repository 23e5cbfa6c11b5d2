"""A user's commands against a local Google and a fake engine, in which anything can go wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from rich.table import Table

from experiment.cli import run as cli_run
from experiment.plan.open_run import Planned
from experiment.plan.request import RunOptions
from experiment.provision import pulumi_process
from experiment.provision.manage import clusters, stacks
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import copy_stack_files
from experiment.run_folder import RunFolder
from experiment.terminal.progress import State
from rehearsal.google.environment import PROJECT
from rehearsal.pulumi.providers import google_rest
from schema.errors import ExitCode, UserError
from schema.run_records import CellRecord, Phase, PlannedTrial, RoofRecord, Status
from tests.experiment.cells import cell, run_record, trial_record
from tests.generated.backend import Pulumi
from tests.generated.engine import FakeStack
from tests.generated.google import ENDPOINT_VARIABLES, Google, Happening, Killed, Refusal

STACK = "size-4"
_TRIAL_S = 120.0
TICK_S = 600.0
"""How often the local Google looks what is due while time passes."""
_MEMORY = Path("/dev/shm")
_POLLS_PER_S = 20.0
"""A provider that waits a second lets so many pass: it need not ask as often as in truth."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what the user has read."""

    command: str
    code: int | None
    """None for a command that was killed."""
    text: str
    """Of the error; empty for none."""
    said: Sequence[str]
    idle: bool = False
    """A resume that found nothing to do: what there is belongs to another run."""


class _View:
    """Keeps what is shown."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def begin(self, state: State) -> None: ...

    def end(self, state: State, seconds: float) -> None: ...

    def line(self, text: str, *, result: bool = False) -> None:
        self._said.append(text)

    def change(self, state: State) -> None:
        if state.text:
            self._said.append(state.text)

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None: ...


@dataclass
class World:
    """One machine and one project.

    Attributes:
        folder: of the runs.
        google: the local Google.
        pulumi: CLI and state.
        killed: the runner is dead until the next command.
        overtaken: a second process worked on the stack during the last command.
        unseen: it did so after the last time that the command asked Google for clusters.
        in_measure: what happens when the first trial of the next command ends.
        outcomes: of the commands so far.
    """

    current: ClassVar[World]

    folder: Path
    google: Google = field(default_factory=Google)
    killed: bool = False
    overtaken: bool = False
    _overtaken_at: int = 0
    in_measure: Callable[[], None] | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    runs: list[RunFolder] = field(default_factory=list)
    _frozen: dict[Path, bytes] | None = None

    def __post_init__(self) -> None:
        World.current = self
        self.google.dead = lambda: self.killed
        self.pulumi = Pulumi(self.google)
        self._freezes: Path | None = None

    # Commands.

    def run(self, *, keep: bool = False) -> Outcome:
        """A new run."""
        number = len(self.runs) + 1
        folder = RunFolder.create(self.folder, f"run-{number}")
        folder.write_run(run_record(run_id=folder.path.name, stack=STACK))
        copy_stack_files(STACK, folder.pulumi_dir)
        self.runs.append(folder)
        return self._carry_out(folder, keep=keep, name="run")

    def resume(self, *, keep: bool = False) -> Outcome:
        """Resume the last run."""
        before = self.runs[-1].phases()
        outcome = self._carry_out(self.runs[-1], keep=keep, name="resume")
        return replace(outcome, idle=self.runs[-1].phases() == before)

    def _carry_out(self, folder: RunFolder, *, keep: bool, name: str) -> Outcome:
        options = RunOptions(keep_cluster=keep, assume_yes=True)

        def act(say: list[str]) -> int:
            clock = self.google.clock
            cluster = StackCluster(STACK, folder.pulumi_dir, clock=clock)
            attempt = 1 + folder.last_attempt()
            planned = Planned(folder, folder.read_run(), cluster, attempt, reopened=attempt > 1)
            return cli_run.carry_out(planned, options, _View(say))

        return self._command(f"{name}{' --keep-cluster' if keep else ''}", act, folder.path)

    def cluster(self, folder: Path) -> StackCluster:
        """The stack's cluster, on copies of its files in a folder."""
        copy_stack_files(STACK, folder)
        return StackCluster(STACK, folder, clock=self.google.clock)

    def destroy(self) -> Outcome:
        def act(say: list[str]) -> None:
            stacks.destroy(STACK, say.append, assume_yes=True, clock=self.google.clock)

        return self._command("destroy", act)

    def recover(self) -> Outcome:
        return self._command(
            "recover", lambda say: stacks.recover(STACK, say.append, clock=self.google.clock)
        )

    def extend(self) -> Outcome:
        return self._command(
            "extend", lambda say: stacks.extend(STACK, 2, say.append, clock=self.google.clock)
        )

    def sweep(self) -> Outcome:
        def act(say: list[str]) -> None:
            clusters.sweep(PROJECT, say.append, assume_yes=True, clock=self.google.clock)

        return self._command("sweep", act)

    def _command(
        self, name: str, act: Callable[[list[str]], int | None], folder: Path | None = None
    ) -> Outcome:
        said: list[str] = []
        text, code = "", None
        self.google.calls.clear()
        self.killed, self._frozen, self.overtaken = False, None, False
        self._freezes = folder
        try:
            code = act(said) or 0
        except Killed:
            self._thaw()
            self.killed = False
            self.google.fleet.gate.set()
        except KeyboardInterrupt:
            code, text = int(ExitCode.INTERRUPTED), "Interrupted."
        except UserError as error:
            code, text = int(error.exit_code), str(error)
        outcome = Outcome(name, code, text, said)
        self.outcomes.append(outcome)
        return outcome

    # What goes wrong. It takes effect in the next command, if that comes so far.

    def at_call(self, number: int, act: Callable[[], None], *, after: bool) -> None:
        self.google.happenings.append(Happening(number, after, act))

    def kill(self, victim: str) -> None:
        """Kill `runner`, `cli`, `provider` or `all`, or `interrupt` by Ctrl-C, now."""
        if victim == "all":
            self._die()
        elif victim == "cli":
            self.pulumi.kill_cli()
        elif victim == "provider":
            self.pulumi.kill_provider()
        elif victim == "runner":
            self.pulumi.then_dies = self._die
            if not self.pulumi.interrupt():
                self._die()
        elif victim == "interrupt":
            self.pulumi.then_dies = lambda: None
            try:
                signal.raise_signal(signal.SIGINT)  # a teardown goes on
            except KeyboardInterrupt:
                if not self.pulumi.interrupt():
                    raise

    def refuse(
        self, status: int, count: int, path: str = "", message: str = "", reason: str = ""
    ) -> None:
        self.google.refusals.append(Refusal(status, count, message or "injected", reason, path))

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self.google.calm()
        self.in_measure = None

    def second(self, command: str) -> None:
        """A second process carries out a command while the first waits for an answer of Google."""
        calls, freezes = list(self.google.calls), self._freezes
        happenings, self.google.happenings = self.google.happenings, []
        getattr(self, command)()
        self.google.calls[:], self._freezes = calls, freezes
        self.google.happenings = happenings
        self.overtaken, self._overtaken_at = True, len(calls)

    def pass_time(self, hours: float) -> None:
        """Let time pass; Google carries out what is due."""
        clock = self.google.clock
        until = clock.monotonic() + hours * 3600.0
        self.google.local.clock.tick(clock.date)
        while (left_s := until - clock.monotonic()) > 0:
            clock.sleep(min(left_s, TICK_S))
            self.google.local.clock.tick(clock.date)
        clock.sleep(TICK_S)

    def _die(self) -> None:
        self.killed = True
        if self._freezes is not None and self._freezes.is_dir():
            paths = (path for path in self._freezes.rglob("*") if path.is_file())
            self._frozen = {path: path.read_bytes() for path in paths}
        raise Killed

    def _thaw(self) -> None:
        """Undo what the runner's `finally` wrote after its death."""
        for path, data in (self._frozen or {}).items():
            path.write_bytes(data)

    # What is true.

    @property
    def unseen(self) -> bool:
        later = self.google.calls[self._overtaken_at :]
        asked = any(call.startswith("GET ") and "/clusters" in call for call in later)
        return self.overtaken and not asked

    @property
    def clusters(self) -> list[str]:
        return self.google.clusters

    def recorded_s(self) -> float:
        """For how long the last run's records say that a cluster cost money."""
        seconds, since, until = 0.0, None, None
        for phase in self.runs[-1].phases():
            if phase.cluster_since and phase.cluster_until:
                seconds += (phase.cluster_until - phase.cluster_since).total_seconds()
            if phase.phase is Phase.PROVISION and since and until:
                seconds += (until - since).total_seconds()
            if phase.phase is Phase.PROVISION:
                since = phase.started_at
            until = phase.ended_at if phase.phase is not Phase.PREFLIGHT else until
        return seconds + ((until - since).total_seconds() if since and until else 0.0)

    def valid_cells(self) -> list[tuple[int, str]]:
        """Valid cells of the last run."""
        cells = self.runs[-1].last_cells()
        return sorted((each.trial, each.node) for each in cells if each.status is Status.VALID)


class _Measurement:
    """Pulls that take their time and succeed."""

    nodes = ("node-1", "node-2", "node-3", "node-4")
    versions: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()
    roofs: tuple[RoofRecord, ...] = ()

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt

    def measure(
        self, trials: Iterable[PlannedTrial], may_begin: Callable[[PlannedTrial], None]
    ) -> None:
        world = World.current
        for planned in trials:
            may_begin(planned)
            world.google.clock.sleep(_TRIAL_S)
            record = trial_record(planned.trial, len(self.nodes))
            self._folder.add(record.model_copy(update={"attempt": self._attempt}))
            if world.in_measure:
                act, world.in_measure = world.in_measure, None
                world.google.injected += 1
                act()

    def collect(self, _timeout_s: float) -> bool:
        return True

    def close(self) -> None: ...


def _connect(folder: RunFolder, *_: Any, attempt: int, **__: Any) -> _Measurement:
    return _Measurement(folder, attempt)


def _judge(folder: RunFolder, _record: Any, attempt: int, **_: Any) -> list[CellRecord]:
    cells = [
        cell(trial.trial, pod.node, attempt=attempt)
        for trial in folder.trials()
        if trial.attempt == attempt
        for pod in trial.pods
    ]
    folder.add(*cells)
    return cells


class _Date(datetime):
    """datetime, but now is that of the present world's clock."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return World.current.google.clock.date.astimezone(tz)


class _ProviderTime:
    @staticmethod
    def monotonic() -> float:
        return World.current.google.clock.monotonic()

    @staticmethod
    def sleep(seconds: float) -> None:
        World.current.google.clock.sleep(seconds * _POLLS_PER_S)


class _RunnerSession:
    """The runner's session: it repeats reads as its adapter does."""

    def __init__(self, _credentials: Any) -> None:
        self._retries: Any = None

    def mount(self, _scheme: str, adapter: Any) -> None:
        self._retries = adapter.max_retries

    def request(self, method: str, url: str, **options: Any) -> Any:
        google, retries = World.current.google, self._retries
        for number in range(retries.total + 1):
            answer = google.request(method, url, **options)
            again = method in retries.allowed_methods and answer.status_code in _retried(retries)
            if not again:
                break
            google.clock.sleep(retries.backoff_factor * 2**number)
        return answer

    def close(self) -> None: ...


def _retried(retries: Any) -> set[int]:
    return set(retries.status_forcelist)


class _InOrder:
    """ThreadPoolExecutor without threads."""

    def __init__(self, _threads: int) -> None: ...

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(map)


def prepare(patch: pytest.MonkeyPatch) -> None:
    """Let every client and clock be the present world's."""
    variables = ENDPOINT_VARIABLES | {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "GOOGLE_OAUTH_ACCESS_TOKEN": "rehearsal",
    }
    for name, value in variables.items():
        patch.setenv(name, value)
    patch.setattr("google.auth.default", lambda **_: (None, PROJECT))
    patch.setattr("experiment.provision.google_api.AuthorizedSession", _RunnerSession)
    patch.setattr("experiment.provision.google_api.ThreadPoolExecutor", _InOrder)
    patch.setattr("pulumi.automation.create_or_select_stack", _stack)
    patch.setattr("experiment.provision.pulumi_stack.DetachedCommand", lambda _: None)
    patch.setattr(
        pulumi_process.LockHolder,
        "may_be_alive",
        property(lambda self: self.pid in World.current.pulumi.backend.alive),
    )
    patch.setattr(google_rest.GoogleApi, "_session", lambda _: World.current.google)
    patch.setattr(google_rest, "time", _ProviderTime)
    patch.setattr("rehearsal.pulumi.providers.gcp_iam._LOCKS", defaultdict(contextlib.nullcontext))
    for module in (
        "experiment.waiting",
        "experiment.provision.google_api",
        "experiment.provision.manage.clusters",
        "experiment.provision.manage.stacks",
        "experiment.provision.stack_settings",
        "experiment.plan.cost",
        "rehearsal.google.http",
    ):
        patch.setattr(f"{module}.datetime", _Date)
    patch.setattr(cli_run, "check_run", lambda *_, **__: None)
    patch.setattr(cli_run, "_write_report", lambda *_: None)
    patch.setattr("experiment.run_study.connect", _connect)
    patch.setattr("experiment.run_study.judge", _judge)
    patch.setattr("experiment.run_study.resolve_remover", lambda *_: None)
    patch.setattr(os, "fsync", lambda _: None)
    # In memory where there is such a place: a sequence makes and removes dozens of files.
    patch.setattr(tempfile, "tempdir", str(_MEMORY) if os.access(_MEMORY, os.W_OK) else None)
    # The same answers, ten times as fast.
    patch.setattr(yaml, "safe_load", lambda text: yaml.load(text, yaml.CSafeLoader))


def _stack(stack_name: str, opts: Any, **_: Any) -> FakeStack:
    return FakeStack(World.current.pulumi, stack_name, Path(opts.work_dir))


@contextmanager
def new_world() -> Iterator[World]:
    """A world in which nothing exists."""
    folder = Path(tempfile.mkdtemp(prefix="pull-study-generated-"))
    try:
        yield World(folder)
    finally:
        shutil.rmtree(folder)
