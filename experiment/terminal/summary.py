"""The closing table of a run: a line an image. Pure, but for rich's Table."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from rich.table import Table

from schema.run_records import CellRecord, Status, TrialRecord


@dataclass(frozen=True, slots=True)
class ImageLine:
    """One trial in a line; durations in seconds, None where unknown."""

    trial: int
    tag: str
    valid: int
    cells: int
    median_s: float | None
    p95_s: float | None
    max_s: float | None
    wall_s: float | None
    """Gates opened to last pod ended, by the runner's clock."""
    gap_s: float | None
    """From the end of the last container of the trial before to the first bound pod of this one, by
    the runner's clock; None for the first trial of an attempt."""
    excluded: str
    """Statuses of the cells that are not valid, with their number."""


def image_lines(trials: Sequence[TrialRecord], cells: Sequence[CellRecord]) -> list[ImageLine]:
    """Return a line for each trial, in the order of their turns; percentiles as numpy's default."""
    lines = []
    before: TrialRecord | None = None
    for trial in trials:
        own = [cell for cell in cells if cell.trial == trial.trial]
        pulls = [c.pull_s for c in own if c.status is Status.VALID and c.pull_s is not None]
        statuses = Counter(cell.status for cell in own if cell.status is not Status.VALID)
        lines.append(
            ImageLine(
                trial=trial.trial,
                tag=own[0].tag if own else trial.reference,
                valid=len(own) - statuses.total(),
                cells=len(own),
                median_s=statistics.median(pulls) if pulls else None,
                p95_s=float(np.percentile(pulls, 95)) if pulls else None,
                max_s=max(pulls, default=None),
                wall_s=_seconds(trial.released_at, trial.last_finished_at),
                gap_s=_gap(before, trial),
                excluded=", ".join(f"{number} {name}" for name, number in statuses.items()),
            )
        )
        before = trial
    return lines


def _gap(before: TrialRecord | None, trial: TrialRecord) -> float | None:
    if before is None or before.attempt != trial.attempt:
        return None
    return _seconds(before.last_finished_at, trial.first_bound_at)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def closing_table(lines: Sequence[ImageLine], caption: str) -> Table:
    """Return the lines as a table for the terminal."""
    table = Table(title="Pull time in seconds, valid cells", caption=caption, title_justify="left")
    for name in ("image", "valid", "median", "p95", "max", "wall", "gap", "excluded"):
        words = name in ("image", "excluded")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for line in lines:
        numbers = (line.median_s, line.p95_s, line.max_s, line.wall_s, line.gap_s)
        shown = ("" if number is None else f"{number:.3f}" for number in numbers)
        table.add_row(line.tag, f"{line.valid}/{line.cells}", *shown, line.excluded)
    return table


@dataclass(frozen=True, slots=True)
class SizeLine:
    """One run in the summary."""

    run: str
    stack: str
    nodes: int
    valid: int
    preloaded: int
    cells: int
    minutes: float
    """From the first phase to the end of the last."""
    usd: float
    """From provisioning to teardown, at list prices."""
    exit_code: int
    ended: str


def summary_table(lines: Sequence[SizeLine]) -> Table:
    """Return the runs as one table."""
    table = Table(title="Runs", title_justify="left")
    for name in ("stack", "nodes", "valid", "minutes", "USD", "ended"):
        words = name in {"stack", "ended"}
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for line in lines:
        table.add_row(
            line.stack,
            str(line.nodes),
            f"{line.valid}/{line.cells}" + f", {line.preloaded} preloaded" * bool(line.preloaded),
            f"{line.minutes:.1f}",
            f"{line.usd:.2f}",
            line.ended,
        )
    return table
