"""One option for the form of what a command prints: `--output table|json|csv|markdown`.

A command's table is for people and its own; the other forms are the same rows for every command.
A command with several tables names each row's table in the column `table`. Beside rows, standard
output stays empty: what else a command has to say goes to standard error.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import IO, Annotated

import typer

from schema.inert import csv_cell, visible

OutputRow = Mapping[str, object]
"""A value for each column; None is an empty cell, a list is joined in one."""

TABLE_WIDTH = 160
"""Characters of tables where the output is no terminal."""


class Output(StrEnum):
    """Form of what a command prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        envvar="PULL_STUDY_OUTPUT",
        help="Form of the result: a table to read, or its rows as JSON, CSV or Markdown.",
    ),
]


def print_rows(output: Output, rows: Sequence[OutputRow], columns: Sequence[str] = ()) -> None:
    """Print one table.

    Args:
        output: the form.
        rows: all with the same columns, or a part of them.
        columns: of a table that may have no rows.
    """
    if output is Output.TABLE:
        _print_table(rows, columns)
    else:
        sys.stdout.write(text_of(output, {"": rows}, columns))


def print_tables(output: Output, tables: Mapping[str, Sequence[OutputRow]]) -> None:
    """Print several tables; `tables` has them by name."""
    if output is Output.TABLE:
        for rows in filter(None, tables.values()):
            _print_table(rows, ())
            sys.stdout.write("\n")
    else:
        sys.stdout.write(text_of(output, tables))


def text_of(
    output: Output, tables: Mapping[str, Sequence[OutputRow]], columns: Sequence[str] = ()
) -> str:
    """Return tables as JSON (an array of objects), CSV or Markdown.

    The only table of a command has the name "", and no column `table`.
    """
    if output is Output.MARKDOWN:
        return "\n".join(
            (f"**{name}**\n\n" if name else "") + markdown(columns or _columns(rows), rows)
            for name, rows in tables.items()
            if rows or columns
        )
    named: list[OutputRow] = [
        {"table": name, **row} if name else row for name, rows in tables.items() for row in rows
    ]
    if output is Output.JSON:
        return json.dumps(named, indent=2, default=_plain) + "\n"
    text = io.StringIO(newline="")
    names = columns or _columns(named)
    write_csv_rows(text, names, ([_joined(row.get(name)) for name in names] for row in named))
    return text.getvalue()


def write_csv_rows(file: IO[str], columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write CSV that a spreadsheet cannot take for formulas; None is an empty cell."""
    csv.writer(file).writerows(map(csv_cell, row) for row in (columns, *rows))


def markdown(columns: Sequence[str], rows: Iterable[OutputRow]) -> str:
    """Return a table of Markdown, with a line break at its end."""
    cells = [[_in_markdown(row.get(name)) for name in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _in_markdown(value: object) -> str:
    text = "" if value is None else str(_joined(value))
    return visible(text.replace("\n", " ")).replace("|", "\\|").replace("<", "&lt;")


def _columns(rows: Iterable[OutputRow]) -> list[str]:
    """Of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _joined(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "; ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return value


def _plain(value: object) -> object:
    """Of what JSON has no type for."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print_table(rows: Sequence[OutputRow], columns: Sequence[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 (--help must not load it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    names = columns or _columns(rows)
    for number, name in enumerate(names):
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=number == 0)
    for row in rows:
        cells = ("" if row.get(name) is None else str(_joined(row[name])) for name in names)
        table.add_row(*(Text(visible(cell, keep="\n\t")) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(table, highlight=False)
