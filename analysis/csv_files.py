"""Writes CSV files whose text a spreadsheet cannot take for a formula."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from schema.errors import UserError
from schema.output import write_csv_rows


class OutputError(UserError):
    """An output file cannot be written."""


def cannot_write(path: Path, error: Exception) -> OutputError:
    """Return the error of a file or folder that cannot be written."""
    return OutputError(f"{path} cannot be written: {error}.", "name another folder with --out")


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    """Write a file, in a folder that is created if missing; None is an empty cell.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            write_csv_rows(file, names, rows)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path
