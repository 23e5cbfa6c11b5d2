"""The cells of all recordings: every studied image on every node, with status and phases.

For a run of this project the ledger has the status of each cell; for other recordings the evidence
is collected here and judged by exclusions.py. Creates the table `cell` in addition to those of
pulls.py; a cell without any evidence is also a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import duckdb

from analysis.judge.exclusions import (
    ENDS,
    FASTEST_BYTES_PER_S,
    LOSS,
    PRESSURE,
    TROUBLE,
    Evidence,
    judge,
    trouble_spans,
)
from analysis.judge.node_counters import moved_bytes
from analysis.judge.trial_moments import clock_offsets, container_ends, scheduler_offsets
from analysis.read.bulk import count_parts, fill_in_parts, make_table
from analysis.read.load_runs import Recording
from analysis.read.read_records import RunFolder
from schema.image_tag import find_tag

PHASE_TIMES = (
    "released",
    "scheduled",
    "view_started",
    "pulling",
    "pulled",
    "created",
    "started",
    "finished",
    "job_complete",
)
"""The timestamps of a cell, in order; columns NAME_ns of `cell`, nanoseconds since 1970. Only a
MiniCluster has a view."""

COLUMNS = {
    "rec": "whole",
    "trial": "whole",
    "repetition": "whole",
    "attempt": "whole",
    "image": "text",
    "node": "text",
    "pod": "text",
    "pod_uid": "text",
    "status": "text",
    "reason": "text",
    "marks": "text",
    "cluster": "text",
    "cache": "text",
    "pull_s": "real",
    "pull_and_wait_s": "real",
    "image_bytes": "whole",
    "warm_bytes": "whole",
    "received_bytes": "whole",
    "written_bytes": "whole",
    "disk_bytes": "whole",
    "fetch_s": "real",
    "unpack_s": "real",
    "overlap_s": "real",
    "read_bytes": "whole",
    "reading_s": "real",
    "read_10_s": "real",
    "read_50_s": "real",
    "read_100_s": "real",
    **{f"{name}_ns": "whole" for name in PHASE_TIMES},
    "container_end_ns": "whole",
    "node_off_s": "real",
    "scheduler_off_s": "real",
}
"""Columns of the table `cell`; received, written and disk bytes are the growth during the trial.

`finished_ns` is the kubelet's whole second, `container_end_ns` the estimated time within it
(trial_moments.container_ends). node_off_s and scheduler_off_s are the runner's clock less theirs,
where that is off.
"""

_STUDIED_PULL = """
WITH mine AS (
    SELECT p.* FROM pull AS p JOIN studied USING (rec, image)
    WHERE hash(image, node) % $parts = $part
),
real_job AS (
    SELECT rec, image, node, job_uid,
        row_number() OVER (PARTITION BY rec, image, node
            ORDER BY min(ended_ns), job_uid) AS repetition
    FROM mine WHERE outcome = 'pulled' GROUP BY rec, image, node, job_uid
)
SELECT mine.*, coalesce(real_job.repetition, 1)::INTEGER AS repetition
FROM mine LEFT JOIN real_job USING (rec, image, node, job_uid)
"""

_TRIALS = """
CREATE TABLE job_image AS
SELECT DISTINCT rec, job_uid, image FROM studied_pull WHERE job_uid <> '';
CREATE TABLE trial_number AS
SELECT rec, image,
    row_number() OVER (PARTITION BY rec
        ORDER BY min(coalesce(begun_ns, ended_ns, scheduled_ns)), image) AS trial
FROM studied_pull GROUP BY rec, image;
"""

_EVIDENCE = """
WITH bound AS (
    SELECT rec, image, node, count(*) AS pods FROM pod JOIN job_image USING (rec, job_uid)
    WHERE hash(image, node) % $parts = $part GROUP BY ALL
),
seen AS (
    SELECT rec, image, node, repetition,
        count(DISTINCT object_uid) AS pods,
        sum(pulling) FILTER (turn = 1) AS pulling,
        count(*) FILTER (outcome = 'pulled') AS pulled,
        count(*) FILTER (outcome = 'cached') AS cached,
        sum(failed) FILTER (turn = 1) AS failed,
        max(failure) AS failure,
        max(eviction) AS eviction,
        arg_min(rowid, (outcome <> 'pulled', coalesce(ended_ns, begun_ns, scheduled_ns),
            object_uid)) AS first,
        min(least(scheduled_ns, begun_ns, ended_ns)) AS from_ns,
        max(greatest(ended_ns, started_ns)) AS to_ns
    FROM studied_pull WHERE hash(image, node) % $parts = $part GROUP BY ALL
),
first AS (
    SELECT rowid AS first, pod, object_uid AS pod_uid, job_uid, pull_s, pull_and_wait_s,
        image_bytes, scheduled_ns, begun_ns, ended_ns, created_ns, started_ns
    FROM studied_pull WHERE hash(image, node) % $parts = $part
),
grid AS (
    SELECT rec, image, node, 1 AS repetition FROM studied JOIN stack_nodes USING (rec)
    WHERE hash(image, node) % $parts = $part
)
SELECT rec, trial, repetition, image, node,
    greatest(coalesce(seen.pods, 0), coalesce(bound.pods, 0)) AS pods,
    coalesce(bound.pods, seen.pods, 0) AS bound_pods,
    coalesce(seen.pulling, 0)::BIGINT AS pulling, coalesce(seen.pulled, 0) AS pulled,
    coalesce(seen.cached, 0) AS cached, coalesce(seen.failed, 0)::BIGINT AS failed,
    coalesce(seen.failure, '') AS failure, coalesce(seen.eviction, '') AS eviction,
    seen.from_ns, seen.to_ns, first.* EXCLUDE (first), job.complete_ns
FROM grid
FULL OUTER JOIN seen USING (rec, image, node, repetition)
LEFT JOIN first USING (first)
LEFT JOIN bound USING (rec, image, node)
LEFT JOIN trial_number USING (rec, image)
LEFT JOIN job ON job.rec = seen.rec AND job.job_uid = first.job_uid
"""

_TROUBLE_EVENTS = f"""
SELECT rec, CASE WHEN kind = 'Node' THEN object ELSE node END AS node, at_ns,
    coalesce(last_ns, at_ns), reason
FROM event WHERE list_contains(?, reason) AND at_ns IS NOT NULL AND ({TROUBLE}) ORDER BY ALL
"""

# Thousands of cells share a few kinds of evidence; each kind is judged once.
_KINDS = """
CREATE TABLE weighed AS
SELECT e.*, coalesce(t.pressure, '') AS pressure, coalesce(t.lost, '') AS lost,
    e.repetition > 1 AS earlier,
    coalesce(
        e.image_bytes / {fastest} > coalesce(pull_s, pull_and_wait_s, (ended_ns - begun_ns) / 1e9)
        AND e.rec NOT IN (SELECT rec FROM event WHERE reason = 'ImageStreaming'), false
    ) AS moved_nothing,
    every.pods - e.pods AS elsewhere
FROM evidence AS e ANTI JOIN with_ledger USING (rec)
JOIN (
    SELECT rec, image, repetition, sum(bound_pods)::BIGINT AS pods FROM evidence GROUP BY ALL
) AS every USING (rec, image, repetition)
LEFT JOIN (
    SELECT e.rec, e.image, e.node, e.repetition,
        arg_min(why, since) FILTER (NOT loss) AS pressure, arg_min(why, since) FILTER (loss) AS lost
    FROM evidence AS e JOIN trouble AS t
        ON t.rec = e.rec AND t.node = e.node AND t.since <= e.to_ns AND t.until >= e.from_ns
    GROUP BY ALL
) AS t USING (rec, image, node, repetition);
CREATE TABLE kind AS SELECT row_number() OVER () AS kind, * FROM (
    SELECT DISTINCT {fields} FROM weighed
);
"""

_JUDGED = """
INSERT INTO cell BY NAME
SELECT rec, trial, repetition, 1 AS attempt, image, node, pod, pod_uid, status, reason,
    -- A cell has a duration only if it has exactly one real pull.
    CASE WHEN pulled = 1 THEN pull_s END AS pull_s,
    CASE WHEN pulled = 1 THEN pull_and_wait_s END AS pull_and_wait_s,
    image_bytes, scheduled_ns, begun_ns AS pulling_ns, ended_ns AS pulled_ns, created_ns,
    started_ns, complete_ns AS job_complete_ns
FROM weighed JOIN kind USING ({fields}) JOIN verdict USING (kind)
"""

_FIELDS = tuple(field.name for field in fields(Evidence))


def derive_cells(database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]) -> None:
    """Create the tables cell (columns as COLUMNS), studied_pull and evidence."""
    parts = count_parts(database)
    fill_in_parts(database, "studied_pull", _STUDIED_PULL, parts)
    database.execute(_TRIALS)
    fill_in_parts(database, "evidence", _EVIDENCE, parts)
    folders = {
        rec: recording.folder
        for rec, run, stack in database.execute("SELECT rec, run, stack FROM stack").fetchall()
        for recording in recordings
        if (recording.run, recording.stack) == (run, stack)
        and recording.folder
        and recording.folder.cells
    }
    make_table(database, "with_ledger", {"rec": "whole"}, [(rec,) for rec in folders])
    rows = (tuple(map(row.get, COLUMNS)) for row in _ledger_rows(folders))
    make_table(database, "cell", COLUMNS, rows)
    _judge(database)


def _judge(database: duckdb.DuckDBPyConnection) -> None:
    """Add the cells of recordings without a ledger."""
    reasons = sorted(PRESSURE | LOSS | ENDS)
    events = database.execute(_TROUBLE_EVENTS, [reasons]).fetchall()
    names = {"rec": "whole", "node": "text", "since": "whole", "until": "whole", "why": "text"}
    make_table(database, "trouble", names | {"loss": "truth"}, trouble_spans(events))
    listed = ", ".join(_FIELDS)
    database.execute(_KINDS.format(fields=listed, fastest=FASTEST_BYTES_PER_S))
    kinds = database.execute(f"SELECT kind, {listed} FROM kind").fetchall()
    verdicts = []
    for kind, *evidence in kinds:
        status, reason = judge(Evidence(**dict(zip(_FIELDS, evidence, strict=True))))
        verdicts.append((kind, status.value, reason))
    make_table(database, "verdict", {"kind": "whole", "status": "text", "reason": "text"}, verdicts)
    database.execute(_JUDGED.format(fields=listed))


def _ledger_rows(folders: Mapping[int, RunFolder]) -> Iterator[dict[str, Any]]:
    for rec, folder in folders.items():
        moved = moved_bytes(folder.stats, folder.cells)
        record, own_s = folder.record, folder.own_s
        off = clock_offsets(folder.evidence)
        schedulers = scheduler_offsets(off, folder.every_cell)
        ends = container_ends(
            folder.trials, folder.cells, speed=record.speed, own_s=own_s, offsets=off
        )
        for cell in folder.cells:
            times = {
                f"{name}_ns": _nanoseconds(getattr(cell.phases, f"{name}_at"))
                for name in PHASE_TIMES
            }
            key = (cell.trial, cell.attempt, cell.node)
            yield (
                cell.model_dump(include=set(COLUMNS))
                | times
                | moved.get(key, {})
                | {
                    "rec": rec,
                    "container_end_ns": round(ends[key] * 1e6) * 1000 if key in ends else None,
                    "node_off_s": off.get((cell.attempt, cell.node)),
                    "scheduler_off_s": schedulers.get(cell.attempt),
                    "image": cell.reference,
                    "status": cell.status.value,
                    "marks": "; ".join(cell.marks),
                }
            )


def _nanoseconds(at: datetime | None) -> int | None:
    if at is None:
        return None
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def image_parts(image: str) -> tuple[str, str, int | None, int | None]:
    """Split a reference into repository, tag, and the layers and bytes that the tag claims."""
    name, _, _ = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    claim = find_tag(tag)
    return repository, tag, claim.layers if claim else None, claim.size_bytes if claim else None
