"""Figures as files: one look, SVG and PNG, with n, exclusions and provenance on each.

Draws on matplotlib's Figure, without pyplot's global state, so that any number of figures can be
made in any process. The same figure gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schema.errors import UserError

INK = "#1c2430"
SOFT = "#5a6472"
GRID = "#e3e6ea"
WAIT, PULL, START, SETTLE, OTHER = "#c9ced6", "#0072b2", "#e69f00", "#cc79a7", "#7f8793"
"""Of the palette of Okabe and Ito, which people of any colour vision can tell apart."""

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "pull-study",
    "svg.fonttype": "path",
}


class PlotError(UserError):
    """Figures cannot be written."""


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for as long as they are drawn and saved."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float = 9, height: float = 5) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def sequence(count: int) -> list[tuple[float, float, float, float]]:
    """So many colours from dark to light (viridis), its palest end left out."""
    return [mpl.colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]


def save(figure: Figure, out: Path, name: str, caption: str, provenance: str = "") -> list[Path]:
    """Put the caption below, mark what was not measured, and write NAME.svg and NAME.png.

    Raises:
        PlotError: the folder cannot be written.
    """
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=8.5, color=SOFT, wrap=True)
    if provenance:
        figure.text(
            0.5, 0.5, provenance.partition(",")[0].upper(), ha="center", va="center", rotation=20,
            fontsize=30, weight="bold", color="#d55e00", alpha=0.18, zorder=10,
        )  # fmt: skip
    paths = [out / f"{name}.svg", out / f"{name}.png"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None, "Creator": None})
        figure.savefig(paths[1], dpi=144, metadata={"Software": None})
    except OSError as error:
        raise PlotError(f"Figures cannot be written to {out}: {error}.", "name another folder")
    return paths


def heat_map(
    axes: Axes,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    limits: tuple[float, float] | None = None,
    colours: str = "viridis",
) -> None:
    """A heat map with labelled rows and columns; labels are thinned where they would not fit."""
    low, high = limits or (None, None)
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=low, vmax=high,
                        interpolation="nearest")  # fmt: skip
    axes.grid(visible=False)
    _label(axes, "y", rows)
    _label(axes, "x", columns)
    bar = axes.get_figure().colorbar(image, ax=axes, shrink=0.8)  # type: ignore[union-attr]
    bar.set_label(label)
    bar.outline.set_visible(False)  # type: ignore[operator]


_MOST_LABELS = 80


def _label(axes: Axes, which: str, names: Sequence[str]) -> None:
    every = max(1, -(-len(names) // _MOST_LABELS))
    places = range(0, len(names), every)
    size = 8 if len(names) < 40 else 5.5  # noqa: PLR2004 (what fits beside each other)
    texts = [names[place] for place in places]
    if which == "x":
        axes.set_xticks(places, texts, rotation=90, fontsize=size)
    else:
        axes.set_yticks(places, texts, fontsize=size)
