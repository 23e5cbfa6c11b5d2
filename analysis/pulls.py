"""From events to pulls and to the evidence of each cell, in SQL over the event table.

Makes tables beside `event`: `pull` (one row a pull: succeeded, cached, failed, or begun and
never ended), `stack_nodes` (every node that is known to have been there) and `job` (Jobs with
their completion). It deliberately judges nothing (exclusions.py).
"""

from collections.abc import Sequence

import duckdb

from analysis.bulk import make_table
from analysis.load_runs import Recording

_STUDY_TAG = r":[1-9][0-9]*-layers-size-[0-9]+-bytes"

_POD = """
CREATE TABLE pod AS SELECT
    rec, object_uid,
    any_value(object) AS pod,
    min(at_ns) FILTER (reason = 'Scheduled') AS scheduled_ns,
    coalesce(
        max(node) FILTER (node <> ''),
        max(regexp_extract(message, 'to (\\S+)$', 1)) FILTER (reason = 'Scheduled'),
        ''
    ) AS node,
    max(job) AS job,
    max(job_uid) AS job_uid,
    coalesce(min(message) FILTER (reason = 'Evicted'), '') AS eviction
FROM event
WHERE kind = 'Pod' AND reason IN ('Scheduled', 'Pulling', 'Pulled', 'Created', 'Started', 'Failed',
    'BackOff', 'Evicted')
GROUP BY ALL;
"""

_CONTAINER = """
CREATE TABLE container AS SELECT
    rec, object_uid, container,
    max(image) AS image,
    min(file) AS file,
    min(at_ns) FILTER (reason = 'Pulling') AS pulling_ns,
    coalesce(sum(count) FILTER (reason = 'Pulling'), 0) AS pulling,
    count(*) FILTER (reason = 'Pulled') AS ended,
    min(at_ns) FILTER (reason = 'Created') AS created_ns,
    min(at_ns) FILTER (reason = 'Started') AS started_ns,
    coalesce(sum(count) FILTER (reason = 'Failed' AND image <> ''), 0) AS failed,
    coalesce(min(message) FILTER (reason = 'Failed' AND image <> ''), '') AS failure
FROM event
WHERE kind = 'Pod' AND reason IN ('Pulling', 'Pulled', 'Created', 'Started', 'Failed', 'BackOff')
GROUP BY ALL HAVING max(image) <> '';
"""

# A pull's start is its Pulling event; where that is lost, or another pull of the same container
# took it, the end less the duration: both are of the kubelet's clock.
_PULL = """
CREATE TABLE turns AS  -- of the few containers that pulled more than once
SELECT rec, object_uid, container, uid,
    row_number() OVER (PARTITION BY rec, object_uid, container ORDER BY at_ns, uid) AS turn
FROM event SEMI JOIN (FROM container WHERE ended > 1) USING (rec, object_uid, container)
WHERE reason = 'Pulled' AND kind = 'Pod' AND image <> '';
CREATE TABLE ended AS  -- one large join at a time: two would have to fit into memory together
SELECT e.*, c.pulling_ns, c.ended, c.created_ns, c.started_ns, c.pulling, c.failed, c.failure
FROM (
    SELECT rec, object_uid, container, uid, file, image, pull_s, pull_and_wait_s,
        image_bytes, cached, at_ns
    FROM event WHERE reason = 'Pulled' AND kind = 'Pod' AND image <> ''
) AS e
JOIN (SELECT * EXCLUDE (image, file) FROM container) AS c USING (rec, object_uid, container);
CREATE TABLE pull AS
SELECT
    rec, file, image, node, pod, object_uid, container, job, job_uid,
    pull_s, pull_and_wait_s, image_bytes,
    CASE WHEN cached THEN 'cached' ELSE 'pulled' END AS outcome,
    scheduled_ns,
    CASE WHEN cached THEN NULL
         WHEN ended = 1 AND pulling_ns IS NOT NULL THEN pulling_ns
         ELSE at_ns - (coalesce(pull_and_wait_s, pull_s) * 1e9)::BIGINT END AS begun_ns,
    at_ns AS ended_ns, created_ns, started_ns, eviction,
    coalesce(turn, 1) AS turn, pulling, failed, failure
FROM ended JOIN pod USING (rec, object_uid)
LEFT JOIN turns USING (rec, object_uid, container, uid);
DROP TABLE ended;
INSERT INTO pull BY NAME
SELECT
    rec, file, image, node, pod, object_uid, container, job, job_uid,
    NULL::DOUBLE AS pull_s, NULL::DOUBLE AS pull_and_wait_s, NULL::BIGINT AS image_bytes,
    CASE WHEN failed > 0 THEN 'failed' ELSE 'not ended' END AS outcome,
    scheduled_ns, pulling_ns AS begun_ns, NULL::BIGINT AS ended_ns, created_ns, started_ns,
    eviction, 1 AS turn, pulling, failed, failure
FROM container JOIN pod USING (rec, object_uid)
WHERE ended = 0;
"""

# Labels carry a pod's Job; without them (kubectl get events) the Job's own event names its pod.
_JOB = """
UPDATE pull SET job = made.job, job_uid = made.job_uid
FROM (
    SELECT rec, object AS job, object_uid AS job_uid,
        regexp_extract(message, 'Created pod: (\\S+)$', 1) AS pod
    FROM event WHERE reason = 'SuccessfulCreate' AND kind = 'Job'
) AS made
WHERE pull.job_uid = '' AND pull.rec = made.rec AND pull.pod = made.pod;
CREATE TABLE job AS
SELECT rec, object_uid AS job_uid,
    max(at_ns) FILTER (reason IN ('Completed', 'FailedJob', 'BackoffLimitExceeded')) AS complete_ns
FROM event WHERE kind = 'Job' GROUP BY ALL;
"""

# Where a list of nodes was kept, others count only if a Job ran on them: a run's list holds the
# measured nodes, and system pods have nodes of their own.
_NODES = """
CREATE TABLE stack_nodes AS
WITH listed AS (SELECT DISTINCT stack.rec, node FROM listed_node JOIN stack USING (run, stack))
SELECT DISTINCT rec, node FROM (
    FROM listed
    UNION ALL SELECT rec, node FROM pull WHERE node <> '' AND job_uid <> ''
    UNION ALL SELECT rec, node FROM pod ANTI JOIN listed USING (rec) WHERE node <> ''
    UNION ALL SELECT rec, object AS node FROM event ANTI JOIN listed USING (rec)
        WHERE kind = 'Node' AND object <> ''
);
UPDATE stack SET nodes = known.nodes
FROM (SELECT rec, count(*) AS nodes FROM stack_nodes GROUP BY rec) AS known
WHERE stack.rec = known.rec AND stack.nodes IS NULL;
UPDATE stack SET nodes = 0 WHERE nodes IS NULL;
"""

_STUDIED = """
CREATE TABLE studied AS
WITH named AS (  -- images first: a window over all pulls would have to fit into memory
    SELECT rec, image, regexp_matches(image, $form) AS by_tag, bool_or(job_uid <> '') AS by_job
    FROM pull GROUP BY ALL
)
SELECT rec, image FROM (
    SELECT *, bool_or(by_tag) OVER same AS any_tag, bool_or(by_job) OVER same AS any_job
    FROM named WINDOW same AS (PARTITION BY rec)
)
WHERE (any_tag AND by_tag) OR (NOT any_tag AND any_job AND by_job) OR NOT (any_tag OR any_job);
"""


def derive_pulls(
    database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording], images: str | None = None
) -> None:
    """Make the tables pull, pod, job, stack_nodes and studied.

    Args:
        database: holds the view `event` (event_table.py).
        recordings: what was read into it.
        images: regular expression of the study's images. By default those that a run of this
            project planned; else those whose tag says layers and size; else those of Jobs; else
            all.
    """
    _list_nodes(database, recordings)
    for statement in (_POD, _CONTAINER, _PULL, _JOB, _NODES):
        database.execute(statement)
    if images is None:
        database.execute(_STUDIED, {"form": _STUDY_TAG})
    else:
        database.execute(
            "CREATE TABLE studied AS SELECT DISTINCT rec, image FROM pull "
            "WHERE regexp_matches(image, $form)",
            {"form": images},
        )
    _prefer_planned(database, recordings)


def _list_nodes(database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]) -> None:
    nodes = [(r.run, r.stack, node.name) for r in recordings for node in r.node_list]
    make_table(database, "listed_node", {"run": "text", "stack": "text", "node": "text"}, nodes)


def _prefer_planned(database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        if recording.folder is None:
            continue
        planned = {trial.image.reference for trial in recording.folder.record.trials}
        key = [recording.run, recording.stack]
        database.execute(
            "DELETE FROM studied WHERE rec IN (SELECT rec FROM stack WHERE run = ? AND stack = ?)",
            key,
        )
        if planned:
            database.executemany(
                "INSERT INTO studied SELECT rec, ? FROM stack WHERE run = ? AND stack = ?",
                [[name, *key] for name in sorted(planned)],
            )
