"""What a run left in its folder, and the faults that were injected."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from experiment.run_folder import RunFolder
from rehearsal.faults.faults import Fault, node_number, parse_fault
from schema.evidence_records import EvidenceRecord
from schema.run_records import CellRecord, EventRecord, GapRecord, PhaseRecord, Source, Status

Cell = tuple[int, int]
"""Trial and node's number."""


@dataclass(frozen=True)
class Injection:
    """A line of the file of injections; numbers are 0 where none is concerned."""

    fault: Fault
    at: datetime
    cell: Cell = (0, 0)
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. The defaults are those of a run that left nothing."""

    code: int = 0
    output: str = ""
    cells: dict[Cell, CellRecord] = field(default_factory=dict)
    rows: dict[Cell, dict[str, str]] = field(default_factory=dict)
    """Of pulls.csv."""
    events: tuple[EventRecord, ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    evidence: tuple[EvidenceRecord, ...] = ()
    phases: tuple[PhaseRecord, ...] = ()
    log: str = ""
    injections: tuple[Injection, ...] = ()

    @property
    def valid(self) -> set[Cell]:
        return {at for at, cell in self.cells.items() if cell.status is Status.VALID}

    def records_of(self, uid: str, source: Source) -> list[EventRecord]:
        """Return a source's records of an event, in the order of arrival."""
        return [r for r in self.events if r.source is source and r.event["metadata"]["uid"] == uid]


def read_outcome(code: int, output: str, folder: Path, injected: Path) -> Outcome:
    """Read a run's folder, which may not exist, and the injections."""
    run = RunFolder(folder)
    injections = tuple(read_injections(injected))
    if not (folder / "run.json").exists():
        return Outcome(code, output, injections=injections)
    cells = {(cell.trial, node_number(cell.node)): cell for cell in run.cells()}
    log = folder / "run.log"
    return Outcome(
        code=code,
        output=output,
        cells=cells,
        rows=dict(_rows(run.report_dir / "pulls.csv", cells)),
        events=tuple(run.events()),
        gaps=tuple(run.gaps()),
        evidence=tuple(run.evidence()),
        phases=tuple(run.phases()),
        log=log.read_text("utf-8") if log.exists() else "",
        injections=injections,
    )


def read_injections(path: Path) -> Iterator[Injection]:
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        line = json.loads(text)
        fault, at = parse_fault(line.pop("asked")), datetime.fromisoformat(line.pop("at"))
        cell = int(line.pop("trial", 0)), node_number(line.pop("node", ""))
        yield Injection(fault, at, cell, line)


def _rows(path: Path, cells: dict[Cell, CellRecord]) -> Iterator[tuple[Cell, dict[str, str]]]:
    places = {cell.pod: at for at, cell in cells.items() if cell.pod}
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["pod"] in places:
                yield places[row["pod"]], row
