"""Make a machine ready: Python environment, Debian packages, Go programs.

Run again, it does only what is missing. It changes nothing of the machine but .venv, the cache
folder, Go's and uv's own caches and, as root on Debian, the packages of tools.packages. With
`--tests` it also gets what only tests need.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from schema.errors import ExitCode, UserError
from schema.project_files import IS_CHECKOUT, SETUP
from tools import build, environment, packages
from tools.programs import cache_root


def main(arguments: Sequence[str] = ()) -> int:
    """Run setup; return 0 when the machine is ready, else an error's exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools", description="Install and build what a rehearsal needs."
    )
    parser.add_argument("--tests", action="store_true", help="also what tests need")
    tests = parser.parse_args(arguments).tests
    if not IS_CHECKOUT:
        print(
            UserError("The programs of a rehearsal are built in a checkout.", SETUP),
            file=sys.stderr,
        )
        return int(ExitCode.PREFLIGHT)
    start = time.monotonic()
    try:
        with _lock():
            environment.make(_say)
            not_installed = _install_packages(tests=tests)
            if programs := build.missing(tests=tests):
                build.build(programs, _say)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("Interrupted; make setup continues where it stopped.", file=sys.stderr)
        return 130
    _say(f"ready in {time.monotonic() - start:.1f} s")
    if not_installed:
        _say(
            f"Missing for real nodes, the local registry or tests: "
            f"{', '.join(p.name for p in not_installed)}; "
            f"to install: {packages.install_command(not_installed)}"
        )
    return 0


@contextmanager
def _lock() -> Iterator[None]:
    """Wait for another setup of this user; the lock of a killed one is released."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another setup")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_packages(*, tests: bool) -> tuple[packages.Package, ...]:
    """Install what is missing where that is possible; return what is still missing."""
    if os.geteuid() == 0 and shutil.which("apt-get") and (absent := packages.missing(tests=tests)):
        packages.install(absent, _say)
    return packages.missing(tests=tests)


def _say(line: str) -> None:
    print(f"setup: {line}", flush=True)
