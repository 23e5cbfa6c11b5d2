"""`python -m rehearsal`: look at the machine, open a rehearsal by hand, remove what one left."""

import os
import signal
import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rehearsal.doctor import Finding, examine, is_ready
from rehearsal.ending import end
from rehearsal.home import default_home
from rehearsal.session import DEFAULT_SCALE, handling, session
from schema.errors import ExitCode, UserError

app = typer.Typer(
    help="Google on one machine: rehearse a study without a cloud.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_PLAIN_WIDTH = 160
"""Of the table where it does not go to a terminal."""
_COLOURS = {"ok": "green", "missing": "red", "note": "dim"}


@app.command()
def doctor() -> None:
    """Tell what a rehearsal needs, what of it is here, and how to get the rest."""
    findings = examine(default_home())
    _print(findings)
    if not is_ready(findings):
        raise typer.Exit(int(ExitCode.PREFLIGHT))


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def shell(
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run; default: your shell.")
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Images hold this fraction of their tags' bytes.", min=1e-6, max=1)
    ] = DEFAULT_SCALE,
    keep: Annotated[
        bool, typer.Option(help="Leave clusters running at the end; `down` ends them.")
    ] = False,
    rate_limits: Annotated[
        bool, typer.Option(help="Keep Kubernetes' own client-side rate limits.")
    ] = True,
) -> None:
    """Run a command against a local Google, and end with its exit code."""
    wanted = command or [os.environ.get("SHELL", "/bin/sh")]
    with session(scale, keep=keep, rate_limits=rate_limits):
        code = _run(wanted)
    raise typer.Exit(code)


@app.command()
def down() -> None:
    """End the rehearsal of this folder, or remove what a killed one left."""
    home = default_home()
    found = end(home)
    typer.echo(f"removed {home.folder}" if found else f"there was nothing in {home.folder}")


def main() -> None:
    """Run the program; a user's error is one message and its exit code."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.exit_code))


def _run(command: list[str]) -> int:
    """Run a command in the foreground; its exit code as a shell gives it."""
    # Ctrl-C reaches the command too, which decides. A handler, unlike ignoring, is not inherited.
    with handling(signal.SIGINT, lambda *_: None):
        try:
            process = subprocess.Popen(command)
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run: {error.strerror}.") from None
        try:
            code = process.wait()
        except KeyboardInterrupt:  # SIGTERM
            process.terminate()
            code = process.wait()
    return code if code >= 0 else 128 - code


def _print(findings: list[Finding]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "detail"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        cure = f"\nto get it: {finding.cure}" if finding.cure else ""
        state = f"[{_COLOURS[finding.state]}]{finding.state}[/]"
        table.add_row(finding.name, state, f"{finding.detail}{cure}".strip())
    console.print(table, highlight=False)
