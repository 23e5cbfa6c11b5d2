"""Build the pinned Go programs into the cache.

Each program appears there by one atomic rename, so an interrupted build continues where it
stopped. Programs of one Go module are built one after another, since they share most packages;
modules are built in parallel. Standard library only, since setup runs before the environment
exists. tools.programs finds the programs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock

from schema.errors import UserError
from tools.programs import MODULES, PROGRAMS, Program, cache_root, cached_path

BYTES_A_PROGRAM = {"cache": 80 * 10**6, "GOCACHE": 700 * 10**6, "GOMODCACHE": 450 * 10**6}
"""What a build takes where, on average; ten together took 0.7, 6.0 and 3.5 GB from cold."""

SIDE_BY_SIDE = 2
"""Modules built at a time; the compiler fills the cores, this fills the gaps while one links."""

HEARTBEAT_S = 30.0

SCRATCH = ".building-"
"""Prefix of the folder of a running build."""


class CannotBuild(UserError):
    """Go, the network or the disk prevents a build."""


def missing(*, tests: bool = True) -> tuple[Program, ...]:
    """Return the programs that the cache lacks, whatever is on PATH.

    Args:
        tests: include those that only tests need.
    """
    needed = (p for p in PROGRAMS.values() if tests or not p.tests_only)
    return tuple(p for p in needed if not os.access(cached_path(p), os.X_OK))


def build(programs: tuple[Program, ...], say: Callable[[str], None]) -> None:
    """Build these programs; the caller holds the setup lock.

    Args:
        programs: what to build.
        say: gets one line for each start and end, and one each half minute in between.

    Raises:
        CannotBuild: with the cause and the fix.
    """
    go = _suitable_go()
    _check_disks(go, len(programs))
    for left_behind in (cache_root() / "programs").glob(f"{SCRATCH}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    progress = _Progress(total=len(programs), say=say)
    folders = dict.fromkeys(program.folder for program in programs)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = {
            pool.submit(_build_module, go, [p for p in programs if p.folder == folder], progress)
            for folder in folders
        }
        try:
            _await(futures, progress)
        except BaseException:
            progress.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _await(futures: set[Future[None]], progress: _Progress) -> None:
    """Wait for all builds, or raise the first failure."""
    pending = futures
    while pending:
        done, pending = wait(pending, timeout=HEARTBEAT_S, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        if pending:
            progress.heartbeat()


class _Progress:
    """Count and time the builds."""

    def __init__(self, *, total: int, say: Callable[[str], None]) -> None:
        self.stop = Event()
        self._say = say
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._running: dict[str, float] = {}
        self._lock = Lock()

    def start(self, program: Program) -> None:
        with self._lock:
            self._running[program.name] = time.monotonic()
            self._line(f"building {program.name} {program.version}")

    def end(self, program: Program) -> None:
        with self._lock:
            self._done += 1
            took = time.monotonic() - self._running.pop(program.name)
            self._line(f"built {program.name} {program.version} in {took:.0f} s")

    def heartbeat(self) -> None:
        with self._lock:
            now = time.monotonic()
            running = (f"{name} for {now - since:.0f} s" for name, since in self._running.items())
            self._line(f"still building {', '.join(running)}")

    def _line(self, text: str) -> None:
        elapsed = time.monotonic() - self._start
        self._say(f"programs {self._done}/{self._total} {elapsed:4.0f} s: {text}")


def _build_module(go: str, programs: list[Program], progress: _Progress) -> None:
    for program in programs:
        if progress.stop.is_set():
            return
        progress.start(program)
        _build_program(go, program)
        progress.end(program)


def _build_program(go: str, program: Program) -> None:
    target = cached_path(program)
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix=SCRATCH) as scratch:
        built = Path(scratch) / program.name
        command = [
            go,
            "build",
            "-trimpath",
            "-mod=readonly",
            "-buildvcs=false",
            "-gcflags=all=-dwarf=false",  # a seventh less work for the same stripped program
            f"-ldflags={program.linker_flags}",
            f"-o={built}",
            program.package,
        ]
        done = subprocess.run(
            command,
            cwd=MODULES / program.folder,
            env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise _explained(program, done.stderr)
        target.parent.mkdir(exist_ok=True)
        built.replace(target)


def _explained(program: Program, output: str) -> CannotBuild:
    what = f"{program.name} {program.version} could not be built"
    if re.search(r"no space left on device", output):
        return CannotBuild(
            f"{what}: the disk of {cache_root()} or of Go's caches is full.",
            "free some space (`go clean -cache` empties Go's build cache), then make setup",
        )
    if re.search(r"x509|certificate", output):
        return CannotBuild(
            f"{what}: the certificate of the Go module proxy is not trusted.",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt make setup",
        )
    if re.search(r"dial tcp|no such host|i/o timeout|connection re|proxyconnect|TLS hand", output):
        return CannotBuild(
            f"{what}: its Go modules could not be fetched, since there is no network or no proxy.",
            "connect to the network or set GOPROXY, then make setup, which continues there",
        )
    last = "\n    ".join(output.strip().splitlines()[-10:])
    return CannotBuild(f"{what}; go build printed:\n    {last}", "make setup")


def _suitable_go() -> str:
    """Return the path of a Go that can build all modules.

    Raises:
        CannotBuild: there is none, or it is too old and may not fetch a newer toolchain.
    """
    needed = max(_go_line(program.folder) for program in PROGRAMS.values())
    wanted = ".".join(map(str, needed))
    go = shutil.which("go")
    if go is None:
        raise CannotBuild(
            "Go is not on PATH, so the programs of the rehearsal cannot be built.",
            f"install Go {wanted} or later, then make setup",
        )
    done = subprocess.run(
        [go, "env", "GOVERSION", "GOTOOLCHAIN"],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=False,
    )
    version, _, toolchain = done.stdout.partition("\n")
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", version)
    found = (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)
    fetches_newer = found >= (1, 21, 0) and toolchain.strip() not in {"local", "path"}
    if found < needed and not fetches_newer:
        raise CannotBuild(
            f"{go} is {version.strip() or 'of unknown version'}, too old to build the programs "
            f"of the rehearsal, which need Go {wanted}.",
            f"install Go {wanted} or later, then make setup",
        )
    return go


def _go_line(folder: str) -> tuple[int, int, int]:
    """Return the least Go version that builds the module in this folder."""
    text = (MODULES / folder / "go.mod").read_text(encoding="utf-8")
    match = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    if match is None:
        msg = f"tools/{folder}/go.mod has no go line"
        raise LookupError(msg)
    return int(match[1]), int(match[2]), int(match[3] or 0)


def _check_disks(go: str, programs: int) -> None:
    """Raise CannotBuild unless each disk has room for all folders on it."""
    go_env = [go, "env", "GOCACHE", "GOMODCACHE"]
    printed = subprocess.run(
        go_env, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    folders = {"cache": cache_root(), **dict(zip(go_env[2:], map(Path, printed), strict=False))}
    needed: Counter[int] = Counter()
    held: dict[int, list[Path]] = {}
    for use, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder.stat().st_dev
        needed[disk] += BYTES_A_PROGRAM[use] * programs
        held.setdefault(disk, []).append(folder)
    for disk, size in needed.items():
        free = shutil.disk_usage(held[disk][0]).free
        if free < size:
            raise CannotBuild(
                f"The disk of {', '.join(map(str, held[disk]))} has {free / 1e9:.1f} GB free, and "
                f"building {programs} programs of the rehearsal may take {size / 1e9:.1f} GB.",
                "free some space or set XDG_CACHE_HOME, GOCACHE or GOMODCACHE to a larger disk, "
                "then make setup",
            )
