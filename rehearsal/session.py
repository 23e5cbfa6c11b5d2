"""A rehearsal as a block of code, whose environment points every program to a local Google.

    with session(scale=0.01): ...
    with session(nodes="simulated", speed=20): ...

The server behind it (rehearsal.server) is a separate process, so it survives the session when
clusters are to be kept, or when the session is killed; the next session then takes it over. This
module is light to import, since every run imports it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

from rehearsal.faults.faults import injected_file, parse_faults, refuse_simulated
from rehearsal.machine import processes, requirements
from rehearsal.machine.home import (
    Home,
    RehearsalError,
    default_home,
    end,
    is_locked,
    read_json,
    write_json,
)
from rehearsal.machine.options import DEFAULT_SCALE, Options
from rehearsal.simulated_nodes.clock import warnings
from schema.inert import visible
from schema.names import REHEARSAL_VARIABLE
from schema.project_files import IS_CHECKOUT
from tools.programs import cache_root

_START_S = 60.0
_DOWN = "pull-study-rehearsal down"


@contextmanager
def session(
    scale: float | None = None,
    *,
    keep: bool = False,
    nodes: str = "real",
    speed: float = 1.0,
    rate_limits: bool = True,
    faults: Sequence[str] = (),
    node_count: int | None = None,
) -> Iterator[Mapping[str, str]]:
    """Run a block against a local Google; give the variables, which are set in os.environ.

    Inside another session this one joins it, and leaves it running at the end, as it does with one
    that was kept. One whose session was killed is taken over and ended. SIGTERM ends the block as
    Ctrl-C does. `scale` None is the default of the kind of nodes; `node_count` is the number of
    measured nodes of the largest cluster, if known. Raises RehearsalError if it cannot start here
    or another is running, and FaultError for unknown faults.
    """
    if scale is None:
        scale = DEFAULT_SCALE[nodes]
    injected = parse_faults(faults)
    texts = tuple(fault.text for fault in injected)
    home, requested = default_home(), Options(scale, nodes, speed, rate_limits, texts)
    _refuse_nonsense(requested)
    if nodes == "real":
        refuse_simulated(injected)
    with _interrupted_by_sigterm():
        server, process = _running(home, requested), None
        if obstacle := requirements.too_many(nodes, node_count):
            raise RehearsalError(obstacle.problem, obstacle.fix)
        owned = server is None or not (_is_inside() or _is_kept(home))
        if server is None:
            server, process = _start(home, requested)
        if owned:
            write_json(
                home.owner_file, {"pid": os.getpid(), "started": processes.started(os.getpid())}
            )
        try:
            with _variables(home, server["environment"]) as variables:
                yield variables
        except Exception:
            _keep_log(home)
            raise
        finally:
            if owned:
                _finish(home, process, keep=keep)


@contextmanager
def signal_handler(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Temporarily install a signal handler (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _running(home: Home, requested: Options) -> dict[str, Any] | None:
    """Return what is known of the server to join; None where one must be started."""
    server = read_json(home.server_file) if is_locked(home) else None
    if server is None:
        if _is_inside():
            raise RehearsalError(
                f"This shell belongs to a rehearsal in {home.folder} that has ended.",
                "leave the shell, then start again",
            )
        return None
    owner = read_json(home.owner_file) or {}
    if not _is_inside() and owner.get("pid") and _lives(owner):
        raise RehearsalError(
            f"Process {owner['pid']} runs a rehearsal in {home.folder}, and a folder holds one "
            "at a time.",
            f"wait for it, or {_DOWN}, or set PULL_STUDY_REHEARSAL_HOME to another folder",
        )
    if server["options"] != str(replace(requested, faults=())):
        raise RehearsalError(
            f"The rehearsal that runs in {home.folder} has {server['options']}, not {requested}.",
            f"use the same options, or {_DOWN} first",
        )
    if requested.faults and list(requested.faults) != server["faults"]:
        raise RehearsalError(
            f"The rehearsal that runs in {home.folder} has other faults "
            f"({' '.join(server['faults']) or 'none'}), and accepts no more after its start.",
            f"leave --fault out, or {_DOWN} first",
        )
    return server


def _refuse_nonsense(requested: Options) -> None:
    if not requested.speed > 0:
        raise RehearsalError(f"The speed {requested.speed:g} is not above 0.", "--speed 20")
    if requested.nodes == "real" and requested.speed != 1:
        raise RehearsalError(
            "--speed needs --nodes simulated: real nodes run in real time.",
            "--nodes simulated, or leave --speed out",
        )


def _start(home: Home, requested: Options) -> tuple[dict[str, Any], "subprocess.Popen[bytes]"]:
    start = time.monotonic()
    for obstacle in requirements.obstacles(home.folder) if requested.nodes == "real" else ():
        raise RehearsalError(obstacle.problem, obstacle.fix)
    injected_file(home.folder).unlink(missing_ok=True)
    command = [sys.executable, "-m", "rehearsal.server", "--home", str(home.folder)]
    command += ["--options", requested.to_json()]
    process = processes.start(command, home.folder)
    try:
        _expect_ready(process)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    server = read_json(home.server_file)
    if server is None:
        raise RehearsalError(f"The rehearsal in {home.folder} ended at once.", f"see {home.log}")
    _say(f"local Google ready in {time.monotonic() - start:.1f} s; its log is {home.log}")
    return server, process


def _expect_ready(process: "subprocess.Popen[bytes]") -> None:
    """Read the server's line, or raise with its error."""
    assert process.stdout  # noqa: S101 - a pipe
    assert process.stderr  # noqa: S101
    with process.stdout, process.stderr as errors:
        answer = json.loads(processes.first_line(process, _START_S) or "{}")
        if "ready" in answer:
            return
        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    if module := "".join(last).partition("ModuleNotFoundError: No module named ")[2]:
        raise RehearsalError(
            f"A rehearsal needs the Python package {module}, which is not installed.",
            "make setup" if IS_CHECKOUT else "pip install 'pull-study[rehearsal]'",
        )
    raise RehearsalError(
        answer.get("problem") or f"The rehearsal's server did not start: {''.join(last)}.",
        answer.get("fix", "pull-study-rehearsal doctor"),
    )


def _finish(home: Home, process: "subprocess.Popen[bytes] | None", *, keep: bool) -> None:
    """End the server, unless it is to be kept; it is a child of the session that started it."""
    if keep and is_locked(home) and any(home.clusters.glob("*")):
        write_json(home.owner_file, {"kept": True})
        _say(f"left running in {home.folder}; {_DOWN} ends it")
        return
    for line in warnings(home.folder):
        _say(f"WARNING: {line}")
    start = time.monotonic()
    # a second Ctrl-C must not interrupt it
    with (
        signal_handler(signal.SIGINT, signal.SIG_IGN),
        signal_handler(signal.SIGTERM, signal.SIG_IGN),
    ):
        end(home)
        if process:
            process.wait()
    _say(f"ended in {time.monotonic() - start:.1f} s")
    if injected_file(home.folder).exists():
        _say(f"the faults that were injected are in {injected_file(home.folder)}")


def _keep_log(home: Home) -> None:
    """Copy the log out of a home that is about to be removed, to debug a failure."""
    copy = cache_root() / "last-failed-rehearsal.log"
    with suppress(OSError):
        shutil.copyfile(home.log, copy)
        _say(f"the local Google's log is kept in {copy}")


@contextmanager
def _variables(home: Home, variables: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Set the variables in os.environ, and put the rehearsal's programs first on PATH."""
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    own = str(home.programs)
    path = os.pathsep.join([own, *(each for each in paths if each != own)])
    added = {**variables, "PATH": path}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield added
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield  # the program has its own handler
        return
    with signal_handler(signal.SIGTERM, _interrupt):
        yield


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _is_inside() -> bool:
    return REHEARSAL_VARIABLE in os.environ


def _is_kept(home: Home) -> bool:
    return bool((read_json(home.owner_file) or {}).get("kept"))


def _lives(owner: Mapping[str, Any]) -> bool:
    return processes.started(int(owner["pid"])) == owner.get("started")


def _say(line: str) -> None:
    sys.stderr.write(f"rehearsal: {visible(line)}\n")
    sys.stderr.flush()
