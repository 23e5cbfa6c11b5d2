"""The original study's raw-times.json, for those who have scripts on it.

{NAME: {"events": {REASON: {"timestamp", "instance"[, "message"]}}, "experiment", "size"[,
"container"]}}, NAME being the object's. As there, the last event of a reason stands. Two objects of
one name, which overwrote each other there, get `@run/stack#uid` behind the name here.
"""

from pathlib import Path

import duckdb

_BATCH = 10_000

_ITEMS = """
WITH clash AS (
    SELECT object FROM event GROUP BY object HAVING count(DISTINCT (rec, object_uid)) > 1
),
last AS (
    SELECT rec, object, object_uid, lower(reason) AS reason,
        arg_max(struct_pack(at_ns, node, message), (at_ns, uid)) AS e,
        max(image) FILTER (reason = 'Pulling') AS container
    FROM event GROUP BY ALL
),
item AS (
    SELECT rec, object, object_uid, max(container) AS container,
        string_agg(
            to_json(reason) || ': {"timestamp": "'
                || coalesce(strftime(make_timestamp_ns(e.at_ns), '%Y-%m-%dT%H:%M:%SZ'), '')
                || '", "instance": ' || to_json(e.node)
                || CASE reason WHEN 'pulled' THEN ', "message": ' || to_json(e.message) ELSE '' END
                || '}',
            ', ' ORDER BY e.at_ns, reason) AS events
    FROM last GROUP BY ALL
)
SELECT to_json(object || CASE WHEN object IN (FROM clash)
            THEN '@' || run || '/' || stack || '#' || object_uid ELSE '' END)
    || ': {"events": {' || events || '}, "experiment": ' || to_json(run)
    || ', "size": ' || nodes
    || CASE WHEN container <> '' THEN ', "container": ' || to_json(container) ELSE '' END
    || '}'
FROM item JOIN stack USING (rec)
ORDER BY object, run, stack, object_uid
"""


def write_raw_times(database: duckdb.DuckDBPyConnection, path: Path) -> Path:
    """Write the file from the tables event and stack."""
    database.execute(_ITEMS)
    with path.open("w", encoding="utf-8") as file:
        file.write("{")
        before = "\n "
        while batch := database.fetchmany(_BATCH):
            for (item,) in batch:
                file.write(before + item)
                before = ",\n "
        file.write("\n}\n")
    return path
