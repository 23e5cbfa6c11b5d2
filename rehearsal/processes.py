"""Starts the rehearsal's processes and ends them: all of them, and nothing else.

Every process is started with a variable that names the folder it works for, and hands it on to
what it starts itself (containerd to its shims, kwokctl to the control plane). The folder is how
a process is found again, also by another program after a `kill -9`: no list of process ids could
be complete, or be safe when an id is used anew. A process is signalled through a descriptor that
was opened before its variable was read, so it is never a stranger with the same id.

Containers do not inherit the variable: a node's process namespace ends them (see real_nodes).
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PART_VARIABLE = "PULL_STUDY_REHEARSAL_PART"
"""Environment of the rehearsal's own processes: the folder that they work for."""

_GONE_S = 5.0


class StillRunningError(Exception):
    """A process did not end although it was killed."""


def start(
    arguments: Sequence[str | Path],
    part: Path,
    *,
    log: Path,
    extra: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process for a folder, out of reach of the terminal's Ctrl-C.

    Args:
        arguments: the program and its arguments.
        part: the folder that it works for; `stop` of that folder, or of one above, ends it.
        log: gets all that it prints.
        extra: variables beside those of this process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(extra or {}), PART_VARIABLE: str(part)},
            cwd="/",
            start_new_session=True,
        )


def start_piped(
    arguments: Sequence[str | Path], part: Path, *, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process for a folder, with both of its outputs as pipes and no other variables."""
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, PART_VARIABLE: str(part)},
        cwd="/",
        start_new_session=True,
    )


def running(part: Path) -> list[int]:
    """Ids of the processes that work for a folder or one below; never this process."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _works_for(entry.name, part)
    ]


def stop(part: Path, *, spare: frozenset[int] = frozenset()) -> None:
    """Kill the processes that work for a folder or one below, and wait until they are gone.

    Args:
        part: the folder.
        spare: ids to leave alone.

    Raises:
        StillRunningError: one is there after 5 s.
    """
    deadline = time.monotonic() + _GONE_S
    while pids := [pid for pid in running(part) if pid not in spare]:
        if time.monotonic() > deadline:
            raise StillRunningError(f"processes {pids} of {part} did not end")
        for pid in pids:
            _kill(pid, part)
        time.sleep(0.02)


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log on one line, for an error's sentence."""
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return (
            " | ".join(line.strip() for line in text[-lines:] if line.strip()) or "it said nothing"
        )
    return "it left no log"


def _works_for(pid: str, part: Path) -> bool:
    return any(value == part or part in value.parents for value in _part_of(pid))


def _part_of(pid: str) -> Iterator[Path]:
    prefix = f"{PART_VARIABLE}=".encode()
    with suppress(OSError):  # it ended, or is another user's
        for variable in Path("/proc", pid, "environ").read_bytes().split(b"\0"):
            if variable.startswith(prefix):
                yield Path(os.fsdecode(variable.removeprefix(prefix)))


def _kill(pid: int, part: Path) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _works_for(str(pid), part):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
