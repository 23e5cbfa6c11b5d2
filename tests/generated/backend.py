"""One machine's Pulumi: backend, locks, and the CLI's processes, which a test kills."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pulumi import automation
from pulumi.automation.errors import create_command_error

from rehearsal.google.environment import PROJECT
from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.protocol import ProviderError, Session
from tests.generated.google import Google, Killed
from tests.generated.inside import Inside

Json = dict[str, Any]
OnEvent = Callable[[Any], None]
_HOST = "a-machine"
_EOF = "error reading from server: EOF"


def event(**parts: Any) -> Any:
    """An EngineEvent with these parts."""
    empty = {"resource_pre_event": None, "res_outputs_event": None, "diagnostic_event": None}
    return SimpleNamespace(**(empty | parts))


def is_cloud(resource_type: str) -> bool:
    return resource_type.startswith(("gcp:", "kubernetes:"))


@dataclass
class Backend:
    """A backend of files: states and locks by stack.

    Attributes:
        resources: entries of the state.
        pending: operations that were begun.
        exports: of the last update.
        holder: pid of the CLI that holds the lock; 0 for none.
        alive: pids of the CLIs that run.
    """

    resources: list[Json] = field(default_factory=list)
    pending: list[Json] = field(default_factory=list)
    exports: Json = field(default_factory=dict)
    holder: int = 0
    alive: set[int] = field(default_factory=set)
    pids: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def seed(self) -> bytes:
        """Return another one each time."""
        return str(next(self.pids)).encode()


@dataclass
class Cli:
    """One command of the CLI while it runs.

    Attributes:
        pid: its process.
        dead: it was killed: nothing is written any more, while its providers end their work.
        stopping: it was interrupted, or its program's process ended: it begins nothing more.
        deaf: its provider was killed.
        errors: what failed, as the engine prints it.
    """

    pid: int
    dead: bool = False
    stopping: bool = False
    deaf: bool = False
    errors: list[str] = field(default_factory=list)

    @property
    def begins(self) -> bool:
        return not (self.dead or self.stopping or self.errors)

    def reach(self) -> None:
        """Reach the provider.

        Raises:
            ProviderError: it was killed.
        """
        if self.deaf:
            raise ProviderError("connection refused: the provider is gone")

    def fail(self, error: ProviderError, on_event: OnEvent) -> None:
        """Note and print what a provider refused."""
        self.errors.append(str(error))
        on_event(event(diagnostic_event=SimpleNamespace(severity="error", message=str(error))))


class Pulumi:
    """CLI, backend and providers of one stack on one machine."""

    def __init__(self, google: Google) -> None:
        self.google = google
        self.backend = Backend()
        self.running: list[Cli] = []
        """The commands that run; a second runner's comes after the first's."""
        self.then_dies: Callable[[], None] = lambda: None
        """Called when an engine has stopped because its program's process was killed."""
        self._google_session = GcpProvider().configure({"project": PROJECT})
        self._inside = Inside(google)

    def session(self, resource_type: str) -> Session:
        return self._google_session if resource_type.startswith("gcp:") else self._inside

    # What a test does to the processes. Each returns whether there was such a process.

    def kill_cli(self) -> bool:
        for cli in self.running[-1:]:
            cli.dead = True
        return bool(self.running)

    def kill_provider(self) -> bool:
        for cli in self.running[-1:]:
            cli.deaf = True
            raise ProviderError(_EOF)
        return False

    def interrupt(self) -> bool:
        for cli in self.running[-1:]:
            cli.stopping = True
        return bool(self.running)

    @contextmanager
    def cli(self, *, locks: bool = True) -> Iterator[Cli]:
        """Run a command of the CLI; give back the lock unless it is killed."""
        backend = self.backend
        cli = Cli(next(backend.pids))
        if locks and backend.holder:
            raise _failed(
                "error: the stack is currently locked by 1 lock(s). Either wait for the other "
                "process(es) to end or delete the lock file with `pulumi cancel`.\n"
                f"  file:///state/.pulumi/locks/x.json: created by root@{_HOST} "
                f"(pid {backend.holder}) at 2026-11-27T00:00:00Z"
            )
        if locks:
            backend.holder = cli.pid
        backend.alive.add(cli.pid)
        self.running.append(cli)
        try:
            yield cli
        except Killed:
            backend.alive.discard(cli.pid)
            raise
        finally:
            self.running.remove(cli)
        backend.alive.discard(cli.pid)
        if cli.dead:
            raise _failed("error: the Pulumi CLI was killed by signal 9")
        if locks:
            backend.holder = 0
        if cli.stopping:
            self.then_dies()
            raise KeyboardInterrupt
        if cli.errors:
            raise _failed(*(f"error: {each}" for each in cli.errors), "error: update failed")

    def save(self, cli: Cli, change: Callable[[Backend], None]) -> None:
        """Change the state on disk, unless the CLI is dead."""
        if self.google.dead():
            raise Killed
        if not cli.dead:
            change(self.backend)


def _failed(*lines: str) -> automation.CommandError:
    result = automation.CommandResult(stdout="", stderr="\n".join(lines), code=255)
    return create_command_error(result)
