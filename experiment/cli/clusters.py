"""Commands about clusters, besides a run; experiment.cli.app adds them.

The commands import what they need, so that --help stays fast.
"""
# ruff: noqa: PLC0415 (see above)

from functools import partial
from typing import Annotated

import typer

from experiment.cli.options import Yes
from experiment.errors import PlanError
from schema.output import Output, OutputOption

app = typer.Typer()

_Stack = Annotated[str, typer.Option(help="Stack: NAME of a Pulumi.NAME.yaml, such as size-4.")]
_Project = Annotated[
    str, typer.Option(help="Google Cloud project; default: $GOOGLE_CLOUD_PROJECT.")
]


@app.command()
def preview(
    *,
    stack: Annotated[list[str] | None, typer.Option(help="Stack to preview; repeatable.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Preview every stack.")] = False,
    against: Annotated[
        str, typer.Option(help="Git revision to compare with; default: every resource is new.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what stacks would create and cost, without credentials; fail if one breaks a guard."""
    from experiment.preview.base_revision import deleted_stacks
    from experiment.preview.previews import preview_stacks, require_no_problems
    from experiment.preview.report import report
    from experiment.provision.stack_files import stack_names

    if everything == bool(stack):
        raise PlanError(
            "A preview needs either --all or --stack.",
            "--all, or --stack size-4",
        )
    previews = preview_stacks(
        stack or stack_names(), against, lambda line: typer.echo(f"preview: {line}", err=True)
    )
    deleted = deleted_stacks(against, stack_names()) if against else []
    typer.echo(report(previews, against=against, deleted=deleted, output=output), nl=False)
    require_no_problems(previews)


@app.command("list")
def list_clusters(*, project: _Project = "", output: OutputOption = Output.TABLE) -> None:
    """List the clusters of this program in a project: state, Ready nodes, deadline, cost."""
    from experiment.provision.manage import clusters

    warn = partial(typer.echo, err=True)
    clusters.show_list(clusters.project_of(project), typer.echo, output, warn)


@app.command()
def destroy(*, stack: _Stack, yes: Yes = False) -> None:
    """Delete everything of a stack, including what a killed command left."""
    from experiment.provision.manage import stacks

    stacks.destroy(stack, typer.echo, assume_yes=yes)


@app.command()
def recover(*, stack: _Stack) -> None:
    """Repair a stack's state after a command was killed, and show what exists."""
    from experiment.provision.manage import stacks

    stacks.recover(stack, typer.echo)


@app.command()
def extend(
    *,
    stack: _Stack,
    hours: Annotated[
        int, typer.Option(min=1, max=720, help="Hours to add to the current deadline.")
    ],
) -> None:
    """Move the time of a cluster's automatic deletion."""
    from experiment.provision.manage import stacks

    stacks.extend(stack, hours, typer.echo)


@app.command()
def sweep(*, project: _Project = "", yes: Yes = False) -> None:
    """Delete the clusters of this program whose deadline has passed; needs no state."""
    from experiment.provision.manage import clusters

    clusters.sweep(clusters.project_of(project), typer.echo, assume_yes=yes)
