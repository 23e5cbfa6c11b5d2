"""The folder that holds all of a rehearsal: where what lies, and who owns it.

One session at a time uses a home. The server that runs a session holds a lock on the folder
itself, which ends with the process and leaves no file. A folder that is not a rehearsal's is
never used, since a home is emptied without asking.
"""

import fcntl
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schema.errors import ExitCode, UserError

HOME_VARIABLE = "PULL_STUDY_REHEARSAL_HOME"
"""Environment: the folder of the rehearsal, instead of the default."""

_LOCK_S = 0.3
"""Longer than `is_locked` holds its own lock; a server holds it for its life."""


class RehearsalError(UserError):
    """A rehearsal cannot start or be used."""

    exit_code = ExitCode.PREFLIGHT


@dataclass(frozen=True, slots=True)
class Home:
    """A rehearsal's folder."""

    folder: Path

    @property
    def clusters(self) -> Path:
        """A folder a cluster."""
        return self.folder / "clusters"

    @property
    def server_file(self) -> Path:
        """What the server tells sessions (rehearsal.server); there once it is ready."""
        return self.folder / "server.json"

    @property
    def owner_file(self) -> Path:
        """Which session ends the server, if any."""
        return self.folder / "owner.json"

    @property
    def log(self) -> Path:
        """What the server and its parts say."""
        return self.folder / "rehearsal.log"

    @property
    def registries_conf(self) -> Path:
        """containers-registries.conf(5) for skopeo."""
        return self.folder / "registries.conf"

    @property
    def token_file(self) -> Path:
        """kube-apiserver's static token file; one token is valid for all clusters."""
        return self.folder / "tokens.csv"

    @property
    def programs(self) -> Path:
        """Programs to put first on PATH."""
        return self.folder / "bin"

    @property
    def mark(self) -> Path:
        """The file that tells a rehearsal's folder from any other."""
        return self.folder / ".pull-study-rehearsal"

    @property
    def control_group(self) -> str:
        """Of all containers of this home; no other home has the same."""
        return f"pull-study-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"


def default_home() -> Home:
    """The home that the environment names, else /var/lib/pull-study for root."""
    named = os.environ.get(HOME_VARIABLE, "")
    if named:
        return Home(Path(named).absolute())
    if os.geteuid() == 0:
        return Home(Path("/var/lib/pull-study/rehearsal"))
    state = os.environ.get("XDG_STATE_HOME", "")
    return Home((Path(state) if state else Path.home() / ".local/state") / "pull-study/rehearsal")


def prepare(home: Home) -> None:
    """Make the folder, or accept one that a rehearsal made."""
    try:
        home.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        strange = not home.mark.exists() and any(home.folder.iterdir())
    except OSError as error:
        raise _unusable(home, error) from None
    if strange:
        raise RehearsalError(
            f"The folder {home.folder} holds files that no rehearsal made, and a rehearsal would "
            "delete them.",
            f"set {HOME_VARIABLE} to a folder that does not exist yet",
        )
    home.mark.touch()


def lock(home: Home) -> int | None:
    """Lock the home for this process; the descriptor to close, None if another process has it."""
    deadline = time.monotonic() + _LOCK_S
    while time.monotonic() < deadline:
        prepare(home)
        descriptor = _open(home)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, home.folder):  # else its owner removed the folder meanwhile
                return descriptor
        os.close(descriptor)
        time.sleep(0.02)
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
    """Write a file of this user's eyes only, all at once."""
    scratch = path.with_suffix(".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
    scratch.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read what `write_json` wrote; None where there is nothing to read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return data if isinstance(data, dict) else None


def _open(home: Home) -> int:
    try:
        return os.open(home.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(home, error) from None


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
