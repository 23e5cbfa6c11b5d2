"""What a run left, and what was done to it: read from its folder and the rehearsal's strikes."""

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
from schema.run_records import (
    CellRecord,
    EventRecord,
    GapRecord,
    PhaseRecord,
    Source,
    Status,
)

Cell = tuple[int, int]
"""Trial and node's number."""


@dataclass(frozen=True)
class Strike:
    """A line of the file of strikes."""

    fault: Fault
    at: datetime
    trial: int = 0
    node: int = 0
    hit: dict[str, str] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """The cell that was struck; numbers are 0 where none is concerned."""
        return self.trial, self.node


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
    strikes: tuple[Strike, ...] = ()

    @property
    def valid(self) -> set[Cell]:
        """The cells that are valid."""
        return {at for at, cell in self.cells.items() if cell.status is Status.VALID}

    def records_of(self, uid: str, source: Source) -> list[EventRecord]:
        """What a source gave of an event, in the order in which it did."""
        return [
            record
            for record in self.events
            if record.source is source and record.event["metadata"]["uid"] == uid
        ]


def read_outcome(code: int, output: str, folder: Path, injected: Path) -> Outcome:
    """Read a run's folder, which may not be there, and the strikes."""
    run = RunFolder(folder)
    strikes = tuple(read_strikes(injected))
    if not (folder / "run.json").exists():
        return Outcome(code, output, strikes=strikes)
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
        strikes=strikes,
    )


def read_strikes(path: Path) -> Iterator[Strike]:
    """The lines of a file of strikes; none where it is not there."""
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        line = json.loads(text)
        fault, trial = parse_fault(line.pop("asked")), int(line.pop("trial", 0))
        at = datetime.fromisoformat(line.pop("at"))
        yield Strike(fault, at, trial, node_number(line.pop("node", "")), line)


def _rows(path: Path, cells: dict[Cell, CellRecord]) -> Iterator[tuple[Cell, dict[str, str]]]:
    places = {cell.pod: at for at, cell in cells.items() if cell.pod}
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["pod"] in places:
                yield places[row["pod"]], row
