"""The Python environment in .venv: exactly what requirements.lock pins, by hash, nothing else.

uv creates it, itself installed from its own line in the lock, so the machine's Python needs neither
ensurepip nor venv. Standard library only, since this runs before the environment exists.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

from schema.errors import UserError
from tools import packages
from tools.programs import cache_root

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = VENV / "pull-study.stamp"


class EnvironmentNotMade(UserError):
    """The Python environment could not be created or updated."""


def make(say: Callable[[str], None]) -> None:
    """Make .venv hold exactly the lock and this project; quick when it does already.

    Args:
        say: gets one line for each step that changes something.

    Raises:
        EnvironmentNotMade: with the cause and the fix.
    """
    uv = _uv(say)
    python = VENV / "bin" / "python"
    if not _runs(python):
        say("environment: creating .venv")
        interpreter = os.path.realpath(sys.executable)
        _run([uv, "venv", "--clear", "--no-python-downloads", "--python", interpreter, str(VENV)])
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    current = is_current()
    if not current:
        say("environment: installing what requirements.lock pins")
    # Costs 0.1 s when nothing is missing, and restores what was removed by hand.
    _run([*install, "--require-hashes", "-r", str(LOCK)])
    if current:
        return
    # A second step, since building the project needs what the first one installed.
    _run([*install, "--no-build-isolation", "--exact", "-r", str(LOCK), "-e", str(ROOT)])
    STAMP.write_text(_fingerprint(), encoding="utf-8")


def is_current() -> bool:
    """Whether .venv was made from the present lock and project."""
    if not STAMP.is_file() or STAMP.read_text(encoding="utf-8") != _fingerprint():
        return False
    # From any folder, the environment must find this work tree.
    code = f"import schema; assert schema.__path__[0] == {str(ROOT / 'schema')!r}"
    return _prints(VENV / "bin" / "python", "", "-P", "-c", code)


def locked(name: str) -> tuple[str, str]:
    """Return a package's version in the lock, and its lines there with the hashes.

    Raises:
        LookupError: the lock does not have it.
    """
    text = LOCK.read_text(encoding="utf-8")
    pattern = rf"^{re.escape(name)}==([^\s;]+)[^\n]*\n(?:    --hash=[^\n]*\n)+"
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        msg = f"{LOCK.name} does not pin {name}"
        raise LookupError(msg)
    return match[1], match[0].rstrip("\n\\ ") + "\n"


def _fingerprint() -> str:
    """Hash the lock and what the installed project is made from, without linters' settings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    made_from = [project["build-system"], project["project"], project["tool"]["hatch"]]
    content = LOCK.read_bytes() + json.dumps(made_from, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _uv(say: Callable[[str], None]) -> str:
    """Return the path of uv in the locked version; install it into the cache if needed."""
    version, requirement = locked("uv")
    folder = cache_root() / f"uv-{version}"
    on_path = shutil.which("uv")
    for candidate in (VENV / "bin" / "uv", Path(on_path or "/nowhere"), folder / "bin" / "uv"):
        if _prints(candidate, f"uv {version}"):
            return str(candidate)
    say(f"environment: getting uv {version}")
    _ensure_pip(say)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".uv-") as scratch:
        pinned = Path(scratch) / "uv.txt"
        pinned.write_text(requirement, encoding="utf-8")
        target = Path(scratch) / "installed"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--require-hashes", "--no-deps", "--target", str(target), "-r", str(pinned)]
        _run([*pip, *options])
        shutil.rmtree(folder, ignore_errors=True)
        target.replace(folder)
    return str(folder / "bin" / "uv")


def _ensure_pip(say: Callable[[str], None]) -> None:
    if _prints(Path(sys.executable), "pip", "-m", "pip", "--version"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("Debian packages: installing python3-pip")
        packages.install_names(["python3-pip"])
        if _prints(Path(sys.executable), "pip", "-m", "pip", "--version"):
            return
    raise EnvironmentNotMade(
        f"{sys.executable} has no pip, so uv, which makes the environment, cannot be installed.",
        "sudo apt-get install python3-pip (or put uv on PATH), then make setup",
    )


def _runs(python: Path) -> bool:
    return _prints(python, "", "-c", "pass")


def _prints(program: Path, start: str, *arguments: str) -> bool:
    """Whether the program exits with 0 and its output starts with this word or words."""
    try:
        done = subprocess.run(
            [str(program), *(arguments or ("--version",))],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and f"{done.stdout.strip()} ".startswith(f"{start} ".lstrip())


_NOT_DOWNLOADED = (
    (
        r"UnknownIssuer|invalid peer certificate|CERTIFICATE_VERIFY_FAILED",
        "the certificate of the package index, or of a proxy before it, is not trusted",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt make setup",
    ),
    (
        r"\b40[137]\b (Unauthorized|Forbidden|Proxy)|HTTP status client error \(40[137]",
        "the package index or the proxy requires a login",
        "set UV_DEFAULT_INDEX and PIP_INDEX_URL to https://USER:TOKEN@HOST/simple, then make setup",
    ),
    (
        r"dns error|Name or service|name resolution",
        "the name of the package index is not found, so there is no network or no DNS",
        "connect to the network or set UV_DEFAULT_INDEX and PIP_INDEX_URL, then make setup",
    ),
    (
        r"Connection|client error|timed out|network",
        "there is no network or no package index",
        "connect to the network or set UV_DEFAULT_INDEX and PIP_INDEX_URL, then make setup",
    ),
)
"""Signs in the messages of uv and pip, the most specific first, each with its cause and fix."""


def _run(command: list[str]) -> None:
    """Run a step of uv or pip; show its output only if it fails."""
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    output = done.stderr.strip() or done.stdout.strip()
    name = f"{Path(command[0]).name} {' '.join(command[1:3])}"
    for sign, cause, fix in _NOT_DOWNLOADED:
        if re.search(sign, output):
            raise EnvironmentNotMade(
                f"The pinned Python packages could not be downloaded: {cause}.", fix
            )
    if "No space left" in output:
        raise EnvironmentNotMade(f"The disk of {ROOT} is full.", "free 2 GB, then make setup")
    last = "\n    ".join(output.splitlines()[-10:])
    raise EnvironmentNotMade(f"{name} failed:\n    {last}", "make setup")
