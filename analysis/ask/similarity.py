"""How similar images are: Jaccard similarity of their layers and of their build steps.

Jaccard: shared members over all members of two sets; 1 for two empty sets. The base is the first
layers that all images have in common.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from analysis.csv_files import write_csv
from analysis.read.manifests import ImageManifest

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Similarities:
    """Square matrices over the same images, named by labels, and the layers that are the base."""

    tags: tuple[str, ...]
    base: tuple[str, ...]
    layers: Matrix
    layers_without_base: Matrix
    build_steps: Matrix | None
    """None where no image's build steps are known."""

    def tables(self) -> dict[str, Matrix]:
        """Return the matrices by the name of their CSV file."""
        named = {
            "similarity_layers": self.layers,
            "similarity_layers_without_base": self.layers_without_base,
        }
        if self.build_steps is not None:
            named["similarity_build_steps"] = self.build_steps
        return named


def jaccard(sets: Sequence[frozenset[str]]) -> Matrix:
    """Return pairwise similarities, sets by sets: 0 to 1, symmetric, 1 on the diagonal."""
    members = sorted(frozenset().union(*sets))
    place = {member: column for column, member in enumerate(members)}
    held = np.zeros((len(sets), len(members)))
    for row, one in enumerate(sets):
        held[row, [place[member] for member in one]] = 1
    shared = held @ held.T
    sizes = held.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.ones_like(shared), where=union > 0))


def compare_images(images: Sequence[ImageManifest]) -> Similarities:
    """Compare all pairs of images."""
    layers = [tuple(layer.digest for layer in image.layers) for image in images]
    base = common_base(layers)
    without = [frozenset(digests) - frozenset(base) for digests in layers]
    steps = [frozenset(image.steps) for image in images]
    return Similarities(
        labels_of(images),
        base,
        jaccard([frozenset(digests) for digests in layers]),
        jaccard(without),
        jaccard(steps) if any(steps) else None,
    )


def common_base(layers: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the first layers that all images have in common; none for a single image."""
    if len(layers) < 2:  # noqa: PLR2004 (one image has nothing in common)
        return ()
    rows = zip(*layers, strict=False)
    return tuple(row[0] for row in takewhile(lambda row: len(set(row)) == 1, rows))


def write_similarities(similar: Similarities, out: Path) -> list[Path]:
    """Write each matrix as CSV with tags as row and column labels."""
    return [
        write_csv(
            out / f"{name}.csv",
            ["tag", *similar.tags],
            (
                (tag, *(f"{value:.6g}" for value in row))
                for tag, row in zip(similar.tags, matrix, strict=True)
            ),
        )
        for name, matrix in similar.tables().items()
    ]


def write_images(images: Sequence[ImageManifest], out: Path) -> list[Path]:
    """Write images.csv (one row per image) and layers.csv (one row per layer)."""
    names = ("tag", "layers", "compressed_bytes", "unpacked_bytes", "unpacked_from", "ratio",
             "provenance")  # fmt: skip
    labelled = list(zip(images, labels_of(images), strict=True))
    rows = (
        (label, len(i.layers), i.compressed_bytes, i.unpacked_bytes, i.unpacked_from,
         None if i.ratio is None else f"{i.ratio:.6g}", i.provenance)
        for i, label in labelled
    )  # fmt: skip
    layers = (
        (label, number, layer.digest, layer.size_bytes)
        for image, label in labelled
        for number, layer in enumerate(image.layers, 1)
    )
    return [
        write_csv(out / "images.csv", names, rows),
        write_csv(out / "layers.csv", ("tag", "number", "digest", "size_bytes"), layers),
    ]


def cluster_order(matrix: Matrix) -> list[int]:
    """Return an order that puts similar images next to each other (average linkage)."""
    if len(matrix) < 3:  # noqa: PLR2004 (an order)
        return list(range(len(matrix)))
    apart = squareform(1 - matrix, checks=False)
    tree = hierarchy.linkage(apart, "average")
    return [int(i) for i in hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, apart))]


def labels_of(images: Sequence[ImageManifest]) -> tuple[str, ...]:
    """Return a unique label of each image: its tag, or repository:tag where tags are shared."""
    counts = Counter(image.tag for image in images)
    return tuple(image.tag if counts[image.tag] == 1 else image.name for image in images)
