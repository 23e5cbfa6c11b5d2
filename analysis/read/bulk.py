"""Loads rows of Python values into DuckDB through a temporary file of JSON lines.

DuckDB reads JSON faster than single rows; Arrow, the alternative, would import numpy and pandas,
which takes longer than the work on a study's events.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import msgspec

BATCH = 10_000
"""Rows loaded at a time."""

_TYPES = {"text": "VARCHAR", "whole": "BIGINT", "real": "DOUBLE", "truth": "BOOLEAN"}

EVENTS_A_PART = 1_000_000
"""Groups and joins of this many events fit into event_table.LARGE_MEMORY."""

FEW_EVENTS = 100_000
"""Groups, joins and two sorts at a time of this many fit into event_table.MEMORY."""

Kinds = Mapping[str, str]
"""Columns in order: name to 'text', 'whole', 'real' or 'truth'."""


def make_table(
    database: duckdb.DuckDBPyConnection, name: str, kinds: Kinds, rows: Iterable[Sequence[Any]]
) -> int:
    """Create and fill a table; return the number of its rows. The rows may be a stream."""
    types = {column: _TYPES[kind] for column, kind in kinds.items()}
    declared = ", ".join(f"{column} {kind}" for column, kind in types.items())
    database.execute(f"CREATE TABLE {name} ({declared})")
    row_type = msgspec.defstruct("Row", [(c, Any, None) for c in types], omit_defaults=True)
    encode = msgspec.json.Encoder().encode_lines
    count = 0
    # DuckDB reads one batch while the next one is written.
    with (
        tempfile.TemporaryDirectory(prefix="pull-study-") as folder,
        ThreadPoolExecutor(1) as reader,
    ):
        reading: Future[None] | None = None
        for number, batch in enumerate(_batches(iter(rows))):
            spool = Path(folder, f"rows-{number % 2}.json")
            try:
                spool.write_bytes(encode([row_type(*row) for row in batch]))
            except UnicodeEncodeError:
                spool.write_bytes(encode([row_type(*map(_encodable, row)) for row in batch]))
            count += len(batch)
            if reading:
                reading.result()
            reading = reader.submit(_read, database, name, types, spool)
        if reading:
            reading.result()
    return count


def count_parts(database: duckdb.DuckDBPyConnection) -> int:
    """Return in how many parts to group and join the events; 1 below EVENTS_A_PART events."""
    return 1 + count_events(database) // EVENTS_A_PART


def count_events(database: duckdb.DuckDBPyConnection) -> int:
    """Return how many events there are."""
    ((count,),) = database.execute("SELECT count(*) FROM kept.event").fetchall()
    return int(count)


def in_parts(database: duckdb.DuckDBPyConnection, statement: str, parts: int) -> None:
    """Execute a statement for each part of the rows: those with `hash(KEY) % $parts = $part`.

    Groups and joins of millions of texts do not spill enough to fit into little memory; those of a
    part do not need to.
    """
    for part in range(parts):
        database.execute(statement, {"parts": parts, "part": part})


def fill_in_parts(database: duckdb.DuckDBPyConnection, name: str, query: str, parts: int) -> None:
    """Create a table and fill it from a query, one part at a time (in_parts)."""
    database.execute(f"CREATE TABLE {name} AS {query} LIMIT 0", {"parts": 1, "part": 0})
    in_parts(database, f"INSERT INTO {name} {query}", parts)


def _read(
    database: duckdb.DuckDBPyConnection, name: str, types: dict[str, str], spool: Path
) -> None:
    database.execute(
        f"INSERT INTO {name} SELECT * FROM "
        f"read_json(?, format = 'newline_delimited', columns = {types})",
        [str(spool)],
    )


def _encodable(value: Any) -> Any:
    """Return a text with "?" for half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _batches(rows: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
