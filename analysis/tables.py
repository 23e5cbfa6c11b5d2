"""Writes the tables: events, pulls, cells, summary; CSV for people, Parquet for programs.

Every row has its origin (run, stack, provenance). The order of rows depends only on what was
recorded, not on the order of files or lines. Percentiles use linear interpolation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from analysis.csv_files import cannot_write, write_csv
from analysis.judge.cells import PHASE_TIMES, derive_cells, image_parts
from analysis.judge.pulls import derive_pulls
from analysis.judge.wall_time import WallTime
from analysis.judge.wall_time_table import derive_times
from analysis.legacy_json import write_raw_times
from analysis.read.bulk import FEW_EVENTS, count_events, count_parts, fill_in_parts, make_table
from analysis.read.event_table import Progress, open_event_table
from analysis.read.load_runs import NothingRecordedError, Recording, find_recordings
from analysis.read.read_events import Notes
from schema.errors import UserError
from schema.evidence_records import CLOCK_OFF_S

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("pulls", "cells", "summary", "other_pulls")

_SHRUNK = "64MB"

_FORMS = {
    # Small groups, since a group is held in memory until it is written.
    ".parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30_720",
    ".csv": "FORMAT csv, HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'",
}


_FORMULA = r"^[=+\-@\t\r]"
_HIDDEN = r"[\x{2028}\x{2029}]|[^\P{C}\n\t]"
"""RE2 patterns of texts that a spreadsheet computes, and of characters that a terminal obeys."""


class TooMuchError(UserError):
    """The events do not fit into memory and temporary files."""


def _time(name: str) -> str:
    return f"make_timestamp({name}_ns // 1000) AS {name}_at"


def _seconds(begin: str, end: str) -> str:
    return f"({end}_ns - {begin}_ns) / 1e9"


def _span(name: str, begin: str, end: str, *, on_node: bool = False, off: str = "") -> str:
    # A second on a node that runs N times faster than the clock counts N (schema.run_records).
    seconds = f"{_seconds(begin, end)}{' * s.speed' if on_node else ''}"
    return (
        f"CASE WHEN {off} THEN NULL ELSE {seconds} END AS {name}" if off else f"{seconds} AS {name}"
    )


# Times of two clocks that are known to differ have no difference.
_NODE_OFF = "node_off_s IS NOT NULL"
_SCHEDULER_OFF = "scheduler_off_s IS NOT NULL"
_APART = f"abs(coalesce(node_off_s, 0) - coalesce(scheduler_off_s, 0)) > {CLOCK_OFF_S}"

_OWN = "(s.own_s + coalesce(reading_s, 0))"

_SPANS = (
    _span("scheduling_s", "released", "scheduled", off=_SCHEDULER_OFF),
    _span("waiting_s", "scheduled", "pulling", off=_APART),
    _span("init_s", "view_started", "pulling", on_node=True),
    _span("pulling_s", "pulling", "pulled", on_node=True),
    _span("creating_s", "pulled", "created", on_node=True),
    _span("starting_s", "created", "started", on_node=True),
    _span("running_s", "started", "container_end", on_node=True),
    f"greatest(0, {_seconds('started', 'container_end')} * s.speed - {_OWN}) AS settling_s",
    _span("completing_s", "container_end", "job_complete", off=_NODE_OFF),
    _span("started_to_complete_s", "started", "job_complete", off=_NODE_OFF),
)

# Of one clock each: by the runner's until the node begins, then by the node's.
_START = (
    "(coalesce(pulling_ns, pulled_ns, started_ns) - coalesce(released_ns, scheduled_ns)"
    " + (started_ns - coalesce(pulling_ns, pulled_ns, started_ns)) * s.speed) / 1e9"
)
_READY = {
    f"ready_{share}_s": f"CASE WHEN NOT ({_NODE_OFF}) THEN {_START} + read_{share}_s END"
    for share in (10, 50, 100)
}

# Nothing was pulled, whatever the kubelet says: no pull time of it is shown with pulls.
_PRELOADED = "coalesce(c.status = 'preloaded', false)"
_PULL_TIMES = ", ".join(
    f"CASE WHEN NOT {_PRELOADED} THEN {value} END AS {name}"
    for name, value in (
        ("pull_s", "p.pull_s"),
        ("pull_and_wait_s", "p.pull_and_wait_s"),
        ("pulling_s", "(p.ended_ns - p.begun_ns) / 1e9 * s.speed"),
    )
)

_VIEWS = f"""
CREATE VIEW pulls AS
SELECT s.run, s.stack, p.file, s.nodes, s.machine_type, s.zone, p.image, i.tag, i.layers,
    i.size_bytes, p.image_bytes, p.node, p.pod, p.job, p.repetition,
    CASE WHEN {_PRELOADED} THEN 'cached' ELSE p.outcome END AS outcome,
    {_PULL_TIMES},
    make_timestamp(p.begun_ns // 1000) AS started_at,
    make_timestamp(p.ended_ns // 1000) AS ended_at,
    CASE WHEN {_PRELOADED} THEN c.status WHEN p.outcome IN ('cached', 'failed') THEN p.outcome
        WHEN p.outcome = 'not ended' THEN 'missing-events'
        ELSE coalesce(c.status, 'missing-events') END AS status,
    CASE WHEN {_PRELOADED} THEN c.reason
        WHEN p.outcome = 'cached' THEN 'the image was already on the node'
        WHEN p.outcome = 'failed' THEN 'the pull failed: ' || p.failure
        WHEN p.outcome = 'not ended' THEN 'Pulling was recorded but no end of the pull'
        ELSE coalesce(c.reason, 'the ledger has no such cell') END AS reason,
    s.provenance, p.object_uid AS pod_uid
FROM studied_pull AS p
JOIN stack AS s USING (rec)
JOIN image AS i USING (image)
LEFT JOIN cell AS c ON c.rec = p.rec AND c.image = p.image AND c.node = p.node
    AND CASE WHEN p.rec IN (SELECT rec FROM with_ledger)
        THEN c.pod_uid = p.object_uid ELSE c.repetition = p.repetition END
ORDER BY s.run, s.nodes, s.stack, i.size_bytes, p.image, p.ended_ns, p.node, p.object_uid, p.turn;

CREATE VIEW cells AS
SELECT s.run, s.stack, c.trial, c.repetition, s.nodes, s.machine_type, s.zone, c.image, i.tag,
    i.layers, i.size_bytes, c.image_bytes, c.warm_bytes, c.cache, c.node, c.pod, c.status, c.reason,
    c.marks,
    c.pull_s, c.pull_and_wait_s,
    {", ".join(_SPANS)},
    c.fetch_s, c.unpack_s, c.overlap_s,
    c.read_bytes, c.reading_s, c.read_10_s, c.read_50_s, c.read_100_s,
    {", ".join(f"{seconds} AS {name}" for name, seconds in _READY.items())},
    c.received_bytes, c.written_bytes, c.disk_bytes, round(t.trial_s, 6) AS trial_s,
    round(t.trial_usd, 9) AS trial_usd,
    round(t.trial_usd / n.cells, 9) AS usd,
    {", ".join(_time(name) for name in PHASE_TIMES)},
    s.provenance, c.cluster AS cluster_uid, c.pod_uid
FROM cell AS c JOIN stack AS s USING (rec) JOIN image AS i USING (image)
LEFT JOIN (SELECT rec, trial, count(*) AS cells FROM cell GROUP BY ALL) AS n
    ON n.rec = c.rec AND n.trial = c.trial
LEFT JOIN trial_time AS t ON t.rec = c.rec AND t.trial = c.trial
ORDER BY s.run, s.nodes, s.stack, c.trial, c.repetition, i.size_bytes, c.image, c.node;

CREATE VIEW other_pulls AS
SELECT s.run, s.stack, p.file, s.nodes, p.image, p.image_bytes, p.node, p.pod, p.outcome,
    p.pull_s, p.pull_and_wait_s, make_timestamp(p.begun_ns // 1000) AS started_at, s.provenance
FROM pull AS p JOIN stack AS s USING (rec) ANTI JOIN studied USING (rec, image)
ORDER BY s.run, s.nodes, s.stack, p.image, p.ended_ns, p.node, p.object_uid, p.turn;

CREATE VIEW events AS
SELECT s.run, s.stack, e.file, e.source, e.uid, e.reason, e.type, e.count, e.kind, e.namespace,
    e.object, e.object_uid, e.container, e.component, e.node, make_timestamp_ns(e.at_ns) AS at,
    e.clock, make_timestamp_ns(e.last_ns) AS last_at, e.job, e.job_uid, e.image, e.pull_s,
    e.pull_and_wait_s, e.image_bytes, e.cached, e.message, s.nodes, s.machine_type, s.provenance
FROM event AS e JOIN stack AS s USING (rec)
ORDER BY s.run, s.nodes, s.stack, e.at_ns, e.uid;
"""

_STATISTICS = (
    ("min", "min({0})"),
    ("median", "quantile_cont({0}, 0.5)"),
    ("mean", "avg({0}::DECIMAL(18, 9))"),
    ("p95", "quantile_cont({0}, 0.95)"),
    ("max", "max({0})"),
)


def _statistics(prefix: str = "", where: str = "") -> str:
    # Rounded to a nanosecond, the precision of kubelets.
    return ",\n    ".join(
        f"round({formula.format(name)}{where}, 9) AS {prefix}{name}_{statistic}"
        for name in ("pull_s", "pull_and_wait_s")
        for statistic, formula in _STATISTICS
    )


_READY_MEDIANS = ", ".join(
    f"round(median({seconds}) FILTER (status IN ('valid', 'preloaded')), 9) AS {name}_median"
    for name, seconds in _READY.items()
)

_EVERY = f"""
SELECT rec, image, count(*) AS n, count(DISTINCT node) AS nodes_pulled,
    {_statistics()}
FROM studied_pull WHERE outcome = 'pulled' AND hash(image) % $parts = $part GROUP BY ALL
"""

_JUDGED = f"""
SELECT rec, image, count(*) AS cells,
    count(*) FILTER (status = 'valid') AS valid_n,
    count(DISTINCT node) FILTER (status = 'valid') AS valid_nodes,
    {_statistics("valid_", " FILTER (status = 'valid')")},
    max(image_bytes) AS image_bytes, median(warm_bytes)::BIGINT AS warm_bytes,
    median(received_bytes)::BIGINT AS received_bytes,
    median(written_bytes)::BIGINT AS written_bytes, median(disk_bytes)::BIGINT AS disk_bytes,
    {_READY_MEDIANS}
FROM cell JOIN stack AS s USING (rec) WHERE hash(image) % $parts = $part GROUP BY ALL
"""

_SUMMARY = """
CREATE VIEW summary AS
WITH spent AS (
    SELECT rec, image, sum(trial_s) AS trial_s, sum(trial_usd) AS usd
    FROM trial_time JOIN (SELECT DISTINCT rec, trial, image FROM cell) USING (rec, trial)
    GROUP BY ALL
)
SELECT s.run, s.stack, s.nodes, s.machine_type, s.zone, i.image, i.tag, i.layers, i.size_bytes,
    judged.image_bytes, judged.warm_bytes, coalesce(n, 0) AS n,
    coalesce(nodes_pulled, 0) AS nodes_pulled, every.* EXCLUDE (rec, image, n, nodes_pulled),
    judged.cells, judged.cells - valid_n AS excluded,
    judged.* EXCLUDE (rec, image, cells, image_bytes, warm_bytes),
    round(trial_s, 6) AS trial_s, round(usd, 9) AS usd, s.provenance
FROM judged LEFT JOIN every USING (rec, image) LEFT JOIN spent USING (rec, image)
JOIN stack AS s USING (rec) JOIN image AS i USING (image)
ORDER BY s.run, s.nodes, s.stack, i.size_bytes, i.image;
"""


class Tables:
    """The tables of some recordings, to query or write.

    Attributes:
        database: has the views pulls, cells, summary, other_pulls and events, and the tables of
            the judge modules, with `rec` as the key of the table `stack`.
        recordings: what was read.
        notes: lines that are not events.
        times: where the wall time went, by rec.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        recordings: Sequence[Recording],
        notes: Notes,
        times: Mapping[int, WallTime],
    ) -> None:
        self.database = database
        self.recordings = tuple(recordings)
        self.notes = notes
        self.times = times

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query, each by column name."""
        result = self.database.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, values, strict=True)) for values in result.fetchall()]

    def shrink(self) -> None:
        """Give back memory that was kept for queries, and allow as much again."""
        ((limit,),) = self.database.execute("SELECT current_setting('memory_limit')").fetchall()
        for size in (_SHRUNK, limit):
            self.database.execute(f"SET memory_limit = '{size}'")

    def frame(self, name: str, limit: int | None = None) -> "pd.DataFrame":
        """Return a view as a DataFrame as DuckDB makes it; frames.py gives it its dtypes."""
        return self.database.execute(f"FROM {name} LIMIT {'ALL' if limit is None else limit}").df()


@contextmanager
def open_tables(
    inputs: Sequence[Path], images: str | None = None, progress: Progress | None = None
) -> Iterator[Tables]:
    """Read recordings and derive all tables from them.

    Args:
        inputs: run folders, folders in the layout of the original study, or files with events.
        images: regular expression of the study's images (see pulls.derive_pulls).
        progress: called with the number of events read.

    Raises:
        NothingRecordedError: an input has no file that may contain events.
        DamagedRunError: a run folder cannot be read.
        UnreadableFileError: a file cannot be opened.
        TooMuchError: there is too little memory or disk.
    """
    try:
        with _derived(find_recordings(inputs), images, progress) as tables:
            yield tables
    except duckdb.OutOfMemoryException as error:
        detail = str(error).partition("\n")[0]
        raise TooMuchError(
            f"The events need more memory or more space for temporary files: {detail}.",
            "name fewer recordings at a time, or free disk space where TMPDIR is",
        ) from error


@contextmanager
def _derived(
    recordings: Sequence[Recording], images: str | None, progress: Progress | None
) -> Iterator[Tables]:
    notes = Notes()
    for recording in recordings:
        for file, line, what in recording.folder.damage if recording.folder else ():
            notes.add(file, line, "unreadable", what)
    with open_event_table(recordings, notes, progress) as database:
        if not any(recording.folder for recording in recordings) and not (
            database.execute("FROM event LIMIT 1").fetchone()
        ):
            raise NothingRecordedError(
                f"No event was found in {', '.join(str(each.root) for each in recordings[:3])}; "
                f"{notes.total('unreadable')} lines could not be read.",
                "kubectl get events --all-namespaces --output json writes a file that can be read",
            )
        derive_pulls(database, recordings, images)
        derive_cells(database, recordings)
        times = derive_times(database, recordings)
        _make_images(database)
        parts = count_parts(database)
        fill_in_parts(database, "every", _EVERY, parts)
        fill_in_parts(database, "judged", _JUDGED, parts)
        database.execute(_VIEWS + _SUMMARY)
        yield Tables(database, recordings, notes, times)


def write_tables(tables: Tables, out: Path) -> list[Path]:
    """Write all tables into a folder, which is created if missing; existing ones are replaced.

    Raises:
        OutputError: the folder cannot be written.
    """
    work: list[tuple[Callable[[duckdb.DuckDBPyConnection, Path], Sequence[Path]], str]] = [
        (partial(_copy, "events"), "events.parquet"),
        *((partial(_copy_twice, name), f"{name}.parquet") for name in TABLES),
        (write_raw_times, "raw-times.json"),
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2 if count_events(tables.database) <= FEW_EVENTS else 1) as pool:
            writing = [
                pool.submit(write, tables.database.cursor(), out / name) for write, name in work
            ]
            written = [path for one in writing for path in one.result()]
        names = ("file", "line", "kind", "detail")
        written.append(write_csv(out / "notes.csv", names, _note_rows(tables.notes)))
    except (OSError, duckdb.IOException) as error:
        raise cannot_write(out, error) from error
    return written


def _copy(source: str, database: duckdb.DuckDBPyConnection, path: Path) -> list[Path]:
    database.execute(f"COPY (FROM {source}) TO {_quoted(path)} ({_FORMS[path.suffix]})")
    return [path]


def _copy_twice(view: str, database: duckdb.DuckDBPyConnection, path: Path) -> list[Path]:
    """Write a view as Parquet, and the same rows in the same order as CSV."""
    table = path.with_suffix(".csv")
    _copy(view, database, path)
    # From the file, since sorting rows as text takes more memory; with another connection, since
    # the database's does not keep the order of rows.
    with duckdb.connect(config={"threads": 1, "memory_limit": "64MB"}) as own:
        source = f"read_parquet({_quoted(path)})"
        kinds = own.execute(f"DESCRIBE FROM {source}").fetchall()
        columns = ", ".join(_inert(name) if kind == "VARCHAR" else name for name, kind, *_ in kinds)
        _copy(f"(SELECT {columns} FROM {source})", own, table)
    return [path, table]


def _inert(column: str) -> str:
    """Return SQL for a text column as inert.csv_cell makes it, control characters as U+FFFD.

    One match for each value, since almost none needs a change.
    """
    return (
        f"CASE WHEN regexp_matches({column}, '{_FORMULA}|{_HIDDEN}') THEN "
        f"CASE WHEN regexp_matches({column}, '{_FORMULA}') THEN chr(39) ELSE '' END || "
        f"regexp_replace({column}, '{_HIDDEN}', chr(65533), 'g') ELSE {column} END AS {column}"
    )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _make_images(database: duckdb.DuckDBPyConnection) -> None:
    names = database.execute("SELECT image FROM studied UNION SELECT image FROM cell").fetchall()
    rows = [(name, *image_parts(name)[1:]) for (name,) in names]
    kinds = {"image": "text", "tag": "text", "layers": "whole", "size_bytes": "whole"}
    make_table(database, "image", kinds, rows)


def _note_rows(notes: Notes) -> Iterator[tuple[object, ...]]:
    """Yield lines that are not events, by file and line; a file's notes past 10,000 are one row."""
    for note in sorted(notes.listed, key=lambda n: (n.file, n.line, n.kind, n.detail)):
        yield note.file, note.line, note.kind, note.detail
    for (name, kind), count in sorted(notes.counts.items()):
        listed = sum(1 for n in notes.listed if (n.file, n.kind) == (name, kind))
        if count > listed:
            yield name, "", kind, f"{count - listed} more lines of this kind"
