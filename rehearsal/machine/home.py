"""The folder that holds all of a rehearsal: its files, its owner, and how it is ended and removed.

One session at a time uses a home. The server that runs a session holds a lock on the folder
itself, which ends with the process and leaves no file. A folder that is not a rehearsal's is
never used, since a home is emptied without asking.

Everything that a rehearsal leaves on the machine carries the home's name: processes by a variable
of their environment, mounts by their path, cgroups by a name made of the home's path, files by
being in the folder. What has no such mark is not touched. The registry's storage is a cache
elsewhere and stays.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.machine import cgroups, processes
from schema.errors import ExitCode, UserError

HOME_VARIABLE = "PULL_STUDY_REHEARSAL_HOME"
"""Environment: the folder of the rehearsal, instead of the default."""

_PRIVATE = 0o700
_LOCK_S = 0.3
"""Longer than `is_locked` holds its own lock; a server holds it for its life."""


class RehearsalError(UserError):
    """A rehearsal cannot start or be used."""

    exit_code = ExitCode.PREFLIGHT


class _In:
    """A path in the home's folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, home: "Home", _: type) -> Path:
        return home.folder / self._name


@dataclass(frozen=True)
class Home:
    """A rehearsal's folder."""

    folder: Path

    clusters = _In("clusters")
    server_file = _In("server.json")
    """What sessions read about the server (rehearsal.server); written once it is ready."""
    owner_file = _In("owner.json")
    """Which session ends the server, if any."""
    log = _In("rehearsal.log")
    registries_conf = _In("registries.conf")
    """containers-registries.conf(5) for skopeo."""
    spans = _In("spans.jsonl")
    """Of the real nodes' containerds (rehearsal.real_nodes.spans)."""
    token_secret = _In("token.secret")
    """What every token of this home begins with (rehearsal.machine.tokens)."""
    programs = _In("bin")
    """Programs to put first on PATH."""
    mark = _In(".pull-study-rehearsal")
    """The file by which a rehearsal's folder is recognized."""

    @property
    def control_group(self) -> str:
        """The cgroup of all containers of this home, unlike any other home's."""
        return f"pull-study-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"


_CHECKOUT = Path(__file__).parents[2]


def default_home() -> Home:
    """Return the home that the environment names, else one for this checkout.

    So that two checkouts on one machine rehearse side by side, and `down` ends only its own.
    """
    named = os.environ.get(HOME_VARIABLE, "")
    if named:
        return Home(Path(named).absolute())
    own = hashlib.sha256(str(_CHECKOUT).encode()).hexdigest()[:8]
    if os.geteuid() == 0:
        return Home(Path("/var/lib/pull-study") / own)
    state = os.environ.get("XDG_STATE_HOME", "")
    return Home((Path(state) if state else Path.home() / ".local/state") / "pull-study" / own)


def prepare(home: Home) -> None:
    """Create the folder, or accept one that a rehearsal created."""
    try:
        home.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(home, error) from error
    os.close(_open(home))
    try:
        has_other_files = not home.mark.exists() and any(home.folder.iterdir())
    except OSError as error:
        raise _unusable(home, error) from error
    if has_other_files:
        raise RehearsalError(
            f"The folder {home.folder} holds files that no rehearsal made, and a rehearsal would "
            "delete them.",
            f"set {HOME_VARIABLE} to a folder that does not exist yet",
        )
    home.mark.touch()


def lock(home: Home) -> int | None:
    """Lock the home for this process; return the descriptor to close, None if it is locked."""
    return processes.poll(lambda: _try_lock(home), _LOCK_S, 0.02)


def _try_lock(home: Home) -> int | None:
    prepare(home)
    descriptor = _open(home)
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, home.folder):  # else its owner removed the folder meanwhile
            return descriptor
    os.close(descriptor)
    return None


def is_locked(home: Home) -> bool:
    """Whether a live server has this home."""
    if not home.folder.is_dir():
        return False
    descriptor = _open(home)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON atomically, mode 0600."""
    scratch = path.with_suffix(".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
    scratch.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read what `write_json` wrote; None if there is nothing valid."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return data if isinstance(data, dict) else None


def _open(home: Home) -> int:
    """Open the folder, which only this user may write: its programs are run."""
    try:
        _refuse_others(home)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(home.folder, flags)
    except OSError as error:
        raise _unusable(home, error) from error
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != _PRIVATE:
        os.fchmod(descriptor, _PRIVATE)
    return descriptor


def _refuse_others(home: Home) -> None:
    """Raise RehearsalError if another user could put files into the home, or replace it."""
    if home.folder.is_symlink():
        raise _unsafe(home, home.folder, "is a link")
    folder = Path(os.path.realpath(home.folder.parent), home.folder.name)
    for each in (folder, *folder.parents):
        found = each.stat()
        if found.st_uid not in ({os.geteuid()} if each == folder else {os.geteuid(), 0}):
            raise _unsafe(home, each, f"belongs to user {found.st_uid}")
        # a group of the user's own has the same number as the user
        shared = stat.S_IWOTH | (0 if found.st_gid in {found.st_uid, 0} else stat.S_IWGRP)
        is_sticky = each != folder and found.st_mode & stat.S_ISVTX
        if found.st_mode & shared and not is_sticky:
            raise _unsafe(home, each, "can be written by other users")


def _unsafe(home: Home, path: Path, problem: str) -> RehearsalError:
    return RehearsalError(
        f"The rehearsal's folder {home.folder} cannot be used, since its programs are run, and "
        f"{path} {problem}.",
        f"set {HOME_VARIABLE} to a folder that does not exist yet, in a folder of your own",
    )


def _unusable(home: Home, error: OSError) -> RehearsalError:
    return RehearsalError(
        f"The rehearsal's folder {home.folder} cannot be used: {error.strerror}.",
        f"set {HOME_VARIABLE} to a folder of your own",
    )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


STOP_S = 10.0
"""Seconds in which a server stops all clusters and removes its home."""


def end(home: Home) -> bool:
    """End the server of a home with all that it runs, or remove what a killed one left."""
    if not home.folder.exists():
        return False
    server = read_json(home.server_file)
    if server and is_locked(home):
        processes.send(int(server["pid"]), home.folder, signal.SIGTERM)
        processes.poll(lambda: not processes.running(home.folder), STOP_S)
    processes.stop(home.folder)
    if not home.folder.exists():
        return True
    descriptor = lock(home)
    if descriptor is None:
        raise RehearsalError(
            f"The rehearsal in {home.folder} is being started again, so it was left alone.",
            "pull-study-rehearsal down",
        )
    try:
        clear(home)
    finally:
        os.close(descriptor)
    return True


_MOUNTS = Path("/proc/self/mountinfo")


def clear(home: Home, *, whole: bool = True) -> None:
    """Remove all of a home that this process has locked, with its folder if `whole`."""
    try:
        processes.stop(home.folder)
        if cgroups.ROOT.is_dir():
            cgroups.remove(home.control_group)
        for point in sorted(mounts_below(home.folder), reverse=True):
            subprocess.run(["umount", "--lazy", str(point)], check=True, capture_output=True)
        _remove_files(home, whole=whole)
    except (
        processes.StillRunningError,
        cgroups.ControlGroupError,
        subprocess.CalledProcessError,
        OSError,
    ) as error:
        raise RehearsalError(
            f"The rehearsal in {home.folder} could not be removed entirely: {error}.",
            "pull-study-rehearsal down, as the user who started it",
        ) from error


def mounts_below(folder: Path, mounts: str | None = None) -> list[Path]:
    """Return the mount points at or below a folder; `mounts` is mountinfo's text."""
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8") if _MOUNTS.exists() else ""
    points = (Path(unescape_mount(line.split()[4])) for line in mounts.splitlines())
    return [point for point in points if point.is_relative_to(folder)]


def unescape_mount(path: str) -> str:
    r"""Return a path that proc(5) wrote to mountinfo, where a blank is \040."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path)


def _remove_files(home: Home, *, whole: bool) -> None:
    for entry in list(home.folder.iterdir()) if home.folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif whole or entry != home.mark:
            entry.unlink()
    if not whole:
        return
    home.folder.rmdir()
    with suppress(OSError):  # not empty: something else of ours is there
        if home.folder.parent.name == "pull-study":
            os.rmdir(home.folder.parent)  # noqa: PTH106
