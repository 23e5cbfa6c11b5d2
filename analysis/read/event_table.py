"""Events of all recordings as one table, each event once, however often it was recorded.

DuckDB has the table and spills to a temporary folder if the events do not fit into memory. An event
is identified by its uid within a run and stack; of an updated event (count, lastTimestamp) the last
version is kept. Each update of a combined event ("combined from similar events") is about something
else and an event of its own. Kubelet messages are only parsed here; exclusions.py interprets
them. An event with a value that no cluster can print is noted as unreadable.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from analysis.read.bulk import FEW_EVENTS, count_events, count_parts, make_table
from analysis.read.event_form import Event
from analysis.read.lines import UnreadableFileError
from analysis.read.load_runs import Recording
from analysis.read.pull_message import COMBINED, parse_failed, parse_pulled, parse_pulling
from analysis.read.read_events import Notes, read_events
from schema.errors import UserError

PROGRESS_EVERY = 20_000
"""Events between two calls of the progress callback."""

MEMORY = "160MB"
"""Memory limit of DuckDB, beyond which it spills; from FEW_EVENTS on LARGE_MEMORY."""

LARGE_MEMORY = "256MB"

COLUMNS = {
    "rec": "whole",
    "file": "text",
    "source": "text",
    "uid": "text",
    "reason": "text",
    "type": "text",
    "count": "whole",
    "kind": "text",
    "namespace": "text",
    "object": "text",
    "object_uid": "text",
    "container": "text",
    "component": "text",
    "node": "text",
    "at_ns": "whole",
    "clock": "text",
    "last_ns": "whole",
    "job": "text",
    "job_uid": "text",
    "image": "text",
    "pull_s": "real",
    "pull_and_wait_s": "real",
    "image_bytes": "whole",
    "cached": "truth",
    "message": "text",
}
"""Columns of the view `event`; rec is the key of the table `stack`."""

MOST_TEXT = 1 << 20
"""Characters of an event; etcd stores none of more than 1.5 MiB."""

MOST_OFTEN = 10_000_000
"""Largest believable count of an event."""

MOST_PULLS = 10_000
"""The same of pulls: a kubelet tries every five minutes, so this is a month."""

_LAST_YEAR = 2200
_FIRST_YEAR = 1971  # Go's zero time, which some collectors print, is in the year 1


class NoEventError(UserError):
    """Inputs were read, and none of it is an event."""


class _UnbelievableError(ValueError):
    """A value that no event of a cluster has."""


_STACK = {
    "rec": "whole",
    "run": "text",
    "stack": "text",
    "nodes": "whole",
    "machine_type": "text",
    "zone": "text",
    "provenance": "text",
    "speed": "real",
    "own_s": "real",
}

_TWICE = """
CREATE TABLE twice AS
SELECT hash(rec, uid) AS key FROM kept.event GROUP BY ALL HAVING count(*) > 1
"""

_MERGED = """
CREATE OR REPLACE TABLE merged AS
WITH seen AS (
    SELECT *, rowid AS row, hash(e) AS mark FROM kept.event AS e
    WHERE hash(rec, uid) IN (SELECT key FROM twice WHERE key % $parts = $part)
),
best AS (
    SELECT
        first(row ORDER BY count DESC, last_ns DESC, at_ns, message, mark) AS row,
        min(file) AS file,
        string_agg(DISTINCT source, '+' ORDER BY source) AS source
    FROM seen GROUP BY rec, uid
)
SELECT seen.* EXCLUDE (file, source, row, mark), best.file, best.source
FROM seen JOIN best USING (row)
"""

_DELETE = """
DELETE FROM kept.event
WHERE hash(rec, uid) IN (SELECT key FROM twice WHERE key % $parts = $part)
"""

Progress = Callable[[int], None]
"""Called with the number of events read so far."""


@contextmanager
def open_event_table(
    recordings: Sequence[Recording], notes: Notes, progress: Progress | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database with the view `event` (a row per event) and the table `stack` (recordings).

    at_ns and last_ns are nanoseconds since 1970 in UTC; `clock` is the source of at_ns: 'name'
    (the reporter's clock, nanoseconds), 'event-time' (microseconds), or 'first-seen' and
    'last-seen' (seconds).

    Raises:
        NoEventError: none of what was read is an event.
    """
    with tempfile.TemporaryDirectory(prefix="pull-study-") as folder:
        database = duckdb.connect(
            config={
                "memory_limit": MEMORY,
                "temp_directory": folder,
                "preserve_insertion_order": False,
            }
        )
        try:
            stacks = _Stacks(recordings)
            # A database file is compressed; tables in memory are not, even if they spill.
            database.execute(f"ATTACH '{folder}/events.db' AS kept (RECOVERY_MODE no_wal_writes)")
            make_table(database, "kept.event", COLUMNS, _rows(stacks, notes, progress))
            _add_saved(database, stacks)
            if count_events(database) > FEW_EVENTS:
                database.execute(f"SET memory_limit = '{LARGE_MEMORY}'")
            if count_parts(database) > 1:
                database.execute("SET threads = 1")  # each thread allocates its own buffers
            make_table(database, "stack", _STACK, stacks.rows())
            _deduplicate(database)
            yield database
        finally:
            database.close()


def _deduplicate(database: duckdb.DuckDBPyConnection) -> None:
    database.execute(_TWICE)
    parts = count_parts(database)
    for part in range(parts):
        for statement in (_MERGED, _DELETE):
            database.execute(statement, {"parts": parts, "part": part})
        database.execute("INSERT INTO kept.event BY NAME FROM merged")
    database.execute("DROP TABLE merged; DROP TABLE twice; CREATE VIEW event AS FROM kept.event")


class _Stacks:
    """Keys of (run, stack); Cloud Logging entries name their stack themselves."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings
        self._numbers: dict[tuple[int, str], int] = {}
        self._machines: dict[int, set[str]] = defaultdict(set)

    def number(self, recording: int, cluster: str) -> int:
        """Return the key of a recording's stack, or of the cluster if it names no stack."""
        stack = self.recordings[recording].stack or cluster
        return self._numbers.setdefault((recording, stack), len(self._numbers))

    def add_machine(self, number: int, machine_type: str) -> None:
        """Record a node's machine type from its events."""
        self._machines[number].add(machine_type)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield rows of the table `stack`, also for recordings without any event."""
        for index in range(len(self.recordings)):
            if all(known != index for known, _ in self._numbers):
                self.number(index, "")
        for (index, stack), number in self._numbers.items():
            recording = self.recordings[index]
            machines = recording.machine_type or ",".join(sorted(self._machines[number]))
            yield (
                number,
                recording.run,
                stack,
                recording.nodes,
                machines,
                recording.zone,
                recording.provenance,
                recording.speed,
                recording.own_s,
            )


def _rows(stacks: _Stacks, notes: Notes, progress: Progress | None) -> Iterator[tuple[Any, ...]]:
    count = 0
    for index, recording in enumerate(stacks.recordings):
        for path in recording.left_out:
            notes.add(str(path), 0, "left-out", "it has no event in its first part")
        for path in recording.files:
            if path.suffix == ".parquet":
                continue
            try:
                for row in _file_rows(path, index, stacks, notes):
                    yield row
                    count += 1
                    if progress and count % PROGRESS_EVERY == 0:
                        progress(count)
            except UnreadableFileError as error:
                notes.add(str(path), 0, "unreadable", error.problem)
    if not count and notes.counts and all(_is_foreign(each) for each in stacks.recordings):
        raise _no_event(notes)


def _file_rows(path: Path, index: int, stacks: _Stacks, notes: Notes) -> Iterator[tuple[Any, ...]]:
    file = _short(path, stacks.recordings[index])
    for read in read_events(path, notes):
        number = stacks.number(index, read.cluster)
        try:
            row = _row(read.event, number, file, read.source)
        except _UnbelievableError as error:
            notes.add(*notes.at, "unreadable", str(error))
            continue
        if row[_IMAGE] == "" and row[_REASON] == "Pulled" and row[_KIND] == "Pod":
            notes.add(*notes.at, "unreadable", f"message of a Pulled event: {read.event.message}")
        labels = read.event.involved.labels
        if labels and (machine := labels.machine_type or labels.old_machine_type):
            stacks.add_machine(number, machine)
        yield row


def _is_foreign(recording: Recording) -> bool:
    return recording.folder is None and not recording.saved_provenance


def _no_event(notes: Notes) -> NoEventError:
    kinds = {kind for _, kind in notes.counts}
    kind = next(kind for kind in _WORST_FIRST if kind in kinds)
    note = next(note for note in notes.listed if note.kind == kind)
    count = notes.total(kind)
    return NoEventError(
        f"No event could be read. {_MEANINGS[kind].format(count=count)}; the first, in {note.file}"
        + (f" line {note.line}: {note.detail}" if note.line else f": {note.detail}"),
        "record events in full: kubectl get events -A -o json > events.json",
    )


_WORST_FIRST = ("other-form", "unreadable", "not-an-event", "discarded", "left-out")
_MEANINGS = {
    "other-form": "{count} objects describe events in a form that is not read",
    "unreadable": "{count} lines or files could not be read",
    "not-an-event": "{count} objects are something else",
    "discarded": "{count} events were discarded by the exporter",
    "left-out": "{count} files have no event in their first part",
}


def _add_saved(database: duckdb.DuckDBPyConnection, stacks: _Stacks) -> None:
    """Copy the rows of an events.parquet."""
    for index, recording in enumerate(stacks.recordings):
        for path in recording.files:
            if path.suffix == ".parquet":
                columns = ", ".join(_SAVED.get(name, name) for name in COLUMNS)
                query = f"INSERT INTO kept.event SELECT {columns} FROM read_parquet($path) "
                query += "WHERE run = $run AND stack = $stack"
                rec = stacks.number(index, "")
                names = {"path": str(path), "run": recording.run, "stack": recording.stack}
                database.execute(query, names | {"rec": rec})


_SAVED = {
    "rec": "$rec",
    "at_ns": 'epoch_ns("at")',
    "last_ns": "epoch_ns(last_at)",
}


def _short(path: Path, recording: Recording) -> str:
    """Return a file's name within its recording, so that moving the data changes no table."""
    return path.relative_to(recording.root).as_posix() if path != recording.root else path.name


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _nanoseconds(at: datetime | None) -> int | None:
    if at is None or at.year < _FIRST_YEAR:
        return None
    if at.year > _LAST_YEAR:
        raise _UnbelievableError(f"a time in the year {at.year}")
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _name_nanoseconds(name: str) -> int | None:
    """Return the time in an event's name; schema.events.name_time keeps only microseconds."""
    suffix = name[-16:]
    if name[-17:-16] != "." or not suffix.isalnum():
        return None
    try:
        nanoseconds = int(suffix, 16)
    except ValueError:
        return None
    return nanoseconds if 10**18 < nanoseconds < 4 * 10**18 else None


_REASON, _KIND, _IMAGE = (list(COLUMNS).index(name) for name in ("reason", "kind", "image"))


def _row(event: Event, number: int, file: str, source: str) -> tuple[Any, ...]:
    metadata, involved, labels = event.metadata, event.involved, event.involved.labels
    name, reason, message = metadata.name or "", event.reason or "", event.message or ""
    at_ns, clock = _at(event, name)
    series = event.series
    last_ns = _nanoseconds((series and series.last_observed) or event.last_timestamp)
    count = _count((series and series.count) or event.count, reason)
    uid = metadata.uid or f"{metadata.namespace}/{name}/{reason}/{at_ns}"
    if count > 1 and message.startswith(COMBINED):
        uid, at_ns, clock = f"{uid}/{count}", last_ns or at_ns, "last-seen" if last_ns else clock
        count = 1
    image, pulled = _message_fields(event)
    node = _node(event)
    row = (
        number,
        file,
        source,
        uid,
        reason,
        event.type or "",
        count,
        involved.kind or "",
        involved.namespace or "",
        involved.name or "",
        involved.uid or _identity(event, node),
        involved.field_path or "",
        (event.source and event.source.component) or event.reporting_component or "",
        node,
        at_ns,
        clock,
        last_ns,
        (labels.job_name or labels.old_job_name) if labels else "",
        (labels.job_uid or labels.old_job_uid) if labels else "",
        image,
        *pulled,
        message,
    )
    if sum(len(text) for text in row if text.__class__ is str) > MOST_TEXT:
        raise _UnbelievableError(f"an event of more than {MOST_TEXT} characters")
    return row


def _count(count: float | None, reason: str) -> int:
    """Return how often an event happened, at least once."""
    if not count:
        return 1
    most = MOST_PULLS if reason == "Pulled" else MOST_OFTEN
    if not 0 < count <= most:
        raise _UnbelievableError(f"an event that happened {count:g} times")
    return int(count) or 1


_ASSIGNED = re.compile(r" to (\S+)$")


def _identity(event: Event, node: str) -> str:
    """Return what stands for an object's uid where the events have none.

    Pods of one name, as of a StatefulSet, are distinguished by their node.
    """
    involved = event.involved
    if not involved.name:
        return ""
    if involved.kind != "Pod":
        return f"{involved.namespace or ''}/{involved.name}"
    assigned = _ASSIGNED.search(event.message or "") if event.reason == "Scheduled" else None
    return f"{involved.namespace or ''}/{involved.name}@{assigned[1] if assigned else node}"


def _node(event: Event) -> str:
    if event.source and event.source.host:
        return event.source.host
    return (event.reporting_instance or "") if event.reporting_component == "kubelet" else ""


def _at(event: Event, name: str) -> tuple[int | None, str]:
    if (from_name := _name_nanoseconds(name)) is not None:
        return from_name, "name"
    if event.event_time is not None:
        return _nanoseconds(event.event_time), "event-time"
    return _nanoseconds(event.first_timestamp or event.last_timestamp), "first-seen"


_NOTHING: tuple[Any, ...] = (None, None, None, None)


def _message_fields(event: Event) -> tuple[str, tuple[Any, ...]]:
    """Return a message's image and (pull_s, pull_and_wait_s, image_bytes, cached)."""
    message = event.message or ""
    if event.reason == "Pulled":
        pulled = parse_pulled(message)
        if pulled:
            return pulled.image, (
                pulled.pull_s,
                pulled.pull_and_wait_s,
                pulled.image_bytes,
                pulled.cached,
            )
    elif event.reason == "Pulling":
        return parse_pulling(message) or "", _NOTHING
    elif event.reason in {"Failed", "BackOff"}:
        return parse_failed(message) or "", _NOTHING
    return "", _NOTHING
