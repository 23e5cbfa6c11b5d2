"""Figures as files: the page's own specifications, drawn by vl-convert as SVG and PNG."""

import copy
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.ask.similarity import Similarities, cluster_order
from analysis.read.manifests import ImageManifest
from analysis.show.charts import Spec, layer_sizes, ratios, similarity_map
from analysis.show.labels import counted
from analysis.show.page import ASSETS, Columns, Figure, Page, shown
from schema.errors import UserError

if TYPE_CHECKING:
    from analysis.ask.compare import Comparison

STATIC_NODES = 64
"""Nodes in a drawing for browsers without scripts, so that pages stay small."""

_WIDTH = 900
_SCALE = 1.5


class PlotError(UserError):
    """Figures cannot be written."""


def write_figures(page: Page, out: Path) -> list[Path]:
    """Write each figure of a page as KEY.svg and KEY.png; return the paths.

    Raises:
        PlotError: the folder cannot be written.
    """
    figures = (figure for section in page.sections for figure in section.figures)
    return _write(((figure, page.data) for figure in figures), out)


def write_comparison_plot(comparison: "Comparison", out: Path) -> list[Path]:
    """Write compare.svg and compare.png: the ratio of each image; nothing if none has one."""
    rows = [row for row in comparison.rows if row.effect.answered]
    if not rows:
        return []
    data: Columns = {
        "image": [row.image for row in rows],
        "n": [f"n = {row.n_a} and {row.n_b}" for row in rows],
        "ratio": [row.effect.value for row in rows],
        "low": [row.effect.low for row in rows],
        "high": [row.effect.high for row in rows],
    }
    figure = Figure(
        "compare",
        "Pull time of the second side relative to the first",
        ratios(data["image"], _reach(data), comparison.statistic, comparison.provenance),
        ["ratios"],
        f"First: {comparison.name_a}. Second: {comparison.name_b}. Bars: 95 %, if trials vary "
        "as in the original study; valid cells.",
    )
    return _write([(figure, {"ratios": data})], out)


def _reach(data: Columns) -> float:
    """Return the largest factor by which a ratio or its interval differs from 1."""
    ratios = [value for name in ("ratio", "low", "high") for value in data[name]]
    return max((max(one, 1 / one) for one in ratios if one > 0), default=1.0) * 1.05


_TITLES = {
    "similarity_layers": "Layers in common",
    "similarity_layers_without_base": "Layers in common, without the base",
    "similarity_build_steps": "Build steps in common",
}


def write_similarity_plots(
    similar: Similarities, images: Sequence[ImageManifest], out: Path
) -> list[Path]:
    """Write heat maps with similar images next to each other, and a histogram of layer sizes."""
    mark = "; ".join(sorted({i.provenance for i in images if i.provenance != "measured"}))
    base = counted(len(similar.base), "layer")
    drawn = []
    for name, matrix in similar.tables().items():
        order = cluster_order(matrix)
        tags = [similar.tags[i] for i in order]
        data: Columns = {
            "a": [tag for tag in tags for _ in tags],
            "b": [tag for _ in tags for tag in tags],
            "similarity": [float(matrix[i, j]) for i in order for j in order],
        }
        caption = f"n = {len(tags)} images with {base} in their common base."
        spec = similarity_map(name, tags, mark)
        drawn.append((Figure(name, _TITLES[name], spec, [name], caption), {name: data}))
    sizes = {layer.digest: layer.size_bytes for image in images for layer in image.layers}
    known = [size for size in sizes.values() if size > 0]
    if known:
        uses = sum(len(image.layers) for image in images)
        caption = f"n = {len(sizes)} distinct layers, used {uses} times by {len(images)} images."
        figure = Figure("layer_sizes", "Layer sizes", layer_sizes(mark), ["layers"], caption)

        drawn.append(
            (figure, {"layers": {"bytes": known, "log": [math.log10(size) for size in known]}})
        )
    return _write(drawn, out)


def _write(figures: Iterable[tuple[Figure, Any]], out: Path) -> list[Path]:
    import vl_convert  # noqa: PLC0415 (the report draws in another process)

    paths: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for figure, data in figures:
            drawn = vl_convert.vegalite_to_svg(static_spec(figure, data))
            svg, png = out / f"{figure.key}.svg", out / f"{figure.key}.png"
            svg.write_text(drawn, encoding="utf-8")
            png.write_bytes(vl_convert.svg_to_png(drawn, scale=_SCALE))
            paths += [svg, png]
    except OSError as error:
        raise PlotError(
            f"Figures cannot be written to {out}: {error}.", "name another folder"
        ) from error
    return paths


def static_specs(page: Page) -> dict[str, Spec]:
    """Return what a browser without scripts shows: each figure, of a choice the one shown first.

    Of more than STATIC_NODES nodes an even sample is drawn, and a title says so.
    """
    specs = {}
    for section in page.sections:
        for figure in section.figures:
            if figure.choice and figure.choice != section.choices[-1]:
                continue
            nodes = sorted({n for name in figure.uses for n in page.data[name].get("node", [])})
            step = math.ceil(len(nodes) / STATIC_NODES) or 1
            left_out = set(nodes) - set(nodes[::step])
            data = {name: _without(page.data[name], left_out) for name in figure.uses}
            small = replace(figure, spec=_without_nodes(figure.spec, left_out))
            specs[figure.key] = static_spec(small, data)
            text = f"Without JavaScript: every {step}th of {len(nodes)} nodes." if step > 1 else ""
            specs[figure.key]["title"] = {"text": text, "fontSize": 12}
    return specs


def _without(columns: Columns, left_out: set[str]) -> Columns:
    """Return the rows of nodes that are not left out."""
    if not left_out or "node" not in columns:
        return columns
    keep = [node not in left_out for node in columns["node"]]
    return {name: list(compress(values, keep)) for name, values in columns.items()}


def _without_nodes(part: Any, left_out: set[str]) -> Any:
    """Return a part of a specification whose axes do not have some nodes."""
    if isinstance(part, Mapping):
        return {key: _without_nodes(item, left_out) for key, item in part.items()}
    if isinstance(part, list):
        return [
            _without_nodes(item, left_out)
            for item in part
            if not (isinstance(item, str) and item in left_out)
        ]
    return part


def static_spec(figure: Figure, data: Mapping[str, Columns]) -> Spec:
    """Return a figure's specification with its data, caption and the page's light colours."""
    text = json.dumps(shown(figure.spec))
    for name, colour in _colours().items():
        text = text.replace(f'"var(--{name})"', json.dumps(colour))
    spec: Spec = copy.deepcopy(json.loads(text))
    if "facet" in spec:
        spec["columns"] = min(spec["columns"], len(spec["facet"]["sort"]))
        spec["spec"]["width"] = _WIDTH // spec["columns"] - 50
    else:
        spec["width"] = _WIDTH
    spec["datasets"] = {name: _rows(shown(data[name])) for name in figure.uses}
    spec["background"] = "white"
    spec["config"] = {"view": {"stroke": None}, "axis": {"labelFontSize": 12, "titleFontSize": 12}}
    spec["title"] = {
        "text": figure.title,
        "subtitle": textwrap.wrap(figure.caption, 140),
        "anchor": "start",
    }
    return spec


def _colours() -> dict[str, str]:
    css = (ASSETS / "report.css").read_text(encoding="utf-8")
    light = css.partition("prefers-color-scheme: dark")[0]
    return dict(re.findall(r"--([a-z0-9-]+):\s*([^;]+);", light))


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
