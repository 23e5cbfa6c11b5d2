"""`files`: the stack and study files that --stack and --study can name."""

from typing import Annotated

import typer

from experiment.errors import PlanError
from schema.errors import shortened
from schema.output import Output, OutputOption, print_rows
from schema.project_files import PROJECT_DIR, STACKS, STUDIES, is_own, project_files

app = typer.Typer()


@app.command()
def files(
    name: Annotated[str, typer.Argument(help="Print this file, for a copy to edit.")] = "",
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """List stack and study files; those of the current folder come first, by name."""
    found = project_files(STACKS) | project_files(STUDIES)
    if not name:
        print_rows(
            output,
            [
                {"file": each, "from": "this folder" if is_own(path) else "the program"}
                for each, path in found.items()
            ],
        )
        return
    if name not in found:
        raise PlanError(
            f"There is no file {shortened(name)!r} here or in {PROJECT_DIR}.", "pull-study files"
        )
    typer.echo(found[name].read_text("utf-8"), nl=False)
