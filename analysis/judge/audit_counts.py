"""What the audit counts in events, pulls and cells, in SQL, so that the database can be closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

Row = Mapping[str, Any]
"""Counts of one recording; 0 where nothing was counted."""

_WAITED_S = 1.0


@dataclass(frozen=True)
class Counts:
    """Counts of all recordings.

    Attributes:
        events: events in all.
        recordings: a row each, in their order.
        copies: pairs of recordings (run, stack, other, other_stack) with n events in common.
    """

    events: int
    recordings: Sequence[Row]
    copies: Sequence[Row]


_COUNTS = """
WITH bound AS (
    SELECT p.rec, p.object_uid, p.node, p.pod, j.image
    FROM pod AS p JOIN (
        SELECT DISTINCT rec, job_uid, image FROM studied_pull WHERE job_uid <> ''
    ) AS j USING (rec, job_uid)
),
known AS (
    SELECT rec, object_uid FROM bound UNION SELECT rec, object_uid FROM studied_pull
),
bound_pod AS (
    SELECT k.rec, k.object_uid, bool_or(e.reason = 'Scheduled') AS scheduled
    FROM known AS k JOIN event AS e USING (rec, object_uid) GROUP BY ALL
),
steps AS (  -- of each container; what has no container's name is about a volume, or all are so
    SELECT k.rec, k.object_uid, e.container,
        bool_or(e.reason = 'Pulling') AS pulling,
        bool_or(e.reason = 'Pulled' AND e.cached IS NOT TRUE) AS pulled,
        bool_or(e.reason = 'Pulled' AND e.cached IS TRUE) AS cached,
        bool_or(e.reason = 'Created') AS created,
        bool_or(e.reason = 'Started') AS started,
        bool_or(e.reason IN ('Failed', 'BackOff')) AS failed
    FROM known AS k JOIN event AS e USING (rec, object_uid)
    WHERE e.reason IN ('Pulling', 'Pulled', 'Created', 'Started', 'Failed', 'BackOff')
        AND NOT starts_with(e.container, 'spec.initContainers')
    GROUP BY ALL
),
containers AS (
    SELECT rec, object_uid, scheduled,
        -- no event says that the runner bound a pod: where no pod has one, none is due
        bool_or(scheduled) OVER (PARTITION BY rec) AS by_scheduler,
        coalesce(pulling, false) AS pulling, coalesce(pulled, false) AS pulled,
        coalesce(cached, false) AS cached, coalesce(created, false) AS created,
        coalesce(started, false) AS started, coalesce(failed, false) AS failed,
        container = '' AND count(*) OVER (PARTITION BY rec, object_uid) > 1 AS volume,
        row_number() OVER (PARTITION BY rec, object_uid ORDER BY failed, container) = 1 AS first
    FROM bound_pod LEFT JOIN steps USING (rec, object_uid)
),
lost AS (
    SELECT rec, count(*) FILTER (first) AS pods, count(*) AS containers,
        count(*) FILTER (NOT pulling AND NOT cached) AS no_pulling,
        count(*) FILTER (pulling AND NOT pulled AND NOT cached AND NOT failed) AS no_pulled,
        count(*) FILTER (pulled AND NOT pulling) AS only_pulled,
        4 + bool_or(by_scheduler)::INT AS pod_events,
        sum((first AND by_scheduler)::INT + CASE WHEN volume THEN 2 ELSE 4 END)
            FILTER (NOT failed) AS due,
        sum((first AND by_scheduler AND NOT scheduled)::INT + (NOT cached AND NOT pulling)::INT
            + (NOT cached AND NOT pulled)::INT
            + (NOT volume AND NOT created)::INT + (NOT volume AND NOT started)::INT)
            FILTER (NOT failed) AS missing
    FROM containers GROUP BY rec
),
named AS (
    SELECT rec, job_uid, max(regexp_extract(pod, '-([0-9]+)-[a-z0-9]{5}$', 1)::INT) + 1 AS pods
    FROM pod WHERE regexp_matches(pod, '-[0-9]+-[a-z0-9]{5}$')
        AND (rec, job_uid) IN (SELECT (rec, job_uid) FROM studied_pull WHERE job_uid <> '')
    GROUP BY ALL
),
completions AS (  -- the last pods of a Job may have no event: use what is usual for the cluster
    SELECT rec, sum(greatest(pods, usual)) AS pods
    FROM named JOIN (SELECT rec, mode(pods) AS usual FROM named GROUP BY rec) USING (rec)
    GROUP BY rec
),
pulls AS (
    SELECT rec,
        count(*) FILTER (outcome = 'pulled') AS real_pulls,
        count(*) FILTER (outcome = 'cached') AS cached,
        count(*) FILTER (outcome = 'pulled' AND pull_and_wait_s - pull_s > $waited) AS waited,
        max(pull_and_wait_s - pull_s) AS longest_wait,
        count(DISTINCT node) FILTER (outcome = 'pulled') AS nodes_pulled,
        count(DISTINCT image) FILTER (NOT contains(image, '@sha256:')) AS mutable,
        count(DISTINCT image) AS images,
        sum(failed) FILTER (turn = 1) AS failed
    FROM studied_pull GROUP BY rec
),
twice AS (
    SELECT rec, count(*) AS cells, sum(n - 1) AS surplus FROM (
        SELECT rec, image, node, repetition, count(*) AS n FROM studied_pull
        WHERE outcome = 'pulled' GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY rec
),
sizes AS (  -- of images by tag; an index by digest has a size for each architecture
    SELECT rec, count(*) FILTER (most > 1) AS moved, count(*) FILTER (most = 1) AS differ FROM (
        SELECT rec, image, count(DISTINCT image_bytes) AS sizes FROM studied_pull
        WHERE image_bytes IS NOT NULL AND NOT contains(image, '@sha256:') GROUP BY ALL
    ) JOIN (
        SELECT rec, image, max(sizes) AS most FROM (
            SELECT rec, image, count(DISTINCT image_bytes) AS sizes FROM studied_pull
            WHERE image_bytes IS NOT NULL GROUP BY rec, image, node
        ) GROUP BY ALL
    ) USING (rec, image)
    WHERE sizes > 1 GROUP BY rec
),
trouble AS (
    SELECT rec,
        count(*) FILTER (reason = 'Evicted') AS evicted,
        count(*) FILTER (reason IN ('NodeHasDiskPressure', 'EvictionThresholdMet')) AS pressure,
        count(*) FILTER (reason IN ('FreeDiskSpaceFailed', 'ImageGCFailed')) AS collected,
        count(*) FILTER (reason = 'NodeNotReady') AS lost_nodes,
        count(*) FILTER (clock = 'first-seen' AND kind = 'Pod') AS coarse,
        count(*) FILTER (clock = 'name' AND kind = 'Pod') AS by_name, count(*) AS events
    FROM event GROUP BY rec
),
judged AS (
    SELECT rec, count(*) AS cells, count(*) FILTER (status IN ('valid', 'preloaded')) AS valid,
        -- One image whose Job ran twice by mistake does not make a study with repetitions.
        count(DISTINCT (image, repetition)) / count(DISTINCT image) AS repetitions,
        count(*) FILTER (status = 'missing-events' AND pod IS NULL) AS no_pull
    FROM cell GROUP BY rec
),
listed AS (SELECT rec, count(*) AS all_nodes FROM stack_nodes GROUP BY rec)
SELECT s.rec, s.run, s.stack, s.nodes, s.provenance, lost.* EXCLUDE (rec),
    completions.pods AS expected, pulls.* EXCLUDE (rec), twice.cells AS twice,
    twice.surplus, sizes.* EXCLUDE (rec), trouble.* EXCLUDE (rec), judged.* EXCLUDE (rec), all_nodes
FROM stack AS s
LEFT JOIN lost USING (rec) LEFT JOIN completions USING (rec) LEFT JOIN pulls USING (rec)
LEFT JOIN twice USING (rec) LEFT JOIN sizes USING (rec) LEFT JOIN trouble USING (rec)
LEFT JOIN judged USING (rec) LEFT JOIN listed USING (rec)
ORDER BY s.rec
"""

_SAME_EVENTS = """
SELECT a.run AS run, a.stack AS stack, b.run AS other, b.stack AS other_stack, count(*) AS n
FROM (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS a
JOIN (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS b
    ON a.uid = b.uid AND a.rec < b.rec
GROUP BY ALL ORDER BY ALL
"""


def audit_counts(database: duckdb.DuckDBPyConnection) -> Counts:
    """Count what analysis.ask.audit judges; the database has the tables of the judge modules."""
    ((events,),) = database.execute("SELECT count(*) FROM event").fetchall()
    recordings = _rows(database.execute(_COUNTS, {"waited": _WAITED_S}))
    return Counts(int(events), recordings, _rows(database.execute(_SAME_EVENTS)))


def _rows(result: duckdb.DuckDBPyConnection) -> list[Row]:
    names = [column[0] for column in result.description or ()]
    return [
        {name: 0 if value is None else value for name, value in zip(names, values, strict=True)}
        for values in result.fetchall()
    ]
