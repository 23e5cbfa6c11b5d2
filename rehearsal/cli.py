"""`pull-study-rehearsal`: look at the machine, open a rehearsal by hand, remove what one left."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rehearsal.faults.catalogue import KINDS as KINDS_OF_FAULTS
from rehearsal.faults.catalogue import shown
from rehearsal.faults.faults import injected_file
from rehearsal.machine.home import default_home, end
from rehearsal.machine.options import DEFAULT_SCALE, KINDS
from rehearsal.machine.requirements import Finding, examine, is_ready
from rehearsal.pulumi.fake_providers import provider_variables
from rehearsal.session import session, signal_handler
from schema.errors import ExitCode, UserError
from schema.inert import visible
from schema.output import TABLE_WIDTH, Output, OutputOption, print_rows
from schema.program import finite, make_app, run_app

app = make_app("Google on one machine: rehearse a study without a cloud.")

_COLOURS = {"ok": "green", "missing": "red", "note": "dim"}


@app.command()
def doctor(*, output: OutputOption = Output.TABLE) -> None:
    """Show what a rehearsal needs, what is installed, and how to get the rest."""
    findings = examine(default_home())
    if output is Output.TABLE:
        _print(findings)
    else:
        print_rows(output, [asdict(finding) for finding in findings])
    if not is_ready(findings):
        raise typer.Exit(int(ExitCode.PREFLIGHT))


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def shell(
    *,
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run; default: your shell.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Images hold this fraction of their tags' bytes; default: "
            f"{DEFAULT_SCALE['real']} for real nodes, {DEFAULT_SCALE['simulated']:g} for simulated "
            "ones.",
            min=1e-6,
            max=1,
        ),
    ] = None,
    nodes: Annotated[
        str, typer.Option(help="`real` (Linux and root; 8 at most) or `simulated`.")
    ] = "real",
    speed: Annotated[
        float,
        typer.Option(
            callback=finite, help="How many times faster than the clock simulated nodes work."
        ),
    ] = 1.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="A fault to inject, NAME[:ARGS]; @FILE for those of a file."),
    ] = None,
    keep: Annotated[
        bool, typer.Option(help="Leave clusters running at the end; `down` removes them.")
    ] = False,
    rate_limits: Annotated[
        bool, typer.Option(help="Keep Kubernetes' own client-side rate limits.")
    ] = True,
) -> None:
    """Run a command against a local Google, and exit with its code."""
    program = command or [os.environ.get("SHELL", "/bin/sh")]
    if nodes not in KINDS:
        raise UserError(f"--nodes must be {' or '.join(KINDS)}, not {nodes}.")
    with session(
        scale, keep=keep, nodes=nodes, speed=speed, rate_limits=rate_limits, faults=fault or ()
    ):
        code = _run(program)
    raise typer.Exit(code)


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def providers(
    command: Annotated[list[str], typer.Argument(help="What to run, usually a preview.")],
) -> None:
    """Run a command with Pulumi and its providers alone, without a local Google."""
    with provider_variables() as variables:
        os.environ.update(variables)
        code = _run(command)
    raise typer.Exit(code)


@app.command()
def faults(*, output: OutputOption = Output.TABLE) -> None:
    """List the faults that can be injected, with the defaults of their arguments."""
    rows = [
        {
            "fault": name,
            "what_happens": f"{'Simulated nodes: ' if kind.simulated else ''}{kind.does}",
            "how_a_run_shows_it": kind.shows,
            "arguments": ",".join(f"{key}={value}" for key, value in shown(kind).items()),
        }
        for name, kind in KINDS_OF_FAULTS.items()
    ]
    print_rows(output, rows)


@app.command()
def down() -> None:
    """End the rehearsal of this folder, or remove what one left, and the record of its faults."""
    home = default_home()
    record = injected_file(home.folder)
    found = end(home) or record.exists()
    record.unlink(missing_ok=True)
    folder = visible(str(home.folder))
    typer.echo(f"removed {folder}" if found else f"nothing to remove in {folder}")


def main() -> None:
    """Run the command line."""
    run_app(app)


def _run(command: list[str]) -> int:
    """Run a command in the foreground; return its exit code as a shell does."""
    # Ctrl-C reaches the command too, which decides. Unlike SIG_IGN, a handler is not inherited.
    with signal_handler(signal.SIGINT, lambda *_: None):
        try:
            process = subprocess.Popen(command)
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run: {error.strerror}.") from error
        try:
            code = process.wait()
        except KeyboardInterrupt:  # SIGTERM
            process.terminate()
            code = process.wait()
    return code if code >= 0 else 128 - code


def _print(findings: list[Finding]) -> None:
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "detail"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        fix = f"\nFix: {finding.fix}" if finding.fix else ""
        state = f"[{_COLOURS[finding.state]}]{finding.state}[/]"
        table.add_row(_inert(finding.name), state, _inert(f"{finding.detail}{fix}".strip()))
    console.print(table, highlight=False)


def _inert(text: str) -> str:
    """Return what a program may have printed as text without markup and control characters."""
    return escape(visible(text, keep="\n"))
