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

_NO_PULL = "No pull of a study's image was recorded"

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
        if not derived.rows("FROM pulls LIMIT 1"):
            typer.echo(f"{_NO_PULL}: its tables have no rows.", err=True)


@app.command()
def report(
    inputs: Inputs,
    out: Out = Path("results"),
    images: Images = None,
    manifests: Annotated[
        Path | None, typer.Option(help="Saved manifests of the images, to tell how alike they are.")
    ] = None,
) -> None:
    """Write all tables and report.html, one page that opens from disk."""
    from analysis.show.report import write_report

    with _progress() as tell:
        page = write_report(inputs, out, images=images, manifests=manifests, progress=tell)
    typer.echo(page)


@app.command()
def audit(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Tell how far recordings can be trusted: a grade each, findings, audit.html."""
    from analysis.judge.audit import audit as examine
    from analysis.judge.audit import write_findings
    from analysis.show.page import render
    from analysis.show.report import make_audit_page, write_page
    from analysis.tables import open_tables

    with _progress() as tell, open_tables(inputs, images, tell) as derived:
        audits = examine(derived)
        page = write_page(render(make_audit_page(derived, audits)), out / "audit.html")
        table = write_findings(audits, out / "audit.csv")
    for one in audits:
        mark = "" if one.provenance == "measured" else f" [{one.provenance}]"
        typer.echo(f"{one.grade}  {one.label}: {one.valid} of {one.cells} cells valid{mark}")
        for finding in one.findings:
            typer.echo(f"     {finding.severity:8} {finding.kind}: {finding.text}")
    typer.echo(table)
    typer.echo(page)


@app.command()
def plots(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Draw all plots as SVG and PNG."""
    from analysis.show.plots import write_plots
    from analysis.tables import open_tables

    with _progress() as tell, open_tables(inputs, images, tell) as derived:
        paths = write_plots(derived, out)
    if not paths:
        typer.echo(f"{_NO_PULL}: there is nothing to draw.", err=True)
    for path in paths:
        typer.echo(path)


@app.command()
def similarity(
    inputs: Annotated[list[Path], typer.Argument(help="Run folders, or files of saved manifests.")],
    out: Out = Path("results"),
) -> None:
    """Tell how alike images are, by layers with and without the base and by build steps."""
    from analysis.ask.similarity import compare_images, write_images, write_similarities
    from analysis.read.manifests import read_all
    from analysis.show.similarity_plots import write_similarity_plots

    images = read_all(inputs)
    similar = compare_images(images)
    for path in (
        *write_similarities(similar, out),
        *write_images(images, out),
        *write_similarity_plots(similar, images, out),
    ):
        typer.echo(path)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="What to compare with: one recording or several.")],
    second: Annotated[Path, typer.Argument(help="What is compared.")],
    *,
    out: Out = Path("results"),
    statistic: Annotated[
        str, typer.Option(help="Of an image's pulls: median, mean, p95 or max.")
    ] = "median",
    fail_if: Annotated[
        str, typer.Option(help="End with code 8 if an image is 'median slower by 10 %'.")
    ] = "",
    images_first: Annotated[
        str | None, typer.Option(help="Regular expression of the first side's images.")
    ] = None,
    images_second: Annotated[
        str | None, typer.Option(help="Regular expression of the second side's images.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Compare all successful pulls, not valid cells alone.")
    ] = False,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed", help="Compare measured with simulated or rehearsed data all the same."
        ),
    ] = False,
) -> None:
    """Compare two runs, stacks or registries, image by image."""
    from analysis.ask import compare as comparing
    from analysis.ask.study_data import load_clusters
    from analysis.tables import open_tables

    condition = comparing.parse_condition(fail_if) if fail_if else None
    sides = []
    for side in (first, second):
        with open_tables([side]) as derived:
            sides.append(load_clusters(derived))
    result = comparing.compare(
        sides[0],
        sides[1],
        statistic=condition.statistic if condition else statistic,
        every=every,
        images=(images_first, images_second),
        mixed=mixed,
    )
    for line in comparing.lines(result):
        typer.echo(line)
    for path in comparing.write_comparison(result, out):
        typer.echo(path)
    if condition is None:
        return
    beyond = comparing.judge(result, condition)
    unjudged = sum(row.effect is None for row in result.rows)
    if unjudged:
        typer.echo(
            f"Not judged, for too few nodes: {unjudged} of {len(result.rows)} images.", err=True
        )
    if beyond:
        typer.echo(f"{fail_if}: {', '.join(beyond)}", err=True)
        raise typer.Exit(ExitCode.DIFFERENT)


@app.command()
def predict(
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="What to learn from; default: data/runs.")
    ] = None,
    *,
    image: Annotated[str, typer.Option(help="Reference or tag of the image to ask about.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that pull it at the same time.")],
    layers: Annotated[int | None, typer.Option(help="Number of layers, if nothing says.")] = None,
    compressed_bytes: Annotated[int | None, typer.Option(help="Bytes that travel.")] = None,
    unpacked_bytes: Annotated[int | None, typer.Option(help="Bytes that land on the disk.")] = None,
    manifests: Annotated[Path | None, typer.Option(help="Saved manifests that name it.")] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Answer outside the range of the data too.")
    ] = False,
) -> None:
    """Tell how long an image of your own will take to pull, with an interval."""
    from analysis.ask.image_facts import find_image
    from analysis.ask.model import fit
    from analysis.ask.model import predict as ask
    from analysis.ask.study_data import load_clusters
    from analysis.tables import open_tables

    with open_tables(inputs or [Path("data/runs")]) as derived:
        clusters = load_clusters(derived)
    model = fit(clusters)
    asked = find_image(
        image,
        clusters,
        manifests,
        layers=layers,
        compressed_bytes=compressed_bytes,
        unpacked_bytes=unpacked_bytes,
    )
    answer = ask(model, asked, nodes, extrapolate=extrapolate)
    typer.echo(f"image       {asked.name}")
    typer.echo("pull        {:.1f} s ({:.1f} to {:.1f} s)".format(*answer.pull_s))
    typer.echo("whole Job   {:.1f} s ({:.1f} to {:.1f} s)".format(*answer.job_s))
    typer.echo(
        f"from        {model.pulls} pulls of {len(model.images)} images on {model.nodes} nodes, "
        f"{model.selection}, {model.provenance}; on images not seen the model is wrong by "
        f"{model.unseen_error:.0%} in the middle"
    )


def _say_unreadable(count: int, out: Path) -> None:
    if count:
        lines = "1 line" if count == 1 else f"{count} lines"
        typer.echo(f"{lines} could not be read; {out / 'notes.csv'} tells where.", err=True)


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
