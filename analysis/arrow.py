"""Rows of Python values into DuckDB, by way of Arrow: the one module that knows pyarrow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

BATCH = 20_000
"""Rows handed over at a time."""

_KINDS = {
    "text": pa.string(),
    "whole": pa.int64(),
    "real": pa.float64(),
    "truth": pa.bool_(),
}

Kinds = Mapping[str, str]
"""Columns in their order: name to 'text', 'whole', 'real' or 'truth'."""


def make_table(
    database: duckdb.DuckDBPyConnection, name: str, kinds: Kinds, rows: Iterable[Sequence[Any]]
) -> int:
    """Create a table and fill it; gives the number of its rows. The rows may be a stream."""
    schema = pa.schema([(column, _KINDS[kind]) for column, kind in kinds.items()])
    _execute(database, schema.empty_table(), f"CREATE TABLE {name} AS SELECT * FROM batch")
    count = 0
    for batch in _batches(iter(rows)):
        arrays = [
            pa.array(values, kind)
            for values, kind in zip(zip(*batch, strict=True), schema.types, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        _execute(database, table, f"INSERT INTO {name} SELECT * FROM batch")
        count += len(batch)
    return count


def _batches(rows: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _execute(database: duckdb.DuckDBPyConnection, batch: Any, statement: str) -> None:
    database.register("batch", batch)
    database.execute(statement)
    database.unregister("batch")
