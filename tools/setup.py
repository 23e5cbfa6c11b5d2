"""Makes a machine ready: Python environment, Debian packages, Go programs; then tells it is so.

Run again it does only what is missing. It changes nothing of the machine but .venv, the cache
folder, Go's and uv's own caches and, as root on Debian, the packages of tools.packages.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from schema.errors import UserError
from tools import build, environment, packages
from tools.programs import cache_root


def main() -> int:
    """Runs setup; 0 when the machine is ready, else an error's exit code."""
    begun = time.monotonic()
    try:
        with _alone():
            environment.make(_tell)
            not_installed = _install_packages()
            if programs := build.missing():
                build.build(programs, _tell)
            build.link_programs()
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("Interrupted; make setup goes on where it was.", file=sys.stderr)
        return 130
    _tell(f"ready in {time.monotonic() - begun:.1f} s")
    if not_installed:
        _tell(
            f"Real nodes and the local registry lack {', '.join(p.name for p in not_installed)}; "
            f"to have them: {packages.install_command(not_installed)}"
        )
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """Waits until no other setup of this user is under way; a killed one does not count."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell("waiting for another setup that is under way")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_packages() -> tuple[packages.Package, ...]:
    """Installs what is missing where that is possible; returns what is missing still."""
    if os.geteuid() == 0 and shutil.which("apt-get") and (wanted := packages.missing()):
        packages.install(wanted, _tell)
    return packages.missing()


def _tell(line: str) -> None:
    print(f"setup: {line}", flush=True)
