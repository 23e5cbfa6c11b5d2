"""Where a live test runs the programs as a user does: a folder, a home, processes, waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from experiment.run_folder import RunFolder
from rehearsal.machine import processes, requirements
from rehearsal.machine.home import HOME_VARIABLE, Home, end
from rehearsal.session import session
from schema.names import REHEARSAL_VARIABLE
from tests.live.footprint import Footprint, footprint, processes_of
from tests.until import until

ROOT = Path(__file__).parents[2]
STACK_FILES = {path: path.read_bytes() for path in ROOT.glob("Pulumi*.yaml")}
LONGEST_S = 400.0
FAST = ("--nodes", "simulated", "--speed", "20")

_OBSTACLES = requirements.obstacles(Path("/var/lib"))
needs_real_nodes = pytest.mark.skipif(
    bool(_OBSTACLES), reason=" ".join(each.problem for each in _OBSTACLES)
)


def expect_same(before: Footprint, home: Path) -> None:
    """Fail on anything new; the kernel removes the links of a namespace a moment later."""
    until(lambda: footprint(home) <= before, 3, "what a rehearsal left goes away")


@dataclass(frozen=True)
class Place:
    """A folder to run in, with a rehearsal's home of its own."""

    folder: Path
    home: Home
    before: Footprint
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the session that is running, if any."""

    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k != REHEARSAL_VARIABLE}
        return {**inherited, HOME_VARIABLE: str(self.home.folder), **self.variables}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Give this process the same environment for a while."""
        before, inside = dict(os.environ), self.environment()
        os.environ.clear()
        os.environ.update(inside)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @contextmanager
    def session(self, **options: Any) -> Iterator[Place]:
        """Rehearse until the block ends; only what runs in the yielded place joins."""
        with self.entered():
            running = session(**options)
            variables = dict(running.__enter__())
        try:
            yield replace(self, variables=variables)
        finally:
            with self.entered():
                running.__exit__(None, None, None)

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, module: str, *arguments: str) -> tuple[int, str]:
        """Return exit code and output."""
        with self.start(module, *arguments) as process:
            try:
                output, _ = process.communicate(timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert "Traceback" not in output, output
        return process.returncode, output

    def succeed(self, module: str, *arguments: str) -> str:
        code, output = self.run(module, *arguments)
        assert code == 0, output
        return output

    def record(self, run_id: str) -> RunFolder:
        return RunFolder(self.folder / "data" / "runs" / run_id)

    def begin(self, *arguments: str, run_id: str, trials: int) -> subprocess.Popen[str]:
        """Start a run; return its process once this many trials are recorded."""
        process = self.start("experiment", "run", *arguments, "--run-id", run_id)

        def reached() -> bool:
            assert process.poll() is None, process.communicate()[0]
            return len(self.record(run_id).trials()) >= trials

        until(reached, LONGEST_S, f"{trials} trials")
        return process

    @property
    def google(self) -> str:
        """Base URL of the local Google."""
        return self.variables["GOOGLE_STORAGE_CUSTOM_ENDPOINT"].removesuffix("/storage/v1/")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        login = {"Authorization": f"Bearer {self.variables['GOOGLE_OAUTH_ACCESS_TOKEN']}"}
        answer = requests.request(
            method, f"{self.google}/{path}", json=body, headers=login, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json()

    def clusters(self) -> list[str]:
        """Names of those that the local Google lists."""
        project = self.variables["GOOGLE_CLOUD_PROJECT"]
        path = f"container/v1beta1/projects/{project}/locations/-/clusters"
        return [cluster["name"] for cluster in self.call("GET", path).get("clusters", [])]

    def expect_nothing_left(self) -> None:
        assert not self.home.folder.exists()
        assert processes.running(self.home.folder) == []
        assert processes_of(self.home.folder) == []
        expect_same(self.before, self.home.folder)


@contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    """A place whose rehearsal, if it left one, is removed at the end."""
    home = Home(folder / "home")
    try:
        yield Place(folder, home, footprint(home.folder))
    finally:
        end(home)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Living child processes."""
    found: list[int] = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def await_exit(pid: int) -> None:
    """Wait for a process that is not a child."""
    until(lambda: not _lives(pid), 20, f"process {pid} ends", every_s=0.05)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
