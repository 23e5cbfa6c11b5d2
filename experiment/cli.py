"""`python -m experiment`: options, and the exit codes of schema.errors.

What a command does is in the module that it calls, imported when it is called: Pulumi and Google's
clients take seconds to load, which neither --help nor a mistyped option should cost.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from experiment.errors import Interrupted, PlanError
from experiment.stack_files import require_stack
from schema.errors import ExitCode, UserError
from schema.study import load_study

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure how long Kubernetes nodes take to pull container images.",
    epilog="Exit codes: "
    + "; ".join(f"{code.value} {code.name.lower()}" for code in ExitCode)
    + ". docs/reference.md says what each means.",
)


@app.callback()
def _several_commands() -> None:
    """Keep `run` a command by name while it is the only one."""


@app.command()
def run(
    *,
    stack: Annotated[
        str, typer.Option(help="Cluster to measure on: one of Pulumi.*.yaml, such as size-4.")
    ] = "",
    study: Annotated[
        Path | None, typer.Option(help="What to pull: a file of studies/, or the original's JSON.")
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Run against a local Google on this machine; it is free."),
    ] = False,
    scale: Annotated[
        float, typer.Option(help="Rehearsed images hold this fraction of their tags' bytes.")
    ] = 0.01,
    run_id: Annotated[str, typer.Option(help="Name of the run; default: study, stack, time.")] = "",
    resume: Annotated[
        str, typer.Option(help="Go on with this run: measure only what has no valid cells yet.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(help="Of the images' order; default: a new one, recorded.")
    ] = None,
    keep_cluster: Annotated[
        bool,
        typer.Option("--keep-cluster", help="Leave the cluster up; it goes on costing money."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the cost.")] = False,
) -> None:
    """Bring a cluster up, pull every image of a study on every node, and write a report."""
    if not 0 < scale <= 1:
        raise PlanError(
            f"--scale {scale} is no fraction of the images' bytes; it must be above 0 and at "
            "most 1.",
            "--scale 0.01",
        )
    if resume and (stack or study or run_id or seed is not None):
        raise PlanError(
            "--resume goes on with a run as it was planned, so --stack, --study, --run-id and "
            "--seed have no place beside it.",
            "leave them out, or begin a new run",
        )
    if not resume and (not stack or study is None):
        raise PlanError(
            "A new run needs to know what to pull and where.",
            "python -m experiment run --stack size-4 --study studies/smoke.yaml --rehearse",
        )
    if study is not None:
        load_study(study)
        require_stack(stack)

    from experiment.command import NewRun, begin, carry_out, go_on  # noqa: PLC0415
    from rehearsal.session import session  # noqa: PLC0415 (see the module's docstring)

    try:
        with session(scale=scale, keep=keep_cluster) if rehearse else nullcontext():
            planned = go_on(resume) if study is None else begin(NewRun(stack, study, run_id, seed))
            carry_out(planned, keep_cluster=keep_cluster, agreed=yes)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted before anything was created.") from None


def main() -> None:
    """Run the command line; a user's mistake ends with its sentence and its exit code."""
    try:
        app()
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
