"""Figures as files: one style, SVG and PNG, each with n, exclusions and provenance.

Draws on matplotlib's Figure, without pyplot's global state. The same figure gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.read.provenance import watermark_text
from schema.errors import UserError

INK = "#1c2430"
SOFT = "#5a6472"
GRID = "#e3e6ea"
WAIT, PULL, START, SETTLE = "#c9ced6", "#0072b2", "#e69f00", "#cc79a7"
"""From the palette of Okabe and Ito, which is safe for all types of colour vision."""

PART_COLOURS = {
    "preflight": "#7f8793",
    "provision": "#414487",
    "prepare": "#2a788e",
    "removal": "#22a884",
    "control plane": "#440154",
    "start": START,
    "pull": PULL,
    "container": "#009e73",
    "settling": SETTLE,
    "runner": WAIT,
    "collect": "#f0e442",
    "teardown": "#b35806",
    "unexplained": "#d55e00",
}
"""Colours of the parts of the wall time (wall_time.PARTS)."""

_STYLE: dict[Any, Any] = {
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
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
}


class PlotError(UserError):
    """Figures cannot be written."""


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all figures while they are drawn and saved."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float = 9, height: float = 5) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def sequence(count: int) -> list[tuple[float, float, float, float]]:
    """Return `count` colours (RGBA, 0 to 1) from dark to light, without viridis' palest end."""
    return [mpl.colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]


def save(figure: Figure, out: Path, name: str, caption: str, provenance: str = "") -> list[Path]:
    """Add caption and watermark, and write NAME.svg and NAME.png.

    Raises:
        PlotError: the folder cannot be written.
    """
    # A layout engine reserves space for the caption; other figures leave their lower edge free.
    place = {} if figure.get_layout_engine() else {"y": 0.012, "va": "bottom"}
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=8.5, color=SOFT, wrap=True, **place)
    if provenance:
        figure.text(
            0.5, 0.5, watermark_text(provenance), ha="center", va="center", rotation=20,
            fontsize=30, weight="bold", color="#d55e00", alpha=0.18, zorder=10,
        )  # fmt: skip
    paths = [out / f"{name}.svg", out / f"{name}.png"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # the layout is done
        figure.savefig(
            paths[1], dpi=120, metadata={"Software": None}, pil_kwargs={"compress_level": 2}
        )
    except OSError as error:
        raise PlotError(
            f"Figures cannot be written to {out}: {error}.", "name another folder"
        ) from error
    return paths


def new_heat_map(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    limits: tuple[float, float],
    colours: str = "viridis",
) -> tuple[Figure, Axes]:
    """Return a heat map of `values` (rows by columns); labels that do not fit are thinned.

    Margins are computed from the lengths of labels: matplotlib takes seconds to measure a hundred.
    """
    font = 8.0 if max(len(rows), len(columns)) <= _FEW_LABELS else 5.5
    letter = font * 0.0086
    left = 0.5 + letter * max(map(len, rows), default=0)
    below = 0.6 + letter * max(map(len, columns), default=0)
    across, up = (min(10.0, max(2.0, 0.14 * len(n))) for n in (columns, rows))
    width, height = left + max(across, 4.0) + 1.2, below + up + 0.6
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, below / height, max(across, 4.0) / width, up / height))
    image = axes.imshow(
        values, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axes.grid(visible=False)
    _place_by_hand(axes)
    places, texts = _thinned(rows)
    axes.set_yticks(places, texts, fontsize=font)
    places, texts = _thinned(columns)
    axes.set_xticks(places, texts, rotation=90, fontsize=font)
    bar_axes = figure.add_axes((1 - 0.95 / width, below / height, 0.18 / width, up / height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_label(label)
    return figure, axes


def _place_by_hand(axes: Axes) -> None:
    """Fix the positions of title and labels, so that matplotlib does not measure all ticks."""
    axes.set_title("", y=1.01)
    axes.xaxis.set_label_coords(0.5, -0.13)
    axes.yaxis.set_label_coords(-0.09, 0.5)


def new_plain_figure(width: float = 7, height: float = 4) -> tuple[Figure, Axes]:
    """As new_figure, with fixed margins: only for short labels."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.12, 0.24, 0.85, 0.64))
    _place_by_hand(axes)
    return figure, axes


_MOST_LABELS = 30
_FEW_LABELS = 20


def _thinned(names: Sequence[str]) -> tuple[list[int], list[str]]:
    every = max(1, -(-len(names) // _MOST_LABELS))
    places = list(range(0, len(names), every))
    return places, [names[place] for place in places]
