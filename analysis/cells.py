"""The cells of all recordings: every studied image on every node, with status and phases.

For a run of this project its ledger says what became of each cell; for all else the evidence is
gathered here and judged by exclusions.py. Makes the table `cell` beside those of pulls.py; a cell
without any evidence is a row too.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import duckdb

from analysis.bulk import BATCH, make_table
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
    "pull_s": "real",
    "pull_and_wait_s": "real",
    "image_bytes": "whole",
    "warm_bytes": "whole",
    **{f"{name}_ns": "whole" for name in PHASE_TIMES},
}
"""Columns of the table `cell`."""

_EVIDENCE = """
CREATE TABLE studied_pull AS
WITH mine AS (SELECT p.* FROM pull AS p JOIN studied USING (rec, image)),
real_job AS (
    SELECT rec, image, node, job_uid,
        row_number() OVER (PARTITION BY rec, image, node
            ORDER BY min(ended_ns), job_uid) AS repetition
    FROM mine WHERE outcome = 'pulled' GROUP BY rec, image, node, job_uid
)
SELECT mine.*, coalesce(real_job.repetition, 1)::INTEGER AS repetition
FROM mine LEFT JOIN real_job USING (rec, image, node, job_uid);

CREATE TABLE evidence AS
WITH bound AS (
    SELECT rec, image, node, count(*) AS pods
    FROM pod JOIN (
        SELECT DISTINCT rec, job_uid, image FROM studied_pull WHERE job_uid <> ''
    ) AS job_image USING (rec, job_uid)
    GROUP BY ALL
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
        arg_min(struct_pack(pod, pod_uid := object_uid, job_uid, pull_s, pull_and_wait_s,
                image_bytes, scheduled_ns, begun_ns, ended_ns, created_ns, started_ns),
            (outcome <> 'pulled', coalesce(ended_ns, begun_ns, scheduled_ns), object_uid)) AS first,
        min(least(scheduled_ns, begun_ns, ended_ns)) AS from_ns,
        max(greatest(ended_ns, started_ns)) AS to_ns
    FROM studied_pull GROUP BY ALL
),
grid AS (
    SELECT rec, image, node, 1 AS repetition FROM studied JOIN stack_nodes USING (rec)
),
trial AS (
    SELECT rec, image,
        row_number() OVER (PARTITION BY rec
            ORDER BY min(coalesce(begun_ns, ended_ns, scheduled_ns)), image) AS trial
    FROM studied_pull GROUP BY rec, image
)
SELECT rec, trial.trial, repetition, image, node,
    greatest(coalesce(seen.pods, 0), coalesce(bound.pods, 0)) AS pods,
    (sum(coalesce(bound.pods, seen.pods, 0)) OVER (PARTITION BY rec, image, repetition))
        AS all_pods,
    seen.* EXCLUDE (rec, image, node, repetition, pods, first), first.*,
    job.complete_ns
FROM grid
FULL OUTER JOIN seen USING (rec, image, node, repetition)
LEFT JOIN bound USING (rec, image, node)
LEFT JOIN trial USING (rec, image)
LEFT JOIN job ON job.rec = seen.rec AND job.job_uid = first.job_uid
"""

_TROUBLE = """
SELECT rec, CASE WHEN kind = 'Node' THEN object ELSE node END AS node, at_ns, reason
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

_MEASURES = ("pull_s", "pull_and_wait_s")

_OPEN = 2**62

_Row = dict[str, Any]


class Troubles:
    """When nodes were short of disk or not ready."""

    def __init__(self, events: Iterable[tuple[int, str, int, str]]) -> None:
        """Read (rec, node, at_ns, reason) in the order of time within a node."""
        self._spans: dict[tuple[int, str], list[tuple[int, int, str]]] = defaultdict(list)
        for rec, node, at, reason in events:
            spans = self._spans[rec, node]
            if reason in _PRESSED | _LOST:
                spans.append((at, _OPEN, reason))
            else:
                over = _PRESSED if reason == "NodeHasNoDiskPressure" else _LOST
                spans[:] = [
                    (begin, at if end == _OPEN and why in over else end, why)
                    for begin, end, why in spans
                ]
        for spans in self._spans.values():
            spans[:] = [(begin, _last(begin, end, why), why) for begin, end, why in spans]

    def during(self, rec: int, node: str, begin: int | None, end: int | None) -> list[str]:
        """Reasons of the troubles of a node that overlap with a span of time."""
        spans = self._spans.get((rec, node), [])
        if begin is None or end is None:
            return []
        return [why for since, until, why in spans if since <= end and until >= begin]


def _last(begin: int, end: int, why: str) -> int:
    """A lost node stays lost; disk pressure without a recorded end lasts its usual time."""
    return begin + PRESSURE_LASTS_S * 10**9 if end == _OPEN and why in _PRESSED else end


def derive_cells(database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]) -> None:
    """Make the tables cell (columns as COLUMNS), studied_pull and evidence."""
    database.execute(_EVIDENCE)
    troubles = Troubles(database.execute(_TROUBLE).fetchall())
    told = {
        rec: recording.folder.cells
        for rec, run, stack in database.execute("SELECT rec, run, stack FROM stack").fetchall()
        for recording in recordings
        if (recording.run, recording.stack) == (run, stack)
        and recording.folder
        and recording.folder.cells
    }
    make_table(database, "told", {"rec": "whole"}, [(rec,) for rec in told])
    rows = chain(_ledger_rows(told), _judged_rows(database.cursor(), troubles))
    make_table(database, "cell", COLUMNS, (tuple(map(row.get, COLUMNS)) for row in rows))


def _judged_rows(cursor: duckdb.DuckDBPyConnection, troubles: Troubles) -> Iterator[_Row]:
    result = cursor.execute("SELECT * FROM evidence ANTI JOIN told USING (rec)")
    names = [column[0] for column in result.description or ()]
    while batch := result.fetchmany(BATCH):
        for values in batch:
            yield _judged(dict(zip(names, values, strict=True)), troubles)


def _judged(row: _Row, troubles: Troubles) -> _Row:
    during = troubles.during(row["rec"], row["node"], row["from_ns"], row["to_ns"])
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


def _ledger_rows(told: Mapping[int, Sequence[CellRecord]]) -> Iterator[_Row]:
    for rec, cells in told.items():
        for cell in cells:
            times = {
                f"{name}_ns": _nanoseconds(getattr(cell.phases, f"{name}_at"))
                for name in PHASE_TIMES
            }
            yield (
                cell.model_dump(include=set(COLUMNS))
                | times
                | {
                    "rec": rec,
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
