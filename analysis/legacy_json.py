"""raw-times.json, the format of the original study, for existing scripts.

{NAME: {"events": {REASON: {"timestamp", "instance"[, "message"]}}, "experiment", "size"[,
"container"]}}, where NAME is the object's. The last event of a reason counts. Objects of equal
name, which overwrote each other in the original, get the suffix `@run/stack#uid`.

DuckDB sorts the events, because it spills to disk; objects are written one at a time, because an
aggregate over all of them would have to fit into memory.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import msgspec

_BATCH = 10_000

_EVENTS = """
WITH clash AS (
    SELECT object FROM event GROUP BY object
    HAVING min((rec, object_uid)) <> max((rec, object_uid))
)
SELECT rec, object, object_uid, lower(reason),
    strftime(make_timestamp_ns(at_ns), '%Y-%m-%dT%H:%M:%SZ'), node,
    CASE reason WHEN 'Pulled' THEN message ELSE '' END,
    CASE reason WHEN 'Pulling' THEN image ELSE '' END, run, stack, nodes, object IN (FROM clash)
FROM event AS e JOIN stack USING (rec)
ORDER BY object, run, stack, object_uid, at_ns, e.uid
"""

_Row = tuple[Any, ...]


def write_raw_times(database: duckdb.DuckDBPyConnection, path: Path) -> list[Path]:
    """Write the file from the tables event and stack."""
    encode = msgspec.json.Encoder().encode
    database.execute(_EVENTS)
    before = b"{\n "
    with path.open("wb") as file:
        for _, events in groupby(_rows(database), key=itemgetter(0, 1, 2)):
            name, item = _item(list(events))
            file.write(before + encode(name) + b": " + encode(item))
            before = b",\n "
        file.write(b"\n}\n" if before != b"{\n " else b"{}\n")
    return [path]


def _rows(database: duckdb.DuckDBPyConnection) -> Iterator[_Row]:
    while batch := database.fetchmany(_BATCH):
        yield from batch


def _item(rows: list[_Row]) -> tuple[str, dict[str, Any]]:
    """Return an object's name and entry, from its events in order of time."""
    events: dict[str, dict[str, str]] = {}
    container = ""
    for *_, reason, moment, node, message, image, _, _, _, _ in rows:
        event = {"timestamp": moment or "", "instance": node}
        if reason == "pulled":
            event["message"] = message
        events[reason] = event
        container = image or container
    _, name, uid, *_, run, stack, nodes, clashes = rows[0]
    item: dict[str, Any] = {"events": events, "experiment": run, "size": nodes}
    if container:
        item["container"] = container
    return (f"{name}@{run}/{stack}#{uid}" if clashes else name), item
