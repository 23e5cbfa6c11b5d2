"""Runs the Pulumi CLI in its own session; cleans up after one that was killed.

Ctrl-C in a terminal goes to every process of the foreground group. The CLI takes a second one as
an order to stop at once, which leaves a cluster that is in no state. So it runs in its own session:
the first interruption is forwarded once, which stops it after the operations in progress, and the
runner waits for its end.
"""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pulumi import automation
from pulumi.automation.errors import create_command_error

from experiment.interrupts import interrupts_wait

Hear = Callable[[str], None] | None

_LONGEST_S = 3 * 3600.0
"""For one command. The official provider waits 40 minutes for a cluster and 30 for a pool, so a
command that takes longer waits for something that does not end."""
_STOP_S = 600.0
_FILES = "file://"
_PROC = Path("/proc/self").parent
_DEAD = ("Z", "X")
"""States of a process that has ended (proc(5))."""
_LOCKED_BY = re.compile(r"created by \S+?@(?P<host>\S+) \(pid (?P<pid>\d+)\)")


class DetachedCommand(automation.PulumiCommand):
    """The CLI on PATH, in its own session.

    Args:
        ask_to_wait: called when the user interrupts again while the CLI is stopping.

    Raises:
        FileNotFoundError: there is none on PATH.
    """

    def __init__(self, ask_to_wait: Callable[[], None]) -> None:
        super().__init__()
        self._ask_to_wait = ask_to_wait

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Hear = None,
        on_error: Hear = None,
    ) -> automation.CommandResult:
        """Run a command non-interactively and wait for its end.

        Raises:
            automation.CommandError: it failed, or did not end within three hours.
            KeyboardInterrupt: the user interrupted; the command has ended.
        """
        process = subprocess.Popen(
            [self.command, "--non-interactive", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"},
            encoding="utf-8",
            start_new_session=True,
        )
        out, err = _Reader(process.stdout, on_output), _Reader(process.stderr, on_error)
        note = ""
        try:
            if not _have_ended((out, err), _LONGEST_S):
                note = f"\nerror: the Pulumi CLI timed out after {_LONGEST_S / 3600:g} hours"
                _stop(process, (out, err))
        except KeyboardInterrupt:
            with interrupts_wait(self._ask_to_wait):
                _stop(process, (out, err), _LONGEST_S)
            raise
        code = process.wait()
        if code < 0 and not note:
            note = f"\nerror: the Pulumi CLI was killed by signal {-code}"
        result = automation.CommandResult(stdout=out.text, stderr=err.text + note, code=code)
        if code != 0:
            raise create_command_error(result)
        return result


def _have_ended(readers: Iterable["_Reader"], timeout_s: float) -> bool:
    """Wait until a process has closed its output; return whether it has."""
    end = time.monotonic() + timeout_s
    for reader in readers:
        reader.join(max(0.0, end - time.monotonic()))
    return not any(reader.is_alive() for reader in readers)


def _stop(
    process: subprocess.Popen[str], readers: Iterable["_Reader"], timeout_s: float | None = None
) -> None:
    """Let the CLI stop after its operations in progress; kill it and its plugins at the timeout."""
    process.send_signal(signal.SIGINT)
    if not _have_ended(readers, _STOP_S if timeout_s is None else timeout_s):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _have_ended(readers, _STOP_S)
    process.wait()


class _Reader(threading.Thread):
    """Reads the output of a process until it ends."""

    def __init__(self, stream: IO[str] | None, hear: Hear) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._hear = hear
        self._lines: list[str] = []
        self.start()

    @property
    def text(self) -> str:
        """All lines so far."""
        return "\n".join(self._lines)

    def run(self) -> None:
        """Read line by line."""
        if self._stream is None:
            return
        with self._stream as stream:
            for line in stream:
                self._lines.append(line.rstrip())
                if self._hear:
                    self._hear(self._lines[-1])


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds a lock of a stack."""

    host: str
    pid: int

    @property
    def may_be_alive(self) -> bool:
        """It is on another machine, or alive on this one."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _is_pulumi(self.pid)


def _is_pulumi(pid: int) -> bool:
    """Whether a pid is a running Pulumi, not a zombie and not reused; True without /proc."""
    if not _PROC.is_dir():
        return True
    try:
        name, _, rest = (_PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    return name.startswith("pulumi") and rest.split()[0] not in _DEAD


def lock_holders(message: str) -> list[LockHolder]:
    """Return the lock holders named in an error of the CLI; empty if the backend names none."""
    return [LockHolder(found["host"], int(found["pid"])) for found in _LOCKED_BY.finditer(message)]


def repair_state_files(backend: str) -> list[Path]:
    """Remove the half-written files that a killed CLI left in a backend of files.

    The states themselves are replaced atomically, but each has a file NAME.attrs with its content
    type that is not: truncated it makes the state unreadable, while a missing one does no harm
    (gocloud.dev/blob/fileblob).

    Args:
        backend: the backend's URL; only file:// is repaired.

    Returns:
        The removed files.
    """
    if not backend.startswith(_FILES):
        return []
    folder = Path(backend.removeprefix(_FILES).partition("?")[0]).expanduser() / ".pulumi"
    broken = [path for path in folder.rglob("*.attrs") if not _is_json(path)]
    for path in broken:
        path.unlink(missing_ok=True)
    return broken


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except OSError:
        return True
    except ValueError:
        return False
    return True
