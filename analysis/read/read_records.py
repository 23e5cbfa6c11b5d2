"""The records in a run folder (schema.run_records), as far as the analysis needs them.

A line that is not a record was cut off by kill -9 or damaged: it is skipped and reported with its
file and number. Events are read by read_events.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schema.errors import UserError
from schema.evidence_records import EvidenceRecord
from schema.run_records import (
    CellRecord,
    GapRecord,
    NodeStatsRecord,
    PhaseRecord,
    RemovalRecord,
    RunRecord,
    TrialRecord,
)

R = TypeVar("R", bound=BaseModel)

Damage = tuple[str, int, str]
"""File, line (1 for the first) and what is wrong with it."""


class DamagedRunError(UserError):
    """A run folder lacks a file that the analysis needs, or the file is damaged."""


@dataclass(frozen=True)
class RunFolder:
    """The records of one run of this project; all but `record` may be incomplete.

    Attributes:
        record: run.json.
        phases: phases that ended, of every attempt.
        trials: of every attempt.
        every_cell: of every attempt.
        stats: node counters around each trial, of every attempt.
        gaps: periods in which a source may have missed events.
        removals: images whose removal from a node was requested.
        evidence: the last assessment of how complete the events of each attempt are.
        damage: lines that are not records.
    """

    record: RunRecord
    phases: tuple[PhaseRecord, ...]
    trials: tuple[TrialRecord, ...]
    every_cell: tuple[CellRecord, ...]
    stats: tuple[NodeStatsRecord, ...]
    gaps: tuple[GapRecord, ...]
    removals: tuple[RemovalRecord, ...]
    evidence: tuple[EvidenceRecord, ...]
    damage: tuple[Damage, ...]

    @cached_property
    def cells(self) -> tuple[CellRecord, ...]:
        """The cells of each trial's last attempt; the later line of a cell recorded twice."""
        last: dict[tuple[int, int, str], CellRecord] = {}
        attempts: dict[tuple[int, int], int] = defaultdict(int)
        for cell in self.every_cell:
            last[cell.trial, cell.repetition, cell.node] = cell
            key = (cell.trial, cell.repetition)
            attempts[key] = max(attempts[key], cell.attempt)
        return tuple(c for c in last.values() if c.attempt == attempts[c.trial, c.repetition])

    @property
    def clusters(self) -> tuple[str, ...]:
        """Ids of the clusters that its cells come from; several if the run was resumed."""
        return tuple(sorted({cell.cluster for cell in self.cells if cell.cluster}))

    @property
    def own_s(self) -> float:
        """Seconds that its container's own program runs."""
        return own_seconds(self.record.study.command)


def own_seconds(command: Sequence[str]) -> float:
    """Seconds that a study's program runs if its command says so, as `sleep 1` does; else 0."""
    words = " ".join(command).split()
    try:
        return float(words[words.index("sleep") + 1])
    except (ValueError, IndexError):
        return 0.0


def read_run_folder(path: Path) -> RunFolder:
    """Read all records of a run.

    Raises:
        DamagedRunError: run.json is not a run record.
    """
    damage: list[Damage] = []

    def read(name: str, model: type[R]) -> tuple[R, ...]:
        return tuple(_read_lines(path / name, model, damage))

    return RunFolder(
        record=_read_run(path / "run.json"),
        phases=read("phases.jsonl", PhaseRecord),
        trials=read("trials.jsonl", TrialRecord),
        every_cell=read("ledger.jsonl", CellRecord),
        stats=read("nodestats.jsonl", NodeStatsRecord),
        gaps=read("gaps.jsonl", GapRecord),
        removals=read("removals.jsonl", RemovalRecord),
        evidence=tuple(
            {one.attempt: one for one in read("evidence.jsonl", EvidenceRecord)}.values()
        ),
        damage=tuple(damage),
    )


def _read_run(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedRunError(
            f"The run record {path} cannot be read, so its events cannot be assigned to trials: "
            f"{_first(error)}.",
            f"pull-study-analysis tables {path.parent}/events.watch.jsonl reads the events alone",
        ) from error


def _read_lines(path: Path, model: type[R], damage: list[Damage]) -> Iterable[R]:
    if not path.exists():
        return
    if not path.is_file():  # a pipe or a device, which may never end
        damage.append((str(path), 0, "it is no file with text"))
        return
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        damage.append((str(path), 0, _first(error)))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield model.model_validate_json(line)
        except ValidationError as error:
            damage.append((str(path), number, f"not a {model.__name__}: {_first(error)}"))


def _first(error: OSError | ValidationError) -> str:
    """Describe the error, or the first of several."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
