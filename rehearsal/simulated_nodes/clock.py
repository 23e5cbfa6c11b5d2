"""Time on simulated nodes, which passes some times faster than the clock, and how late they are.

A node's instants are seconds since the process started, `speed` of them to one second of the clock.
What is due at an instant is stamped with it, so durations and times of a node stay right however
slow the machine is; controllers and the runner see them late by what is measured here. Each
cluster's process writes a report, which the end of the rehearsal prints.
"""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

TOLERATED_S = 1.0
"""Of the clock, by which what a node did may be known late without a word."""


@dataclass(slots=True)
class Lateness:
    """How late things were done, in seconds of the clock."""

    count: int = 0
    total_s: float = 0.0
    worst_s: float = 0.0

    def add(self, late_s: float) -> None:
        """Count one thing that was done so late."""
        self.count += 1
        self.total_s += max(0.0, late_s)
        self.worst_s = max(self.worst_s, late_s)

    @property
    def mean_s(self) -> float:
        """On average; 0 without anything done."""
        return self.total_s / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """How late the simulated nodes of one cluster were.

    Attributes:
        speed: how many times faster than the clock they worked.
        waking: the emitter's waking up when something was due.
        telling: the API server's having heard of it.
    """

    speed: float
    waking: Lateness
    telling: Lateness

    @property
    def warning(self) -> str | None:
        """What to tell of it; None where the machine kept the speed."""
        late, speed = self.telling, self.speed
        if late.worst_s <= TOLERATED_S:
            return None
        return (
            f"this machine does not keep speed {speed:g}: the API server heard of what simulated "
            f"nodes did up to {late.worst_s:.1f} s late ({late.mean_s:.2f} s on average), which "
            f"stands for {late.worst_s * speed:.0f} s on a node; a lower --speed or fewer nodes "
            "are truer"
        )


def report_file(home: Path, cluster: str) -> Path:
    """Where a cluster's emitter keeps its report, which outlives the cluster."""
    return home / "lateness" / f"{cluster}.json"


def write_report(path: Path, report: Report) -> None:
    """Keep a report."""
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(report)), encoding="utf-8")
    scratch.replace(path)


def worst_report(home: Path) -> Report | None:
    """The report of the cluster whose nodes were latest; None without any."""
    found: list[Report] = []
    for path in report_file(home, "*").parent.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(path.read_text(encoding="utf-8"))
            waking, telling = Lateness(**data["waking"]), Lateness(**data["telling"])
            found.append(Report(float(data["speed"]), waking, telling))
    return max(found, key=lambda each: each.telling.worst_s, default=None)


class Clock:
    """The clock of an emitter's nodes."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.waking = Lateness()
        """Of waking up when something was due."""
        self.telling = Lateness()
        """Of the API server's having heard of it."""
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)

    def now(self) -> float:
        """The present instant."""
        return (time.monotonic() - self._began) * self.speed

    def at(self, instant: float) -> datetime:
        """The clock's time at an instant, to the microsecond."""
        return self._began_at + timedelta(seconds=instant / self.speed)

    def told(self, instant: float) -> None:
        """Something of this instant has reached the API server just now."""
        self.telling.add((self.now() - instant) / self.speed)

    async def until(self, instant: float) -> None:
        """Sleep until an instant."""
        await asyncio.sleep(max(0.0, (instant - self.now()) / self.speed))
        self.waking.add((self.now() - instant) / self.speed)
