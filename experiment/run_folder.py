"""A run's folder on disk: append-only files that survive kill -9 (schema.run_records names them).

It writes and reads records; it decides nothing about them. A line that a killed runner left half
written is the last of its file and is passed over when read; the next append starts a new line.
"""

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from experiment.errors import FolderError, PlanError, print_error
from schema.evidence_records import EvidenceRecord
from schema.run_records import (
    CellRecord,
    EventRecord,
    GapRecord,
    JobRecord,
    NodeRecord,
    NodeStatsRecord,
    PhaseRecord,
    RemovalRecord,
    RunRecord,
    Source,
    TrialRecord,
)

_RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")

Record = TypeVar("Record", bound=BaseModel)


class RunFolder:
    """Reads and writes one run's folder; appending is safe from several threads.

    Raises:
        FolderError: from every method that writes but `log`: the disk is full, or fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # a signal's handler logs too, in the thread that holds it

    @classmethod
    def create(cls, root: Path, run_id: str) -> "RunFolder":
        """Make the folder of a new run.

        Raises:
            PlanError: the id has a form that Kubernetes names refuse, or the run exists.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise PlanError(
                f"The run id {run_id!r} cannot name Kubernetes objects: up to 48 lower-case "
                "letters, digits and dashes are allowed.",
                "--run-id my-run-1",
            )
        path = root / run_id
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise PlanError(
                f"There is a run {run_id} already in {root}, and runs are never overwritten.",
                f"choose another --run-id, or go on with it: --resume {run_id}",
            ) from None
        except OSError as error:
            raise PlanError(
                f"The run's folder {path} cannot be made, so nothing could be kept: "
                f"{error.strerror}.",
                f"mkdir -p {root}",
            ) from None
        return cls(path)

    @classmethod
    def open(cls, root: Path, run: str) -> "RunFolder":
        """Find an existing run by id or by path.

        Raises:
            PlanError: there is no such run.
        """
        for path in (root / run, Path(run)):
            if (path / "run.json").is_file():
                return cls(path)
        raise PlanError(f"There is no run {run!r} in {root}.", f"ls {root} shows the runs at hand")

    @property
    def pulumi_dir(self) -> Path:
        """Where the very Pulumi.yaml and stack file of this run are kept."""
        return self.path / "pulumi"

    @property
    def report_dir(self) -> Path:
        """Where the report of this run goes."""
        return self.path / "report"

    def write_run(self, record: RunRecord) -> None:
        """Replace run.json as one step."""
        self._replace("run.json", record.model_dump_json(indent=2) + "\n")

    def read_run(self) -> RunRecord:
        """Read run.json.

        Raises:
            PlanError: it is not a record of a run.
        """
        try:
            return RunRecord.model_validate_json((self.path / "run.json").read_text("utf-8"))
        except ValidationError as error:
            first = error.errors()[0]
            raise PlanError(
                f"{self.path / 'run.json'} is not a record of a run "
                f"({'.'.join(map(str, first['loc']))}: {first['msg']}), so it cannot be resumed.",
                "begin a new run",
            ) from None

    def write_nodes(self, nodes: list[dict[str, Any]], attempt: int) -> None:
        """Keep the nodes as `kubectl get nodes -o json` gives them; a later attempt adds a file."""
        node_list = {"apiVersion": "v1", "kind": "NodeList", "items": nodes}
        self._replace(_nodes_file(attempt), json.dumps(node_list) + "\n")

    def last_attempt(self) -> int:
        """The last attempt that left a trace; 0 for a run of which no phase has ended."""
        phases = (phase.attempt for phase in self.phases())
        return max([*phases, *(trial.attempt for trial in self.trials())], default=0)

    def node_names(self, attempt: int) -> list[str]:
        """Names of the measured nodes of an attempt, in the order of their pods' indexes."""
        path = self.path / _nodes_file(attempt)
        if not path.exists():
            return []
        items = json.loads(path.read_text("utf-8"))["items"]
        return [str(node["metadata"]["name"]) for node in items]

    def add_phase(self, record: PhaseRecord) -> None:
        """Append to phases.jsonl."""
        self._append("phases.jsonl", [record])

    def add_trial(self, record: TrialRecord) -> None:
        """Append to trials.jsonl."""
        self._append("trials.jsonl", [record])

    def add_cells(self, records: Iterable[CellRecord]) -> None:
        """Append to ledger.jsonl."""
        self._append("ledger.jsonl", records)

    def add_watched(self, records: Iterable[EventRecord]) -> None:
        """Append to events.watch.jsonl."""
        self._append("events.watch.jsonl", records, to_disk=False)

    def add_logged(self, records: Iterable[EventRecord]) -> None:
        """Append to events.logging.jsonl."""
        self._append("events.logging.jsonl", records)

    def add_node(self, record: NodeRecord) -> None:
        """Append to nodes.jsonl."""
        self._append("nodes.jsonl", [record])

    def add_node_stats(self, record: NodeStatsRecord) -> None:
        """Append to nodestats.jsonl."""
        self._append("nodestats.jsonl", [record], to_disk=False)

    def add_job(self, record: JobRecord) -> None:
        """Append to jobs.jsonl."""
        self._append("jobs.jsonl", [record])

    def add_gaps(self, records: Iterable[GapRecord]) -> None:
        """Append to gaps.jsonl."""
        self._append("gaps.jsonl", records)

    def add_removals(self, records: Iterable[RemovalRecord]) -> None:
        """Append to removals.jsonl."""
        self._append("removals.jsonl", records)

    def add_evidence(self, record: EvidenceRecord) -> None:
        """Append to evidence.jsonl."""
        self._append("evidence.jsonl", [record])

    def phases(self) -> list[PhaseRecord]:
        """All phases so far."""
        return list(self._read("phases.jsonl", PhaseRecord))

    def trials(self) -> list[TrialRecord]:
        """All trials so far, every attempt."""
        return list(self._read("trials.jsonl", TrialRecord))

    def cells(self) -> list[CellRecord]:
        """The ledger, every attempt; of a cell that was judged anew the last line."""
        cells = self._read("ledger.jsonl", CellRecord)
        return list({(cell.trial, cell.attempt, cell.node): cell for cell in cells}.values())

    def events(self, source: Source | None = None) -> list[EventRecord]:
        """All events; of the watch alone, or of Cloud Logging alone, if a source is given."""
        names = ["events.watch.jsonl", "events.logging.jsonl"]
        if source is not None:
            names = names[:1] if source is Source.WATCH else names[1:]
        return [record for name in names for record in self._read(name, EventRecord)]

    def nodes(self) -> list[NodeRecord]:
        """All changes of the nodes."""
        return list(self._read("nodes.jsonl", NodeRecord))

    def node_stats(self) -> list[NodeStatsRecord]:
        """All summaries of the kubelets."""
        return list(self._read("nodestats.jsonl", NodeStatsRecord))

    def jobs(self) -> list[JobRecord]:
        """All Jobs that ended."""
        return list(self._read("jobs.jsonl", JobRecord))

    def gaps(self) -> list[GapRecord]:
        """All stretches in which a source may have missed events."""
        return list(self._read("gaps.jsonl", GapRecord))

    def removals(self) -> list[RemovalRecord]:
        """All removals of images."""
        return list(self._read("removals.jsonl", RemovalRecord))

    def evidence(self) -> list[EvidenceRecord]:
        """How complete the events were, each time that they were judged."""
        return list(self._read("evidence.jsonl", EvidenceRecord))

    def log(self, line: str, at: datetime) -> None:
        """Append a line to run.log; one that cannot be written goes to standard error."""
        text = f"{at.isoformat(timespec='milliseconds')} {line}"
        try:
            with self._lock, (self.path / "run.log").open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError:
            print_error(text)

    def _append(self, name: str, records: Iterable[BaseModel], *, to_disk: bool = True) -> None:
        """Append lines as one write, which survives the runner's death; `to_disk` the machine's."""
        text = "".join(record.model_dump_json() + "\n" for record in records)
        if not text:
            return
        with self._writing(name), self._lock, (self.path / name).open("a+b") as file:
            if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                file.write(b"\n")
            file.write(text.encode())
            file.flush()
            if to_disk:
                os.fsync(file.fileno())

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        with self._writing(name):
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderError(
                f"{self.path / name} cannot be written: {error.strerror or error}. What was "
                "written before is kept.",
                f"free space on its disk, then: python -m experiment run --resume {self.path.name}",
            ) from error

    def _read(self, name: str, model: type[Record]) -> Iterator[Record]:
        path = self.path / name
        if not path.exists():
            return
        for line in path.read_bytes().split(b"\n"):  # text may hold U+2028 and the like
            try:
                if line:
                    yield model.model_validate_json(line)
            except ValidationError:
                self.log(f"unreadable line in {name} passed over: {line[:80]!r}", _now())


def _nodes_file(attempt: int) -> str:
    return "nodes.json" if attempt == 1 else f"nodes-{attempt}.json"


def _ends_with_newline(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _now() -> datetime:
    return datetime.now().astimezone()
