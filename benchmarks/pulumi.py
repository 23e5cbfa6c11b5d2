"""The Pulumi program's own time: previews of every stack, and an `up` that finds nothing to do.

By the real engine and the fake providers, which answer at once where Google would not:
a warm `up` calls neither, so nothing of a cloud's time is in it. The literal command pays for
loading the SDKs (`infra.program` imported by a fresh interpreter, measured by itself), the runner
does once a run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import Figure
from rehearsal.machine.programs import write_pulumi
from rehearsal.pulumi.fake_providers import provider_variables
from tests.infra.engine import running_engine
from tools.programs import locate

_ROOT = Path(__file__).parent.parent
_STACK = "size-4"
_LONGEST_S = 600
_TIMES = 5


def measure() -> list[Figure]:
    """Previews, then a warm `up` by the Automation API and by the literal command."""
    alone = _previews()
    against = _previews("--against", "HEAD")
    inline, literal = _warm_ups()
    imports = _best(lambda: _run([sys.executable, "-c", "import infra.program"], {}))
    return [
        Figure("previews of all stacks", alone, "s", "at most 60 s on 2 cores"),
        Figure("the same against another revision", against, "s", "at most 60 s on 2 cores"),
        Figure("warm `up`, as the runner does it", inline, "s", "at most 3 s"),
        Figure("warm `pulumi up`, the literal command", literal, "s", "at most 3 s"),
        Figure("loading the program and its SDKs, part of the line above", imports, "s"),
    ]


def _previews(*arguments: str) -> float:
    command = [sys.executable, "-m", "experiment", "preview", "--all", *arguments]
    with provider_variables() as variables:
        return _run(command, variables)


def _warm_ups() -> tuple[float, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        running_engine(Path(folder), patch) as engine,
    ):
        engine.up(_STACK)
        stack = engine.stack(_STACK)
        inline = _best(lambda: _timed(stack.up))
        with _literal(Path(folder)) as project:
            command = ["pulumi", "up", "--yes", "--stack", _STACK, "--expect-no-changes"]
            literal = _best(lambda: _run(command, {}, project))
        engine.destroy(_STACK)
    return inline, literal


@contextmanager
def _literal(folder: Path) -> Iterator[Path]:
    """A project folder, and on PATH a CLI with a language host beside it."""
    programs, project, path = folder / "programs", folder / "project", os.environ["PATH"]
    programs.mkdir()
    write_pulumi(programs)
    shutil.copytree(_ROOT / "infra", project / "infra")
    for file in _ROOT.glob("Pulumi*.yaml"):
        shutil.copy2(file, project / file.name)
    os.environ["PATH"] = os.pathsep.join([str(programs), str(locate("pulumi").path.parent), path])
    try:
        yield project
    finally:
        os.environ["PATH"] = path


def _run(command: list[str], variables: Mapping[str, str], folder: Path = _ROOT) -> float:
    def run() -> None:
        subprocess.run(
            command, cwd=folder, env={**os.environ, **variables}, check=True, timeout=_LONGEST_S,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return _timed(run)


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _best(work: Callable[[], float]) -> float:
    """The shortest of some times: what the program takes where nobody else wants the processor."""
    return min(work() for _ in range(_TIMES))
