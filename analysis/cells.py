"""The cells of all recordings: every studied image on every node, with status and phases.

For a run of this project its ledger says what became of each cell; for all else the evidence is
gathered here and judged by exclusions.py. Makes the table `cell` beside those of pulls.py; a cell
without any evidence is a row too.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import duckdb

from analysis.arrow import BATCH, make_table
from analysis.exclusions import Evidence, judge
from analysis.load_runs import Recording
from analysis.pulls import PRESSURE_LASTS_S
from schema.image_tag import find_tag
from schema.run_records import CellRecord

PHASE_TIMES = (
    "released",
    "scheduled",
    "pulling",
    "pulled",
    "created",
    "started",
    "finished",
    "job_complete",
)
"""The moments of a cell, in their order; columns NAME_ns of `cell`, nanoseconds since 1970."""

COLUMNS = {
    "run": "text",
    "stack": "text",
    "trial": "whole",
    "repetition": "whole",
    "attempt": "whole",
    "image": "text",
    "node": "text",
    "pod": "text",
    "pod_uid": "text",
    "status": "text",
    "reason": "text",
    "pull_s": "real",
    "pull_and_wait_s": "real",
    "image_bytes": "whole",
    "warm_bytes": "whole",
    **{f"{name}_ns": "whole" for name in PHASE_TIMES},
}
"""Columns of the table `cell`."""

_EVIDENCE = """
CREATE TABLE studied_pull AS
WITH mine AS (SELECT p.* FROM pull AS p JOIN studied USING (run, stack, image)),
real_job AS (
    SELECT run, stack, image, node, job_uid,
        row_number() OVER (PARTITION BY run, stack, image, node
            ORDER BY min(ended_ns), job_uid) AS repetition
    FROM mine WHERE outcome = 'pulled' GROUP BY run, stack, image, node, job_uid
)
SELECT mine.*, coalesce(real_job.repetition, 1)::INTEGER AS repetition
FROM mine LEFT JOIN real_job USING (run, stack, image, node, job_uid);

CREATE TABLE evidence AS
WITH bound AS (
    SELECT run, stack, image, node, count(*) AS pods
    FROM pod JOIN (
        SELECT DISTINCT run, stack, job_uid, image FROM studied_pull WHERE job_uid <> ''
    ) AS job_image USING (run, stack, job_uid)
    GROUP BY ALL
),
seen AS (
    SELECT run, stack, image, node, repetition,
        count(DISTINCT object_uid) AS pods,
        sum(pulling) FILTER (turn = 1) AS pulling,
        count(*) FILTER (outcome = 'pulled') AS pulled,
        count(*) FILTER (outcome = 'cached') AS cached,
        sum(failed) FILTER (turn = 1) AS failed,
        max(failure) AS failure,
        max(eviction) AS eviction,
        arg_min(struct_pack(pod, pod_uid := object_uid, job_uid, pull_s, pull_and_wait_s,
                image_bytes, scheduled_ns, begun_ns, ended_ns, created_ns, started_ns),
            (outcome <> 'pulled', coalesce(ended_ns, begun_ns, scheduled_ns), object_uid)) AS first,
        min(least(scheduled_ns, begun_ns, ended_ns)) AS from_ns,
        max(greatest(ended_ns, started_ns)) AS to_ns
    FROM studied_pull GROUP BY ALL
),
grid AS (
    SELECT run, stack, image, node, 1 AS repetition FROM studied JOIN stack_nodes USING (run, stack)
),
trial AS (
    SELECT run, stack, image,
        row_number() OVER (PARTITION BY run, stack
            ORDER BY min(coalesce(begun_ns, ended_ns, scheduled_ns)), image) AS trial
    FROM studied_pull GROUP BY run, stack, image
)
SELECT run, stack, trial.trial, repetition, image, node,
    greatest(coalesce(seen.pods, 0), coalesce(bound.pods, 0)) AS pods,
    (sum(coalesce(bound.pods, seen.pods, 0)) OVER (PARTITION BY run, stack, image, repetition))
        AS all_pods,
    seen.* EXCLUDE (run, stack, image, node, repetition, pods, first), first.*,
    job.complete_ns
FROM grid
FULL OUTER JOIN seen USING (run, stack, image, node, repetition)
LEFT JOIN bound USING (run, stack, image, node)
LEFT JOIN trial USING (run, stack, image)
LEFT JOIN job ON job.run = run AND job.stack = stack AND job.job_uid = first.job_uid
"""

_TROUBLE = """
SELECT run, stack, CASE WHEN kind = 'Node' THEN object ELSE node END AS node, at_ns, reason
FROM event
WHERE reason IN ('NodeHasDiskPressure', 'EvictionThresholdMet', 'FreeDiskSpaceFailed',
    'ImageGCFailed', 'NodeHasNoDiskPressure', 'NodeNotReady', 'NodeReady', 'RemovingNode',
    'NodeShutdown') AND at_ns IS NOT NULL
ORDER BY ALL
"""

_LOST = frozenset({"NodeNotReady", "RemovingNode", "NodeShutdown"})
_PRESSED = frozenset(
    {"NodeHasDiskPressure", "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed"}
)

_MEASURES = ("pull_s", "pull_and_wait_s", "image_bytes")

_Key = tuple[str, str]
_Row = dict[str, Any]


class Troubles:
    """When nodes were short of disk or not ready."""

    def __init__(self, events: Iterable[tuple[str, str, str, int, str]]) -> None:
        """Read (run, stack, node, at_ns, reason) in the order of time within a node."""
        self._spans: dict[tuple[str, str, str], list[tuple[int, int, str]]] = defaultdict(list)
        for run, stack, node, at, reason in events:
            spans = self._spans[run, stack, node]
            if reason in _PRESSED:
                spans.append((at, at + PRESSURE_LASTS_S * 10**9, reason))
            elif reason in _LOST:
                spans.append((at, 2**62, reason))
            else:
                over = _PRESSED if reason == "NodeHasNoDiskPressure" else _LOST
                spans[:] = [
                    (begin, min(end, at) if why in over else end, why) for begin, end, why in spans
                ]

    def during(self, key: tuple[str, str, str], begin: int | None, end: int | None) -> list[str]:
        """Reasons of the troubles of a node (run, stack, node) that overlap with a span."""
        spans = self._spans.get(key)
        if not spans or begin is None or end is None:
            return []
        later = bisect_right(spans, (end, 2**63, ""))
        return [reason for _, until, reason in spans[:later] if until >= begin]


def derive_cells(database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]) -> None:
    """Make the tables cell (columns as COLUMNS), studied_pull and evidence."""
    database.execute(_EVIDENCE)
    troubles = Troubles(database.execute(_TROUBLE).fetchall())
    told: dict[_Key, Sequence[CellRecord]] = {
        (r.run, r.stack): r.folder.cells for r in recordings if r.folder and r.folder.cells
    }
    rows = chain(_ledger_rows(told), _judged_rows(database.cursor(), set(told), troubles))
    make_table(database, "cell", COLUMNS, (tuple(map(row.get, COLUMNS)) for row in rows))


def _judged_rows(
    cursor: duckdb.DuckDBPyConnection, told: set[_Key], troubles: Troubles
) -> Iterator[_Row]:
    result = cursor.execute("SELECT * FROM evidence")
    names = [column[0] for column in result.description or ()]
    while batch := result.fetchmany(BATCH):
        for values in batch:
            row = dict(zip(names, values, strict=True))
            if (row["run"], row["stack"]) not in told:
                yield _judged(row, troubles)


def _judged(row: _Row, troubles: Troubles) -> _Row:
    key = (row["run"], row["stack"], row["node"])
    during = troubles.during(key, row["from_ns"], row["to_ns"])
    status, reason = judge(
        Evidence(
            pods=row["pods"],
            pulling=int(row["pulling"] or 0),
            pulled=row["pulled"] or 0,
            cached=row["cached"] or 0,
            failed=int(row["failed"] or 0),
            failure=row["failure"] or "",
            eviction=row["eviction"] or "",
            pressure=next((why for why in during if why in _PRESSED), ""),
            lost=next((why for why in during if why in _LOST), ""),
            earlier=row["repetition"] > 1,
            elsewhere=int(row["all_pods"] or 0) - row["pods"],
        )
    )
    return row | {
        "attempt": 1,
        # Only one real pull has a duration that is the cell's.
        **({} if row["pulled"] == 1 else dict.fromkeys(_MEASURES)),
        "status": status.value,
        "reason": reason,
        "pulling_ns": row["begun_ns"],
        "pulled_ns": row["ended_ns"],
        "job_complete_ns": row["complete_ns"],
    }


def _ledger_rows(told: dict[_Key, Sequence[CellRecord]]) -> Iterator[_Row]:
    for (run, stack), cells in told.items():
        for cell in cells:
            times = {
                f"{name}_ns": _nanoseconds(getattr(cell.phases, f"{name}_at"))
                for name in PHASE_TIMES
            }
            yield (
                cell.model_dump(include=set(COLUMNS))
                | times
                | {
                    "run": run,
                    "stack": stack,
                    "image": cell.reference,
                    "status": cell.status.value,
                }
            )


def _nanoseconds(at: datetime | None) -> int | None:
    if at is None:
        return None
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def image_parts(image: str) -> tuple[str, str, int | None, int | None]:
    """Repository, tag, and the layers and bytes that the tag claims, of an image's reference."""
    name, _, _ = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    claim = find_tag(tag)
    return repository, tag, claim.layers if claim else None, claim.size_bytes if claim else None
