"""The analysis of a study of 256 nodes and 38 images, its growth, and its memory.

Processes are timed whole, the two sides of a ratio in turns, and the least of several runs counts:
other work on the machine only adds. The ten million events go through a pipe, so that they need no
13 GB of disk.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import Figure
from benchmarks._analysis_events import IMAGES, write_events

_ROOT = Path(__file__).parent.parent
_NODES = 256
_TURNS = 3
_LONGEST_S = 7200
_ALIKE = 71
"""Images of the original study's first test."""
_USERS = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Environment of the programs: their modules are compiled once, as for users, and not each time."""
_MILLION = 508
"""Images that give a million events on 256 nodes."""


def measure() -> list[Figure]:
    """Generate, analyse, compare."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        events = folder / "run1" / str(_NODES) / "events-1.json"
        events.parent.mkdir(parents=True)
        lines = write_events(events, _NODES)
        out = str(folder / "out")
        baseline, tables = _in_turns(
            [
                ["-m", "benchmarks._analysis_baseline", str(events)],
                ["-m", "analysis", "tables", str(events.parent), "--out", out],
            ]
        )
        report, report_mb = _timed(["-m", "analysis", "report", str(events.parent), "--out", out])
        page = Path(out, "report.html").stat().st_size
        start = _least(["-m", "analysis", "--help"], 5)
        manifests = _write_manifests(folder / "manifests.json")
        alike = _least(["-m", "analysis", "similarity", str(manifests), "--out", out], 3)
        size = events.stat().st_size
        write_events(events, _NODES, 10 * len(IMAGES))
        tenfold = _least(["-m", "analysis", "tables", str(events.parent), "--out", out], 1)
        events.unlink()
        million = _piped(folder, out, _MILLION)
        ten_million = _piped(folder, out, 10 * _MILLION)
    return [
        Figure(f"baseline: import pandas, decode {lines:,} lines ({size / 1e6:.0f} MB) once",
               baseline, "s"),
        Figure("raw events to all tables", tables, "s"),
        Figure("tables / baseline", tables / baseline, "times", "at most 1.4 times"),
        Figure("ten times the events", tenfold / tables, "times as long", "at most 11 times"),
        Figure("report of that run, with all tables", report, "s", "at most 8 s"),
        Figure("memory of that report", report_mb, "MB", "at most 300 MB"),
        Figure("size of that report", page / 1e6, "MB", "less than 5 MB"),
        Figure("analysis --help", start, "s", "at most 0.3 s"),
        Figure(f"similarity of {_ALIKE} images, tables and plots", alike, "s", "less than 2 s"),
        *(
            Figure(f"memory for {count / 1e6:.1f} million events", peak_mb, "MB", most)
            for (peak_mb, count), most in (
                (million, "at most 500 MB"), (ten_million, "at most 2,000 MB")
            )
        ),
    ]  # fmt: skip


def _write_manifests(path: Path) -> Path:
    """Manifests and build steps of images with a base in common and up to 100 layers more."""
    manifests, configs = {}, {}
    for number in range(_ALIKE):
        layers = 1 + number * 99 // (_ALIKE - 1)
        tag = f"{layers}-layers-size-{10**8 + number}-bytes"
        names = ["base", *(f"{tag}/{layer}" for layer in range(layers))]
        digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
        manifests[tag] = {"layers": [{"digest": f"sha256:{d}", "size": 5000} for d in digests]}
        configs[tag] = {"history": [{"created_by": f"RUN {name}"} for name in names]}
    path.write_text(json.dumps({"manifests": manifests, "configs": configs}), "utf-8")
    return path


def _run(arguments: Sequence[str]) -> float:
    return _timed(arguments)[0]


def _timed(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds of a program, and its peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=_ROOT, env=_USERS, stdout=subprocess.DEVNULL
    )
    watchdog = threading.Timer(_LONGEST_S, process.kill)
    watchdog.start()
    _, status, usage = os.wait4(process.pid, 0)
    watchdog.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6


def _least(arguments: Sequence[str], turns: int) -> float:
    return min(_run(arguments) for _ in range(turns))


def _in_turns(programs: Sequence[Sequence[str]]) -> list[float]:
    times: list[list[float]] = [[] for _ in programs]
    for _ in range(_TURNS):
        for mine, program in zip(times, programs, strict=True):
            mine.append(_run(program))
    return [min(mine) for mine in times]


def _piped(folder: Path, out: str, images: int) -> tuple[float, int]:
    """Peak memory of the analysis in MB, and the number of events that it read."""
    pipe = folder / "events-pipe.json"
    os.mkfifo(pipe)
    count = 0

    def write() -> None:
        nonlocal count
        count = write_events(pipe, _NODES, images)

    writer = threading.Thread(target=write)
    writer.start()
    _, peak_mb = _timed(["-m", "analysis", "tables", str(pipe), "--out", out])
    writer.join()
    pipe.unlink()
    return peak_mb, count
