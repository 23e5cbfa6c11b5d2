"""`pull-study-images`: build, check, compare and copy the images of a study."""

import signal
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from images.errors import Interrupted, PlanError, VerifyError
from images.inspect import inspect_image
from images.make.build import build_image
from images.make.plan import BUSYBOX, Compression
from images.make.remote import open_remote
from images.orders import orders_of_matrix, orders_of_study
from images.progress import show_bytes
from images.registry.reference import parse_source
from images.sizes import quantiles, read_sample
from images.verify import verify_image
from schema.errors import ExitCode
from schema.inert import visible
from schema.output import Output, OutputOption, print_rows, print_tables
from schema.program import finite, make_app, run_app
from schema.study import load_study

app = make_app("Make container images of known size, layers and compressibility, and check them.")

Overwrite = Annotated[bool, typer.Option(help="Replace a tag that names another image.")]
Compressibility = Annotated[
    float, typer.Option(help="Share of the bytes that compression saves, 0 to 1.")
]


@app.command()
def build(
    *,
    layers: Annotated[str, typer.Option(help="Layers in the manifest; several: 1,9,125.")] = "",
    size: Annotated[str, typer.Option(help="Bytes of the files without the base.")] = "",
    to: Annotated[
        list[str] | None,
        typer.Option(help="REGISTRY/REPOSITORY[:TAG]; repeat it to push to several at once."),
    ] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Build all counts and sizes.")] = False,
    study: Annotated[Path | None, typer.Option(help="Build all images of this study.")] = None,
    mirror: Annotated[str, typer.Option(help="Registry to build a study's images in.")] = "",
    scale: Annotated[
        float, typer.Option(callback=finite, help="Real size as a fraction of the tag's.")
    ] = 1.0,
    salt: Annotated[
        str,
        typer.Option(
            help="End of the tag: another salt gives other layers; or a variant: v1, v2xN, filesN, "
            "gzipN, zstdN, none."
        ),
    ] = "",
    compressibility: Compressibility = 0.5,
    compression: Annotated[Compression, typer.Option(help="Of the layers.")] = Compression.GZIP,
    base: Annotated[
        str, typer.Option(help="busybox, or an image whose files are put into the first layer.")
    ] = BUSYBOX,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Parallel layers; default: cores + 2, at most 8.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Build images directly into registries; equal arguments give equal digests."""
    if study is not None:
        _refuse_beside_study(layers=layers, size=size, to=to, salt=salt, matrix=matrix)
        orders = orders_of_study(load_study(study), mirror)
    elif layers and size and to and not mirror:
        orders = orders_of_matrix(layers, size, salt, to, matrix=matrix)
    else:
        raise PlanError(
            "An image needs --layers, --size and --to; --mirror is only for --study.",
            "pull-study-images build --layers 9 --size 1176249324 --to 127.0.0.1:5000/chonks",
        )
    total = sum(round(order.tag.size_bytes * scale) for order in orders)
    console = Console(stderr=True)
    sent = 0
    with show_bytes(console, f"{len(orders)} image{'s' * (len(orders) > 1)}", total) as on_bytes:
        for order in orders:
            image = build_image(
                order.tag,
                *order.targets,
                scale=scale,
                compressibility=compressibility,
                compression=compression,
                base=base,
                overwrite=overwrite,
                jobs=jobs,
                on_bytes=on_bytes,
            )
            sent += image.sent
            for target in image.targets:
                typer.echo(f"{target}@{image.digest}")
    console.print(f"images complete: {len(orders)}; sent: {decimal(sent)}", highlight=False)


@app.command()
def inspect(
    reference: Annotated[str, typer.Argument(help="REGISTRY/REPOSITORY:TAG or @DIGEST.")],
    others: Annotated[list[str] | None, typer.Argument(help="To compare layers with.")] = None,
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an image's layers, sizes and digests, without downloading a layer."""
    print_tables(output, inspect_image(reference, others or []))


@app.command()
def verify(
    references: Annotated[list[str], typer.Argument(help="REGISTRY/REPOSITORY:TAG or @DIGEST.")],
) -> None:
    """Download images and check every digest, size and content byte."""
    wrong = 0
    for reference in references:
        with open_remote(parse_source(reference)) as remote:
            total = sum(layer.size for layer in remote.image.layers)
            with show_bytes(Console(stderr=True), f"verifying {reference}", total) as on_bytes:
                found = verify_image(remote, on_bytes=on_bytes)
        content = f"{found.content} content bytes match their seed"
        if remote.image.plan is None:
            content = "content not checked: not built by this program"
        for fault in chain(*found.faults):
            typer.echo(visible(f"{reference}: {fault}"), err=True)  # it may name a foreign file
        if any(found.faults):
            wrong += 1
        else:
            typer.echo(f"{found.target}: {len(found.faults)} layers correct, {content}")
    if wrong:
        problem = f"{wrong} of {len(references)} images differ from their manifest or tag, so"
        fix = "delete them in the registry and build them again, or with another --salt"
        raise VerifyError(f"{problem} measurements with them are not valid.", fix)


@app.command()
def sizes(
    sample: Annotated[
        typer.FileText, typer.Argument(help="Images, one per line: a reference or LAYERS,BYTES.")
    ],
    *,
    quantile: Annotated[
        list[float] | None, typer.Option("--quantile", "-q", help="0 to 1; repeatable.")
    ] = None,
    compressibility: Compressibility = 0.5,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show quantiles of sizes and layer counts of images in use, for a study."""
    shares = quantile or [0.1, 0.25, 0.5, 0.75, 0.9]
    found = quantiles(read_sample(list(sample)), shares, compressibility=compressibility)
    print_rows(output, found)


def _refuse_beside_study(**given: object) -> None:
    named = [f"--{option}" for option, value in given.items() if value]
    if named:
        problem = f"A study defines its images, so {' and '.join(named)} cannot be combined with"
        raise PlanError(f"{problem} --study.", "use --mirror HOST to build them elsewhere")


def main() -> None:
    """Run the command line; an interrupt says what is kept."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(_interruptible)


def _interruptible() -> None:
    try:
        app()
    except SystemExit as end:  # typer turns an interrupt into it
        if end.code != ExitCode.INTERRUPTED:
            raise
        raise Interrupted(
            "Interrupted; complete layers are kept, the tag was not set.",
            "run the same command again",
        ) from end
