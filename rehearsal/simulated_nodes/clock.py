"""Time on simulated nodes, which passes some times faster than the clock, and how late they are.

A node's instants are seconds since the process started, `speed` of them to one second of the clock.
What is due at an instant is stamped with it, so durations and times of a node stay right however
slow the machine is; controllers and the runner see them late by what is measured here. Each
cluster's process writes a report, which the end of the rehearsal prints.
"""

import asyncio
import time
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from rehearsal.machine.home import write_json

TOLERATED_S = 1.0
"""Seconds of the clock by which a report may be late without a warning."""


class Report(BaseModel):
    """How well the API server was kept informed of the simulated nodes of one cluster."""

    speed: float
    count: int = 0
    """Writes that reached the API server."""
    total_s: float = 0.0
    worst_s: float = 0.0
    """Lateness of the writes, in seconds of the clock."""
    lost: int = 0
    """Writes that never reached it."""
    last_lost: str = ""
    exit: str = ""
    """Why the process exited before its cluster was deleted."""

    def add(self, late_s: float) -> None:
        """Count a write that reached the API server so late."""
        self.count += 1
        self.total_s += max(0.0, late_s)
        self.worst_s = max(self.worst_s, late_s)

    def lose(self, reason: str) -> None:
        self.lost += 1
        self.last_lost = reason

    def warnings(self) -> list[str]:
        """Return a sentence for each thing that a reader of the results must know."""
        found = []
        if self.exit:
            found.append(f"the simulated kubelets' process exited: {self.exit}")
        if self.lost:
            found.append(
                f"{self.lost} events or statuses of simulated nodes never reached the API server, "
                f"the last one: {self.last_lost}"
            )
        if self.worst_s > TOLERATED_S:
            found.append(
                f"this machine cannot keep up with speed {self.speed:g}: the API server received "
                f"writes of simulated nodes up to {self.worst_s:.1f} s late "
                f"({self.total_s / self.count:.2f} s on average), which is "
                f"{self.worst_s * self.speed:.0f} s on a node; use a lower --speed or fewer nodes"
            )
        return found


def report_file(home: Path, cluster: str) -> Path:
    """Return the path of a cluster's report, which outlives the cluster."""
    return home / "simulated-nodes" / f"{cluster}.json"


def write_report(path: Path, report: Report) -> None:
    path.parent.mkdir(exist_ok=True)
    write_json(path, report.model_dump())


def read_report(path: Path) -> Report | None:
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def warnings(home: Path) -> list[str]:
    """Return the warnings of all clusters; of lateness only the worst cluster's."""
    paths = sorted(report_file(home, "*").parent.glob("*.json"))
    reports = [report for path in paths if (report := read_report(path))]
    latest = max(reports, key=lambda each: each.worst_s, default=None)
    for report in reports:
        if report is not latest:
            report.worst_s = 0.0
    return [line for report in reports for line in report.warnings()]


class Clock:
    """The clock of a cluster's simulated nodes."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.report = Report(speed=speed)
        self.error = timedelta(0)
        """By which it is ahead."""
        self._start = time.monotonic()
        self._start_at = datetime.now(UTC)

    def ahead(self, by: timedelta) -> "Clock":
        """Return the clock of a node that has the wrong time; instants stay the same."""
        other = copy(self)
        other.error = by
        return other

    def now(self) -> float:
        return (time.monotonic() - self._start) * self.speed

    def at(self, instant: float) -> datetime:
        """Return the node's time at an instant, to the microsecond."""
        return self._start_at + self.error + timedelta(seconds=instant / self.speed)

    def arrived(self, instant: float) -> None:
        """Count a write of this instant that has just reached the API server."""
        self.report.add((self.now() - instant) / self.speed)

    async def until(self, instant: float) -> None:
        await asyncio.sleep(max(0.0, (instant - self.now()) / self.speed))
