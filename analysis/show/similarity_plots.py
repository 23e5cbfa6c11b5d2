"""Pictures of similarity.py's matrices, and of the sizes of layers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.ask.similarity import Similarities, cluster_order
from analysis.read.manifests import ImageManifest
from analysis.show.labels import counted
from analysis.show.plot_files import PULL, new_heat_map, new_plain_figure, save, style

_TITLES = {
    "similarity_layers": "Layers in common",
    "similarity_layers_without_base": "Layers in common, without the base",
    "similarity_build_steps": "Build steps in common",
}


def write_similarity_plots(
    similar: Similarities, images: Sequence[ImageManifest], out: Path
) -> list[Path]:
    """Heat maps with alike images side by side, and the histogram of layer sizes."""
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
            caption = f"n = {len(tags)} images; base: {base} in all of them."
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
    axes.set_title("Sizes of the layers", y=1.01)
    uses = sum(len(image.layers) for image in images)
    caption = f"n = {len(sizes)} different layers, in {uses} places of {len(images)} images."
    return save(figure, out, "layer_sizes", caption, mark)
