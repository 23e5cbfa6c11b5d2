"""Plots of comparisons as files: two sides (compare.py), images and layers (similarity.py)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.ask.compare import Comparison
from analysis.ask.similarity import Similarities, cluster_order
from analysis.read.manifests import ImageManifest
from analysis.show.labels import counted
from analysis.show.plot_files import (
    INK,
    PULL,
    new_figure,
    new_heat_map,
    new_plain_figure,
    save,
    style,
)

_TITLES = {
    "similarity_layers": "Layers in common",
    "similarity_layers_without_base": "Layers in common, without the base",
    "similarity_build_steps": "Build steps in common",
}


def write_comparison_plot(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.svg and compare.png: the ratio of each image; nothing if none has one."""
    rows = [(row.tag, row.effect) for row in comparison.rows if row.effect]
    if not rows:
        return []
    with style():
        figure, axes = new_figure(8, max(2.8, 0.3 * len(rows) + 1.8))
        for place, (_, effect) in enumerate(rows):
            axes.plot([effect.low, effect.high], [place, place], color=PULL, lw=2)
            axes.plot([effect.value], [place], "o", color=PULL)
        axes.axvline(1, color=INK, lw=1)
        axes.set_yticks(range(len(rows)), [tag for tag, _ in rows], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(f"{comparison.statistic} pull time, second / first (1: no difference)")
        axes.set_title("Pull time of the second side relative to the first")
        caption = (
            f"First: {comparison.name_a}. Second: {comparison.name_b}. Bars: 95 %, bootstrap over "
            f"nodes; {comparison.pulls}."
        )
        return save(figure, out, "compare", caption, comparison.provenance)


def write_similarity_plots(
    similar: Similarities, images: Sequence[ImageManifest], out: Path
) -> list[Path]:
    """Write heat maps with similar images next to each other, and a histogram of layer sizes."""
    paths: list[Path] = []
    mark = "; ".join(sorted({i.provenance for i in images if i.provenance != "measured"}))
    with style():
        for name, matrix in similar.tables().items():
            order = cluster_order(matrix)
            tags = [similar.tags[i] for i in order]
            values = matrix[np.ix_(order, order)].tolist()
            figure, axes = new_heat_map(
                values, tags, tags, label="Jaccard similarity", limits=(0, 1)
            )
            axes.set_title(_TITLES[name], y=1.01)
            base = counted(len(similar.base), "layer")
            caption = f"n = {len(tags)} images with {base} in their common base."
            paths += save(figure, out, name, caption, mark)
        paths += _layer_sizes(images, out, mark)
    return paths


def _layer_sizes(images: Sequence[ImageManifest], out: Path, mark: str) -> list[Path]:
    sizes = {layer.digest: layer.size_bytes for image in images for layer in image.layers}
    known = [size for size in sizes.values() if size > 0]
    if not known:
        return []
    figure, axes = new_plain_figure(7, 4)
    edges = np.logspace(np.log10(min(known)) - 0.01, np.log10(max(known)) + 0.01, 30)
    axes.hist(known, bins=edges.tolist(), color=PULL)
    axes.set_xscale("log")
    axes.set_xlabel("compressed size of a layer (bytes)")
    axes.set_ylabel("layers")
    axes.set_title("Layer sizes", y=1.01)
    uses = sum(len(image.layers) for image in images)
    caption = f"n = {len(sizes)} distinct layers, used {uses} times by {len(images)} images."
    return save(figure, out, "layer_sizes", caption, mark)
