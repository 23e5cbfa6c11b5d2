"""Commands about clusters, beside a run; experiment.cli.app registers them.

Imports stand in the commands, so that --help stays fast.
"""
# ruff: noqa: PLC0415 (see above)

from typing import Annotated

import typer

from experiment.errors import PlanError

app = typer.Typer()

_Stack = Annotated[str, typer.Option(help="One of Pulumi.*.yaml, such as size-4.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")]
_Project = Annotated[
    str, typer.Option(help="Google Cloud project; default: $GOOGLE_CLOUD_PROJECT.")
]


@app.command()
def preview(
    *,
    stack: Annotated[
        list[str] | None, typer.Option(help="A stack of Pulumi.*.yaml; can be given several times.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every stack that has a file.")] = False,
    against: Annotated[
        str, typer.Option(help="Compare with this git revision; default: all is new.")
    ] = "",
    form: Annotated[
        str, typer.Option("--format", help="How to print: text, markdown or json.")
    ] = "text",
) -> None:
    """Tell what stacks would become and cost, without credentials; fails if one breaks a guard."""
    from experiment.preview.base_revision import gone_stacks
    from experiment.preview.previews import preview_stacks, require_sound
    from experiment.preview.report import FORMATS, report
    from experiment.provision.stack_files import stack_names

    if form not in FORMATS:
        raise PlanError(f"There is no format {form!r}.", f"--format {' or '.join(FORMATS)}")
    if everything == bool(stack):
        raise PlanError(
            "A preview is of all stacks or of named ones, and neither or both were asked for.",
            "--all, or --stack size-4",
        )
    previews = preview_stacks(
        stack or stack_names(), against, lambda line: typer.echo(f"preview: {line}", err=True)
    )
    gone = gone_stacks(against) if against else []
    typer.echo(report(previews, against=against, gone=gone, form=form), nl=False)
    require_sound(previews)


@app.command("list")
def list_clusters(*, project: _Project = "") -> None:
    """Tell of all clusters of this program in a project: what they cost, when they end."""
    from experiment.provision import manage

    manage.show_list(manage.project_of(project), typer.echo)


@app.command()
def status(*, stack: _Stack) -> None:
    """Tell of one stack's cluster: GKE's word, Ready nodes, deadline, cost so far."""
    from experiment.provision import manage

    manage.show_status(stack, typer.echo)


@app.command()
def destroy(*, stack: _Stack, yes: _Yes = False) -> None:
    """Take down all that there is of a stack, also what a killed command left."""
    from experiment.provision import manage

    manage.destroy(stack, typer.echo, agreed=yes)


@app.command()
def recover(*, stack: _Stack) -> None:
    """Mend a stack's state after a command was killed, and tell what there is."""
    from experiment.provision import manage

    manage.recover(stack, typer.echo)


@app.command()
def extend(
    *,
    stack: _Stack,
    hours: Annotated[
        int, typer.Option(min=1, max=720, help="How much later than now set it deletes itself.")
    ],
) -> None:
    """Move the time at which a stack's cluster deletes itself."""
    from experiment.provision import manage

    manage.extend(stack, hours, typer.echo)


@app.command()
def sweep(*, project: _Project = "", yes: _Yes = False) -> None:
    """Delete the clusters of this program whose deadline has passed; needs no state."""
    from experiment.provision import manage

    manage.sweep(manage.project_of(project), typer.echo, agreed=yes)
