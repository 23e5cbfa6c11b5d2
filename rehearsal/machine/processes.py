"""Starts the rehearsal's processes and ends them: all of them, and nothing else.

Every process is started with a variable that names the folder it works for, and passes it on to
what it starts itself (containerd to its shims, kwokctl to the control plane). The folder is how
a process is found again, also by another program after a `kill -9`: no list of process ids could
be complete, or be safe when an id is reused. A process is signalled through a descriptor that
was opened before its variable was read, so it is never a stranger with the same id.

Containers do not inherit the variable: a node's process namespace ends them (see real_nodes).
"""

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

PART_VARIABLE = "PULL_STUDY_REHEARSAL_PART"
"""Environment of the rehearsal's own processes: the folder that they work for."""

_PROC = Path("/proc")
_GONE_S = 5.0
_EXEC_S = 1.0
_KERNEL_THREAD = 0x00200000
"""Flag PF_KTHREAD of include/linux/sched.h."""
_LOWEST_PORT = 10_000
_random = random.SystemRandom()  # two processes must not try the same ports in the same order


T = TypeVar("T")


class StillRunningError(Exception):
    """A process is still running although it was killed."""


def poll(condition: Callable[[], T], timeout_s: float, pause_s: float = 0.05) -> T:
    """Call a condition until it returns something true or the time is over; return that value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(pause_s)
    return value


def start(
    arguments: Sequence[str | Path],
    part: Path,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process for a folder, out of reach of the terminal's Ctrl-C.

    The log gets what it prints; with `output` (subprocess.PIPE), only what it prints to stderr.
    Without a log both outputs are pipes.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else subprocess.PIPE
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=errors if output is None else output,
            stderr=errors,
            env={**environment, PART_VARIABLE: str(part)},
            cwd="/",
            start_new_session=True,
        )


def first_line(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Read the first line of a piped output; kill the process if it prints none in time."""
    if process.stdout is None:
        raise ValueError("the output is no pipe")
    limit = threading.Timer(timeout_s, process.kill)
    limit.start()
    try:
        return process.stdout.readline().decode(errors="replace")
    finally:
        limit.cancel()


def running(part: Path) -> list[int]:
    """Return the ids of processes that work for a folder or one below; never this process."""
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _works_for(entry.name, part)
    ]


def stop(part: Path) -> None:
    """Kill the processes that work for a folder or one below, and wait until they ended.

    Raises StillRunningError after 5 s.
    """
    pids: list[int] = []

    def have_ended() -> bool:
        nonlocal pids
        pids = running(part)
        for pid in pids:
            send(pid, part, signal.SIGKILL)
        return not pids

    if not poll(have_ended, _GONE_S, 0.02):
        raise StillRunningError(f"processes {pids} of {part} did not end")


def send(pid: int, part: Path, number: signal.Signals) -> bool:
    """Signal a process if it works for a folder or one below; return whether."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not _works_for(str(pid), part):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
        return True
    finally:
        os.close(descriptor)


def started(pid: int) -> int | None:
    """Return when a process started, in kernel ticks: with its id, that is unique."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(") ")[2]
    except OSError:
        return None
    state, start = fields.split()[0], fields.split()[19]  # proc(5): fields 3 and 22
    return None if state in "ZX" else int(start)


def free_ports(count: int) -> list[int]:
    """Return unused ports of 127.0.0.1, reserved until this process ends.

    They are below the kernel's ephemeral range, since a port of that range can become the local end
    of any connection before its program listens. Rehearsals reserve a port by an abstract socket of
    its number, which ends with the process.
    """
    candidates = _random.sample(range(_LOWEST_PORT, _first_of_kernel()), k=50 + 20 * count)
    found: list[int] = []
    for port in candidates:
        if holder := hold(f"pull-study-port-{port}"):
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
                holder.detach()  # stays open until this process ends
            holder.close()
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports among {len(candidates)}")


def hold(name: str) -> socket.socket | None:
    """Bind the abstract socket of a name; None if another process of this machine has it."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0{name}")  # without a file, closed with the process
    except OSError:
        holder.close()
        return None
    return holder


def _first_of_kernel() -> int:
    settings = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(settings.read_text("ascii").split()[0]) if settings.exists() else 32768
    return max(first, _LOWEST_PORT + 10_000)


def log_tail(log: Path, lines: int = 3) -> str:
    """Return the end of a log on one line, for an error message."""
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in text[-lines:] if line.strip()) or "(empty log)"
    return "(no log)"


def _works_for(pid: str, part: Path) -> bool:
    return any(value == part or part in value.parents for value in _part_of(pid))


def _part_of(pid: str) -> Iterator[Path]:
    prefix = f"{PART_VARIABLE}=".encode()
    with suppress(OSError):  # it ended, or is another user's
        for variable in _environment(pid).split(b"\0"):
            if variable.startswith(prefix):
                yield Path(os.fsdecode(variable.removeprefix(prefix)))


def _environment(pid: str) -> bytes:
    """Read the environment of a process; it has none in the midst of an exec, so wait for its end.

    Popen returns in that midst: a process just started would be overlooked.
    """
    environ = _PROC / pid / "environ"
    poll(lambda: environ.read_bytes() or not _is_in_exec(pid), _EXEC_S, 0.001)
    return environ.read_bytes()


def _is_in_exec(pid: str) -> bool:
    """Whether the kernel has replaced a process's memory, and not yet filled the new one."""
    stat = (_PROC / pid / "stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(") ")[2].split()  # proc(5): state, flags and env_end: 3, 9 and 51
    state, flags, env_end = fields[0], int(fields[6]), fields[48]
    return state not in "ZX" and not flags & _KERNEL_THREAD and env_end == "0"
