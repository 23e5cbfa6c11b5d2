"""`pull-study-analysis`: tables, plots, answers and a report from recorded pulls.

Reads options and prints results. Commands import what they run, so that --help is fast.
"""
# ruff: noqa: PLC0415 (see above)

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schema.errors import ExitCode, UserError
from schema.inert import visible
from schema.output import Output, OutputOption, print_rows
from schema.program import make_app, run_app

if TYPE_CHECKING:
    from analysis.read.read_events import Notes

PLAIN_EVERY = 1_000_000
"""Events between two lines of progress if standard error is not a terminal."""

_NO_PULL = "No pull of a study image was recorded"

app = make_app(
    "Tables, plots and answers from recorded Kubernetes events of image pulls.",
    rich_markup_mode=None,  # plain help starts in half the time
)

Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Run folders (data/runs/ID), folders in the layout of the original study at any level "
        "(metadata, metadata/run1, metadata/run1/16), or files with events.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(envvar="PULL_STUDY_OUT", help="Folder for the results; created if missing."),
]
Images = Annotated[
    str | None,
    typer.Option(
        help="Regular expression of the images to analyze; default: those that a run planned, else "
        "those whose tags state layers and size, else those of Jobs, else all."
    ),
]


@app.command()
def tables(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Write events, pulls, cells and summary as CSV and Parquet."""
    from analysis.tables import open_tables, write_tables

    with _progress() as show, open_tables(inputs, images, show) as derived:
        for path in write_tables(derived, out):
            typer.echo(path)
        _warn_of_notes(derived.notes, out)
        if not derived.rows("FROM pulls LIMIT 1"):
            typer.echo(f"{_NO_PULL}: the tables of pulls are empty.", err=True)


@app.command()
def report(
    inputs: Inputs,
    out: Out = Path("results"),
    images: Images = None,
    manifests: Annotated[
        Path | None, typer.Option(help="Saved manifests of the images, to compare their layers.")
    ] = None,
) -> None:
    """Write all tables and report.html, a self-contained page."""
    from analysis.show.write_report import write_report

    with _progress() as show:
        page = write_report(inputs, out, images=images, manifests=manifests, progress=show)
    typer.echo(page)


@app.command()
def audit(
    inputs: Inputs,
    out: Out = Path("results"),
    images: Images = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check how far recordings can be trusted: grades, findings and audit.html."""
    from analysis.ask.audit import FINDING_COLUMNS, finding_rows, write_findings
    from analysis.ask.audit import audit as examine
    from analysis.frames import frames_of
    from analysis.judge.audit_counts import audit_counts
    from analysis.show.drawing import Drawing
    from analysis.show.report import make_audit_page, write_page
    from analysis.tables import open_tables

    with Drawing() as drawing:
        with _progress() as show, open_tables(inputs, images, show) as derived:
            frames, counts = frames_of(derived), audit_counts(derived.database)
        audits = examine(derived, frames, counts)
        page = make_audit_page(derived, frames, audits, counts.events)
        page_file = write_page(page, out / "audit.html", drawing)
    table = write_findings(audits, out / "audit.csv")
    if output is not Output.TABLE:
        print_rows(output, finding_rows(audits), FINDING_COLUMNS)
    for one in audits if output is Output.TABLE else ():
        mark = "" if one.provenance == "measured" else f" [{one.provenance}]"
        typer.echo(
            visible(f"{one.grade}  {one.label}: {one.valid} of {one.cells} cells valid{mark}")
        )
        for finding in one.findings:
            typer.echo(visible(f"     {finding.severity:8} {finding.kind}: {finding.text}"))
    for path in (table, page_file):
        typer.echo(path, err=output is not Output.TABLE)


@app.command()
def plots(inputs: Inputs, out: Out = Path("results"), images: Images = None) -> None:
    """Draw the figures of the report as SVG and PNG."""
    from analysis.frames import frames_of
    from analysis.judge.audit_counts import audit_counts
    from analysis.show.figure_files import write_figures
    from analysis.show.report import make_page
    from analysis.tables import open_tables

    with _progress() as show, open_tables(inputs, images, show) as derived:
        frames, counts = frames_of(derived), audit_counts(derived.database)
    pulled = (frames.pulls["outcome"] == "pulled").any()
    paths = write_figures(make_page(derived, frames, counts), out) if pulled else []
    if not paths:
        raise UserError(f"{_NO_PULL}: there is nothing to plot.", "name other recordings")
    for path in paths:
        typer.echo(path)


@app.command()
def similarity(
    inputs: Annotated[list[Path], typer.Argument(help="Run folders, or files of saved manifests.")],
    out: Out = Path("results"),
) -> None:
    """Compare images by layers, with and without the common base, and by build steps."""
    from analysis.ask.similarity import compare_images, write_images, write_similarities
    from analysis.read.manifests import indexes, read_all
    from analysis.show.figure_files import write_similarity_plots

    images = read_all(inputs)
    for tag in indexes(inputs):
        typer.echo(
            f"Left out: {visible(tag)} is a multi-platform index, which has no layers.", err=True
        )
    similar = compare_images(images)
    for path in (
        *write_similarities(similar, out),
        *write_images(images, out),
        *write_similarity_plots(similar, images, out),
    ):
        typer.echo(path)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="The baseline: one recording or several.")],
    second: Annotated[Path, typer.Argument(help="The recordings to compare with it.")],
    *,
    out: Out = Path("results"),
    statistic: Annotated[
        str | None,
        typer.Option(
            help="Statistic of an image's pulls: median, mean, p95 or max; default: that of "
            "--fail-if, else median."
        ),
    ] = None,
    fail_if: Annotated[
        str,
        typer.Option(
            help="Exit with code 8 if all images together or one of them are beyond a margin with "
            "95 % confidence: 'median slower by 10 %'."
        ),
    ] = "",
    images_first: Annotated[
        str | None, typer.Option(help="Regular expression of the first side's images.")
    ] = None,
    images_second: Annotated[
        str | None, typer.Option(help="Regular expression of the second side's images.")
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Allow measured data against simulated or rehearsed data."),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare two runs, stacks or repositories, image by image and over all images."""
    from analysis.ask import compare as comparing
    from analysis.ask.samples import no_samples, samples_of
    from analysis.frames import frames_of
    from analysis.show.figure_files import write_comparison_plot
    from analysis.tables import open_tables

    condition = comparing.parse_condition(fail_if) if fail_if else None
    if condition and statistic not in {None, condition.statistic}:
        raise UserError(
            f"--statistic {statistic} and --fail-if {fail_if!r} name two statistics, and one "
            "comparison has one.",
            "leave --statistic out",
        )
    sides, recorded, empty = [], [], []
    for name, side in (("first", first), ("second", second)):
        with open_tables([side]) as derived:
            frames = frames_of(derived)
        samples = samples_of(frames)
        recorded.append(set(frames.images["name"].astype(str)))
        empty.append(no_samples(frames))
        if first.resolve() != second.resolve():  # equal labels of two recordings are two clusters
            samples["cluster"] = f"{name}: {side.name} " + samples["cluster"]
        sides.append(samples)
    result = comparing.compare(
        sides[0],
        sides[1],
        statistic=condition.statistic if condition else statistic or "median",
        images=(images_first, images_second),
        recorded=(recorded[0], recorded[1]),
        empty=(empty[0], empty[1]),
        mixed=mixed,
    )
    as_rows = output is not Output.TABLE
    if as_rows:
        print_rows(output, comparing.comparison_rows(result))
    for line in comparing.lines(result):
        typer.echo(visible(line), err=as_rows)
    for path in (comparing.write_comparison(result, out), *write_comparison_plot(result, out)):
        typer.echo(path, err=as_rows)
    if condition is None:
        return
    verdict = comparing.judge(result, condition)
    typer.echo(verdict.text, err=as_rows)
    unjudged = sum(not row.effect.answered for row in result.rows)
    if unjudged:
        typer.echo(
            f"Not evaluated, too few nodes: {unjudged} of {len(result.rows)} images.", err=True
        )
    if verdict.failed:
        beyond = [*verdict.images, *(["all images together"] if verdict.overall else [])]
        typer.echo(f"{fail_if}: {', '.join(beyond)}", err=True)
        raise typer.Exit(ExitCode.DIFFERENT)


@app.command()
def predict(
    inputs: Annotated[
        list[Path] | None, typer.Argument(help="Recordings to fit; default: data/runs.")
    ] = None,
    *,
    image: Annotated[str, typer.Option(help="Reference or tag of the image.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that pull it at the same time.")],
    layers: Annotated[int | None, typer.Option(min=1, help="Number of layers, if unknown.")] = None,
    compressed_bytes: Annotated[
        int | None, typer.Option(min=0, help="Bytes over the network.")
    ] = None,
    unpacked_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes on the disk.")] = None,
    manifests: Annotated[
        Path | None, typer.Option(help="Saved manifests that include the image.")
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Also predict outside the range of the data.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Predict how long an image of your own takes to pull, with an interval."""
    from analysis.ask.image_facts import find_image
    from analysis.ask.model import fit, prediction_row
    from analysis.ask.model import predict as predict_pull
    from analysis.frames import frames_of
    from analysis.tables import open_tables

    with open_tables(inputs or [Path("data/runs")]) as derived:
        frames = frames_of(derived)
    model = fit(frames)
    found = find_image(
        image,
        frames,
        manifests,
        layers=layers,
        compressed_bytes=compressed_bytes,
        unpacked_bytes=unpacked_bytes,
    )
    prediction = predict_pull(model, found, nodes, extrapolate=extrapolate)
    if output is not Output.TABLE:
        print_rows(output, [prediction_row(model, found, nodes, prediction)])
        return
    typer.echo(f"image       {found.name}")
    typer.echo("pull        {:.1f} s ({:.1f} to {:.1f} s)".format(*prediction.pull_s))
    typer.echo("whole Job   {:.1f} s ({:.1f} to {:.1f} s)".format(*prediction.job_s))
    typer.echo(
        f"fitted to   {model.pulls} valid cells of {len(model.images)} images on {model.nodes} "
        f"nodes, {model.provenance}; median error on images left out of the fit: "
        f"{model.unseen_error:.0%}"
    )
    if model.caution:
        typer.echo(model.caution)


_PASSED_OVER = {
    "unreadable": ("line could not be read", "lines could not be read"),
    "other-form": ("object describes an event", "objects describe events"),
    "not-an-event": ("object is no event", "objects are no events"),
    "left-out": ("file has no events", "files have no events"),
}
"""Kinds of notes that are mentioned, in words for one and for several."""


def _warn_of_notes(notes: "Notes", out: Path) -> None:
    """Say what was passed over."""
    for kind, said in _PASSED_OVER.items():
        if count := notes.total(kind):
            form = " in a form that is not read" if kind == "other-form" else ""
            words = f"{count} {said[count > 1]}{form}"
            typer.echo(f"{words}; {out / 'notes.csv'} lists them.", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Yield a callback that shows how many events were read.

    On a terminal it updates one line, elsewhere it prints a line per million.
    """
    shown = 0

    def show(count: int) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            typer.echo(f"\r{count:,} events read ", nl=False, err=True)
            shown = count
        elif count - shown >= PLAIN_EVERY:
            typer.echo(f"{count:,} events read", err=True)
            shown = count

    try:
        yield show
    finally:
        if shown and sys.stderr.isatty():
            typer.echo(err=True)


def main() -> None:
    """Run the command line; SIGTERM ends it as Ctrl-C does, so that no temporary file is left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app)
