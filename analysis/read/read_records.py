"""The records in a run's folder (schema.run_records), as far as the analysis needs them.

A line that is no record was cut off by kill -9 or damaged; it is passed over and told with its file
and number, and what it would have said is missing. It deliberately reads no event (read_events.py).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from analysis.judge.trial_moments import CellKey, container_ends, own_seconds
from analysis.judge.wall_time import WallTime, run_wall_time
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
    """A run's folder lacks or breaks a file that the analysis cannot do without."""


@dataclass(frozen=True)
class RunFolder:
    """The records of one of this project's runs, as read; all but the first may be short.

    Attributes:
        record: run.json.
        phases: all that ended, of every attempt at the run.
        trials: of every attempt.
        every_cell: of every attempt.
        stats: what nodes said around each trial, of every attempt.
        gaps: stretches of time in which a source may have missed events.
        removals: images whose removal from a node was asked for.
        evidence: how complete the events of each attempt were, when it was last judged.
        damage: lines that are no records.
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
        """Of each trial the cells of its last attempt; of a cell recorded twice the later line."""
        last: dict[tuple[int, int, str], CellRecord] = {}
        attempts: dict[tuple[int, int], int] = defaultdict(int)
        for cell in self.every_cell:
            last[cell.trial, cell.repetition, cell.node] = cell
            key = (cell.trial, cell.repetition)
            attempts[key] = max(attempts[key], cell.attempt)
        return tuple(c for c in last.values() if c.attempt == attempts[c.trial, c.repetition])

    @property
    def clusters(self) -> tuple[str, ...]:
        """Ids of the clusters that its cells are from; several where a run was resumed."""
        return tuple(sorted({cell.cluster for cell in self.cells if cell.cluster}))

    @property
    def own_s(self) -> float:
        """How long its containers' own program takes, as far as its study says so; else 0."""
        return own_seconds(self.record.study.command)

    @property
    def container_ends(self) -> dict[CellKey, float]:
        """When the containers of its cells ended, in seconds since 1970."""
        return container_ends(self.trials, self.cells, speed=self.record.speed, own_s=self.own_s)

    @cached_property
    def time(self) -> WallTime:
        """Where its wall time went."""
        return run_wall_time(self.record, self.phases, self.trials, self.every_cell)


def read_run_folder(path: Path) -> RunFolder:
    """Read all records of a run.

    Raises:
        DamagedRunError: run.json is no record of a run.
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
            f"The run's record {path} cannot be read, so its events cannot be told apart: "
            f"{_first(error)}.",
            f"python -m analysis tables {path.parent}/events.watch.jsonl reads the events alone",
        ) from None


def _read_lines(path: Path, model: type[R], damage: list[Damage]) -> Iterable[R]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield model.model_validate_json(line)
        except ValidationError as error:
            damage.append((str(path), number, f"not a {model.__name__}: {_first(error)}"))


def _first(error: OSError | ValidationError) -> str:
    """What is wrong, of several things the first."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
