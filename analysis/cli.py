"""`python -m analysis`: what came out of recorded pulls, as tables, plots and a page.

Reads options and prints results; each command's work is in the module that it imports. The
imports stand in the commands, so that --help does not wait for them.
"""
# ruff: noqa: PLC0415 (see above)

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from schema.errors import ExitCode, UserError

PLAIN_EVERY = 1_000_000
"""Events between two lines of progress where there is no terminal."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    help="Tables, plots and answers from recorded Kubernetes events of image pulls.",
)

Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Run folders (data/runs/ID), folders as in the original study at any level "
        "(metadata, metadata/run1, metadata/run1/16), or files with events.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results; made if need be.")]
Images = Annotated[
    str | None,
    typer.Option(
        help="Regular expression of the images to study; default: those a run planned, else those "
        "whose tags say layers and size, else those of Jobs, else all."
    ),
]


@app.command()
def tables(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Write events, pulls, cells and summary as CSV and Parquet."""
    from analysis.tables import open_tables, write_tables

    with _progress() as tell, open_tables(inputs, images, tell) as derived:
        for path in write_tables(derived, out):
            typer.echo(path)
        _say_unreadable(derived.notes.total("unreadable"), out)


@app.command()
def report(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Write all tables and report.html, one page that opens from disk."""
    from analysis.report import write_report

    with _progress() as tell:
        page = write_report(inputs, out, images=images, progress=tell)
    typer.echo(page)


def _say_unreadable(count: int, out: Path) -> None:
    if count:
        typer.echo(f"{count} lines could not be read; {out / 'notes.csv'} lists them.", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Says how many events were read: on one line of a terminal, else a line each million."""
    said = 0

    def tell(count: int) -> None:
        nonlocal said
        if sys.stderr.isatty():
            typer.echo(f"\r{count:,} events read ", nl=False, err=True)
            said = count
        elif count - said >= PLAIN_EVERY:
            typer.echo(f"{count:,} events read", err=True)
            said = count

    try:
        yield tell
    finally:
        if said and sys.stderr.isatty():
            typer.echo(err=True)


def main() -> int:
    """Run the command line; a user's mistake ends with one sentence and its exit code."""
    try:
        app()
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        return int(error.exit_code)
    return int(ExitCode.OK)
