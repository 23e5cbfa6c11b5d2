"""Commands of `python -m experiment` about clusters, beside a run: registered by experiment.cli.

Imports stand in the commands, so that --help stays fast.
"""
# ruff: noqa: PLC0415 (see above)

from typing import Annotated

import typer

app = typer.Typer()

_Stack = Annotated[str, typer.Option(help="One of Pulumi.*.yaml, such as size-4.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")]
_Project = Annotated[
    str, typer.Option(help="Google Cloud project; default: $GOOGLE_CLOUD_PROJECT.")
]


@app.command("list")
def list_clusters(*, project: _Project = "") -> None:
    """Tell of all clusters of this program in a project: what they cost, when they end."""
    from experiment import clusters

    clusters.show_list(clusters.project_of(project), typer.echo)


@app.command()
def status(*, stack: _Stack) -> None:
    """Tell of one stack's cluster: GKE's word, Ready nodes, deadline, cost so far."""
    from experiment import clusters

    clusters.show_status(stack, typer.echo)


@app.command()
def destroy(*, stack: _Stack, yes: _Yes = False) -> None:
    """Take down all that there is of a stack, also what a killed command left."""
    from experiment import clusters

    clusters.destroy(stack, typer.echo, agreed=yes)


@app.command()
def recover(*, stack: _Stack) -> None:
    """Mend a stack's state after a command was killed, and tell what there is."""
    from experiment import clusters

    clusters.recover(stack, typer.echo)


@app.command()
def extend(
    *,
    stack: _Stack,
    hours: Annotated[
        int, typer.Option(min=1, max=720, help="How much later than now set it deletes itself.")
    ],
) -> None:
    """Move the time at which a stack's cluster deletes itself."""
    from experiment import clusters

    clusters.extend(stack, hours, typer.echo)


@app.command()
def sweep(*, project: _Project = "", yes: _Yes = False) -> None:
    """Delete the clusters of this program whose deadline has passed; needs no state."""
    from experiment import clusters

    clusters.sweep(clusters.project_of(project), typer.echo, agreed=yes)
