"""From events to pulls and to the evidence of each cell, in SQL over the event table.

Creates tables in addition to `event`: `pull` (one row per pull: succeeded, cached, failed, or
started and never ended), `stack_nodes` (all known nodes) and `job` (Jobs with their completion).
Which pulls count is decided in exclusions.py.
"""

from collections.abc import Sequence

import duckdb

from analysis.read.bulk import count_parts, in_parts, make_table
from analysis.read.load_runs import Recording
from schema.errors import UserError

_STUDY_TAG = r":[1-9][0-9]*-layers-size-[0-9]+-bytes"

_PART_EVENT = """
CREATE OR REPLACE TABLE part_event AS
SELECT rec, file, uid, reason, count, object, object_uid, container, node, at_ns, last_ns, job,
    job_uid, image, pull_s, pull_and_wait_s, image_bytes, cached,
    CASE WHEN reason IN ('Scheduled', 'Failed', 'BackOff', 'Evicted') THEN message END AS message
FROM event
WHERE kind = 'Pod' AND reason IN ('Scheduled', 'Pulling', 'Pulled', 'Created', 'Started', 'Failed',
    'BackOff', 'Evicted')
    AND hash(object_uid) % $parts = $part
"""

_PART_POD = """
CREATE OR REPLACE TABLE part_pod AS SELECT
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
FROM part_event GROUP BY ALL;
"""

# One container can have pulled several images: volumes of images have no container's name, a
# running pod's image can be replaced, and a combined event keeps the container of its first
# message. The container then started with the image that was pulled last before.
_PART_CONTAINER = """
CREATE OR REPLACE TABLE part_image AS SELECT
    rec, object_uid, container, image,
    min(file) AS file,
    min(at_ns) FILTER (reason = 'Pulling') AS pulling_ns,
    coalesce(sum(count) FILTER (reason = 'Pulling'), 0) AS pulling,
    coalesce(sum(CASE WHEN cached THEN 1 ELSE count END) FILTER (reason = 'Pulled'), 0) AS ended,
    coalesce(sum(count) FILTER (reason = 'Failed'), sum(count) FILTER (reason = 'BackOff'), 0)
        AS failed,
    coalesce(min(message) FILTER (reason = 'Failed'), min(message) FILTER (reason = 'BackOff'), '')
        AS failure,
    min(at_ns) AS from_ns
FROM part_event WHERE image <> '' GROUP BY ALL;
CREATE OR REPLACE TABLE part_begun AS SELECT
    rec, object_uid, container,
    min(at_ns) FILTER (reason = 'Created') AS created_ns,
    min(at_ns) FILTER (reason = 'Started') AS started_ns
FROM part_event WHERE reason IN ('Created', 'Started') GROUP BY ALL;
CREATE OR REPLACE TABLE part_container AS
WITH counted AS (
    FROM (
        SELECT rec, object_uid, container, count(*) AS images FROM part_image GROUP BY ALL
    ) WHERE images > 1
),
spans AS (
    SELECT rec, object_uid, container, image, from_ns,
        lead(from_ns) OVER (PARTITION BY rec, object_uid, container ORDER BY from_ns) AS until_ns
    FROM part_image SEMI JOIN counted USING (rec, object_uid, container)
),
own AS (
    SELECT rec, object_uid, container, s.image,
        min(at_ns) FILTER (reason = 'Created') AS created_ns,
        min(at_ns) FILTER (reason = 'Started') AS started_ns
    FROM spans AS s JOIN part_event AS e USING (rec, object_uid, container)
    WHERE reason IN ('Created', 'Started') AND at_ns >= from_ns
        AND (until_ns IS NULL OR at_ns < until_ns)
    GROUP BY ALL
)
SELECT i.*, b.created_ns, b.started_ns
FROM part_image AS i LEFT JOIN part_begun AS b USING (rec, object_uid, container)
ANTI JOIN counted USING (rec, object_uid, container)
UNION ALL BY NAME
SELECT i.*, own.created_ns, own.started_ns
FROM part_image AS i SEMI JOIN counted USING (rec, object_uid, container)
LEFT JOIN own USING (rec, object_uid, container, image);
"""

# A pull's start is its Pulling event; if that is lost, or belongs to another pull of the same
# container, it is the end minus the duration: both are from the kubelet's clock. An event that
# happened n times is n pulls: the first and the last have a time.
_PART_PULL = """
WITH done AS (
    SELECT *, 0 AS again FROM part_event WHERE reason = 'Pulled' AND image <> ''
    UNION ALL BY NAME
    SELECT * REPLACE (CASE WHEN again = count - 1 THEN last_ns END AS at_ns) FROM (
        SELECT *, unnest(range(1, count))::INTEGER AS again
        FROM part_event WHERE reason = 'Pulled' AND image <> '' AND NOT cached AND count > 1
    )
),
turns AS (  -- of the few containers that pulled an image more than once
    SELECT rec, object_uid, container, image, uid, again,
        row_number() OVER (PARTITION BY rec, object_uid, container, image
            ORDER BY at_ns, uid, again) AS turn
    FROM done SEMI JOIN (FROM part_container WHERE ended > 1)
        USING (rec, object_uid, container, image)
),
every AS (
    SELECT rec, object_uid, container, done.file, done.image, pull_s, pull_and_wait_s, image_bytes,
        CASE WHEN cached THEN 'cached' ELSE 'pulled' END AS outcome,
        CASE WHEN cached THEN NULL
             WHEN ended = 1 AND pulling_ns IS NOT NULL THEN pulling_ns
             ELSE at_ns - (coalesce(pull_and_wait_s, pull_s) * 1e9)::BIGINT END AS begun_ns,
        at_ns AS ended_ns, coalesce(turn, 1) AS turn,
        created_ns, started_ns, pulling, failed, failure
    FROM done JOIN part_container USING (rec, object_uid, container, image)
    LEFT JOIN turns USING (rec, object_uid, container, image, uid, again)
    UNION ALL BY NAME
    SELECT rec, object_uid, container, file, image,
        CASE WHEN failed > 0 THEN 'failed' ELSE 'not ended' END AS outcome,
        pulling_ns AS begun_ns, 1 AS turn,
        created_ns, started_ns, pulling, failed, failure
    FROM part_container WHERE ended = 0
)
FROM every JOIN part_pod USING (rec, object_uid)
"""

_ADD_PART = f"""
CREATE TABLE IF NOT EXISTS pod AS FROM part_pod LIMIT 0;
INSERT INTO pod FROM part_pod;
CREATE TABLE IF NOT EXISTS pull AS {_PART_PULL} LIMIT 0;
INSERT INTO pull {_PART_PULL};
"""

# Labels carry a pod's Job; without them (kubectl get events) the Job's own event names its pod.
_NAMED_JOB = """
UPDATE pull SET job = made.job, job_uid = made.job_uid
FROM (
    SELECT rec, object AS job, object_uid AS job_uid,
        regexp_extract(message, 'Created pod: (\\S+)$', 1) AS pod
    FROM event WHERE reason = 'SuccessfulCreate' AND kind = 'Job'
) AS made
WHERE pull.job_uid = '' AND pull.rec = made.rec AND pull.pod = made.pod
    AND hash(pull.pod) % $parts = $part AND hash(made.pod) % $parts = $part
"""

_JOB = """
CREATE TABLE job AS
SELECT rec, object_uid AS job_uid,
    max(at_ns) FILTER (reason IN ('Completed', 'FailedJob', 'BackoffLimitExceeded')) AS complete_ns
FROM event WHERE kind = 'Job' GROUP BY ALL;
"""

# If there is a list of nodes, other nodes count only if a Job ran on them: a run's list has the
# measured nodes, and system pods have separate nodes.
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

# What only init containers pulled serves the workload (as a MiniCluster's Flux view does): it is
# not studied.
_STUDIED = """
CREATE TABLE studied AS
WITH named AS (  -- images first, since a window over all pulls would have to fit into memory
    SELECT rec, image, regexp_matches(image, $form) AS by_tag, bool_or(job_uid <> '') AS by_job,
        bool_and(starts_with(container, 'spec.initContainers')) AS by_init
    FROM pull GROUP BY ALL
),
known AS (
    SELECT *, bool_or(by_tag) OVER same AS any_tag,
        bool_or(by_job AND NOT by_init) OVER same AS any_job,
        bool_or(NOT by_init) OVER same AS any_own
    FROM named WINDOW same AS (PARTITION BY rec)
)
SELECT rec, image FROM known
WHERE CASE WHEN any_tag THEN by_tag
    ELSE (by_job OR NOT any_job) AND NOT (by_init AND any_own) END;
"""


def derive_pulls(
    database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording], images: str | None = None
) -> None:
    """Create the tables pull, pod, job, stack_nodes and studied.

    Args:
        database: has the view `event` (event_table.py).
        recordings: what was read into it.
        images: regular expression of the study's images. By default those that a run of this
            project planned; else those whose tag states layers and size; else those of Jobs; else
            all.

    Raises:
        PatternError: `images` is malformed.
    """
    if images is not None:
        _check_pattern(database, images)
    _list_nodes(database, recordings)
    parts = count_parts(database)
    for part in range(parts):
        database.execute(_PART_EVENT, {"parts": parts, "part": part})
        database.execute(_PART_POD + _PART_CONTAINER + _ADD_PART)
    database.execute(
        "DROP TABLE part_event; DROP TABLE part_pod; DROP TABLE part_container; "
        "DROP TABLE part_image; DROP TABLE part_begun"
    )
    in_parts(database, _NAMED_JOB, parts)
    database.execute(_JOB + _NODES)
    if images is None:
        database.execute(_STUDIED, {"form": _STUDY_TAG})
    else:
        database.execute(
            "CREATE TABLE studied AS SELECT DISTINCT rec, image FROM pull "
            "WHERE regexp_matches(image, $form)",
            {"form": images},
        )
    _prefer_planned(database, recordings)


class PatternError(UserError):
    """A regular expression is malformed."""


def _check_pattern(database: duckdb.DuckDBPyConnection, pattern: str) -> None:
    try:
        database.execute("SELECT regexp_matches('', ?)", [pattern])
    except duckdb.InvalidInputException as error:
        detail = str(error).strip().rpartition(": ")[2]
        raise PatternError(
            f"--images {pattern!r} is not a regular expression: {detail}.",
            "quote its special characters, for example '9-layers-.*'",
        ) from error


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
