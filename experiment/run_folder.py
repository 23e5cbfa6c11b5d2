"""A run's folder on disk: append-only files that survive kill -9 (schema.run_records names them).

It writes and reads records and decides nothing about them. A line that a killed runner left half
written is the last of its file and is ignored when read; the next append starts a new line.
"""

import fcntl
import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from experiment.errors import FolderError, PlanError, print_error
from experiment.waiting import now
from schema.errors import shortened
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
    RepositoryRecord,
    RunRecord,
    Source,
    SpanRecord,
    StepRecord,
    TrialRecord,
)

_RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")

_FILES: Mapping[type[BaseModel], str] = {
    PhaseRecord: "phases.jsonl",
    TrialRecord: "trials.jsonl",
    NodeStatsRecord: "nodestats.jsonl",
    NodeRecord: "nodes.jsonl",
    JobRecord: "jobs.jsonl",
    GapRecord: "gaps.jsonl",
    RemovalRecord: "removals.jsonl",
    RepositoryRecord: "repository.jsonl",
    SpanRecord: "spans.jsonl",
    CellRecord: "ledger.jsonl",
    EvidenceRecord: "evidence.jsonl",
}
_WATCHED, _LOGGED = "events.watch.jsonl", "events.logging.jsonl"
_NOT_SYNCED = {_WATCHED, "nodestats.jsonl"}
"""Written many times a second: a machine that dies may lose the last lines."""

BYTES_PER_CELL = 20_000
"""Twice what a cell's events, records and its part of the report take."""

Record = TypeVar("Record", bound=BaseModel)


class Free(NamedTuple):
    """What a disk has left for its ordinary users."""

    bytes: int
    files: int

    def lacks(self, least_bytes: float, least_files: int) -> bool:
        """Whether less of either is left."""
        return self.bytes < least_bytes or self.files < least_files

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:.0f} MB and {min(self.files, 10**9)} files"


def free_space(folder: Path) -> Free:
    """Return what is free on a folder's disk, which may take any number of files.

    Raises:
        OSError: the disk does not answer.
    """
    disk = os.statvfs(folder)
    return Free(disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else sys.maxsize)


class Steps:
    """The steps of one phase that the runner waited for."""

    def __init__(self) -> None:
        self._steps: list[StepRecord] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, however it ends."""
        started_at = now()
        try:
            yield
        finally:
            self._steps.append(StepRecord(name=name, started_at=started_at, ended_at=now()))

    def take(self) -> tuple[StepRecord, ...]:
        """Return the steps so far, and start a new list."""
        taken, self._steps = tuple(self._steps), []
        return taken


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
        """Create the folder of a new run.

        Raises:
            PlanError: the id has a form that Kubernetes names refuse, or the run exists.
        """
        cls.check_new(root, run_id)
        path = root / run_id
        try:
            path.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise PlanError(
                f"The run's folder {path} cannot be created: {error.strerror}.",
                f"mkdir -p {root}",
            ) from error
        return cls(path)

    @staticmethod
    def check_new(root: Path, run_id: str) -> None:
        """Check that a new run may have this id.

        Raises:
            PlanError: the id has a form that Kubernetes names refuse, or the run exists.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise PlanError(
                f"The run id {shortened(run_id)!r} cannot name Kubernetes objects: up to 48 "
                "lower-case letters, digits and dashes are allowed.",
                "--run-id my-run-1",
            )
        if (root / run_id).exists():
            raise PlanError(
                f"The run {run_id} already exists in {root}; runs are never overwritten.",
                f"choose another --run-id, or continue it: --resume {run_id}",
            )

    @classmethod
    def open(cls, root: Path, run: str) -> "RunFolder":
        """Open an existing run by id or by path.

        Raises:
            PlanError: there is no such run.
        """
        for path in (root / run, Path(run)):
            with suppress(OSError, ValueError):  # too long, or with a NUL
                if (path / "run.json").is_file():
                    return cls(path)
        raise PlanError(
            f"There is no run {shortened(run)!r} in {root}.", f"ls {root} lists the runs"
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from working on this run; the lock ends with the process.

        Raises:
            PlanError: another process works on it.
            FolderError: the lock cannot be written.
        """
        with self._writing(".lock"):
            file = _open(self.path / ".lock", "a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise PlanError(
                    f"The run {self.path.name} is in use by {file.read() or 'another process'}.",
                    "wait until it ends, or interrupt it",
                ) from error
            with suppress(OSError):
                file.truncate(0)
                file.write(f"process {os.getpid()}")
                file.flush()
            yield

    def is_idle(self) -> bool:
        """Whether the folder exists and no process works on the run."""
        path = self.path / ".lock"
        try:
            if not path.is_file():  # a Lease that others can write names the folder
                return False
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (OSError, ValueError):  # it is locked, cannot be read from here, or is no path
            return False
        return True

    @property
    def pulumi_dir(self) -> Path:
        """The folder of the copies of Pulumi.yaml and the stack file that this run uses."""
        return self.path / "pulumi"

    @property
    def report_dir(self) -> Path:
        """The folder of this run's report."""
        return self.path / "report"

    def write_run(self, record: RunRecord) -> None:
        """Replace run.json atomically."""
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
                "start a new run",
            ) from error

    def write_nodes(self, nodes: list[dict[str, Any]], attempt: int) -> None:
        """Write the nodes as `kubectl get nodes -o json` prints them, a file an attempt."""
        node_list = {"apiVersion": "v1", "kind": "NodeList", "items": nodes}
        self._replace(_nodes_file(attempt), json.dumps(node_list) + "\n")

    def last_attempt(self) -> int:
        """Return the last attempt that has records; 0 for a new run."""
        phases = (phase.attempt for phase in self.phases())
        return max([*phases, *(trial.attempt for trial in self.trials())], default=0)

    def node_names(self, attempt: int) -> list[str]:
        """Return the names of an attempt's measured nodes, in the order of their pods' indexes."""
        path = self.path / _nodes_file(attempt)
        if not path.is_file():
            return []
        items = json.loads(path.read_text("utf-8"))["items"]
        return [str(node["metadata"]["name"]) for node in items]

    def add(self, *records: BaseModel) -> None:
        """Append records to the files of their kinds."""
        for name, own in groupby(records, _file_of):
            self._append(name, own)

    def phases(self) -> list[PhaseRecord]:
        """Return all phases."""
        return self._read(PhaseRecord)

    def trials(self) -> list[TrialRecord]:
        """Return all trials, of every attempt."""
        return self._read(TrialRecord)

    def cells(self) -> list[CellRecord]:
        """Return the ledger, of every attempt; the last line of a cell that was judged again."""
        cells = self._read(CellRecord)
        return list({(cell.trial, cell.attempt, cell.node): cell for cell in cells}.values())

    def last_trials(self) -> list[TrialRecord]:
        """Return the last attempt of each trial, in the trials' order."""
        last: dict[int, TrialRecord] = {}
        for trial in self.trials():
            if trial.trial not in last or last[trial.trial].attempt <= trial.attempt:
                last[trial.trial] = trial
        return [last[number] for number in sorted(last)]

    def last_cells(self) -> list[CellRecord]:
        """Return the cells of each trial's last attempt, as last judged."""
        attempts = {trial.trial: trial.attempt for trial in self.last_trials()}
        return [cell for cell in self.cells() if cell.attempt == attempts.get(cell.trial)]

    def events(self, source: Source | None = None) -> Iterator[EventRecord]:
        """Yield all events, or those of the watch or of Cloud Logging alone.

        One at a time: a record takes 8 kB, and a study on 1,000 nodes has half a million.
        """
        if source in {None, Source.WATCH}:
            yield from self._lines(EventRecord, _WATCHED)
        if source is not Source.WATCH:
            yield from self._lines(EventRecord, _LOGGED)

    def nodes(self) -> list[NodeRecord]:
        """Return all changes of the nodes."""
        return self._read(NodeRecord)

    def node_stats(self) -> list[NodeStatsRecord]:
        """Return all summaries of the kubelets."""
        return self._read(NodeStatsRecord)

    def jobs(self) -> list[JobRecord]:
        """Return all Jobs that ended."""
        return self._read(JobRecord)

    def gaps(self) -> list[GapRecord]:
        """Return all periods in which a source may have missed events."""
        return self._read(GapRecord)

    def removals(self) -> list[RemovalRecord]:
        """Return all removals of images."""
        return self._read(RemovalRecord)

    def repository_lists(self) -> list[RepositoryRecord]:
        """Return all lists of the remote repository."""
        return self._read(RepositoryRecord)

    def spans(self) -> list[SpanRecord]:
        """Return the spans of the nodes' containerds within pulls."""
        return self._read(SpanRecord)

    def evidence(self) -> list[EvidenceRecord]:
        """Return how complete the events were, each time that they were judged."""
        return self._read(EvidenceRecord)

    def log(self, line: str) -> None:
        """Append a line to run.log; one that cannot be written goes to standard error."""
        text = f"{now().isoformat(timespec='milliseconds')} {line}"
        try:
            with self._lock, _open(self.path / "run.log", "a") as file:
                file.write(f"{text}\n")
        except OSError:
            print_error(text)

    def _append(self, name: str, records: Iterable[BaseModel]) -> None:
        """Append lines as one write, which survives the runner's death; fsync the machine's."""
        text = "".join(record.model_dump_json() + "\n" for record in records)
        with self._writing(name), self._lock, _open(self.path / name, "a+b") as file:
            if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                file.write(b"\n")
            file.write(text.encode())
            file.flush()
            if name not in _NOT_SYNCED:
                os.fsync(file.fileno())

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        with self._writing(name):
            with _open(temporary, "w") as file:
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
                f"free space on its disk, then: pull-study run --resume {self.path.name}",
            ) from error

    def _read(self, model: type[Record]) -> list[Record]:
        return list(self._lines(model, _FILES[model]))

    def _lines(self, model: type[Record], name: str) -> Iterator[Record]:
        path = self.path / name
        if not path.is_file():
            return
        # by bytes: text may hold U+2028 and the like, at which text is split into lines too
        with path.open("rb") as file:
            for line in file:
                try:
                    if line != b"\n":
                        yield model.model_validate_json(line)
                except ValidationError:
                    self.log(f"unreadable line in {path.name} ignored: {line[:80]!r}")


def _file_of(record: BaseModel) -> str:
    if isinstance(record, EventRecord):
        return _WATCHED if record.source is Source.WATCH else _LOGGED
    return _FILES[type(record)]


def _nodes_file(attempt: int) -> str:
    return "nodes.json" if attempt == 1 else f"nodes-{attempt}.json"


def _open(path: Path, mode: str) -> IO[Any]:
    """Open a file that, if it is new, only this user may read."""
    if not path.exists():
        path.touch(mode=0o600)
    return path.open(mode, encoding=None if "b" in mode else "utf-8")


def _ends_with_newline(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"
