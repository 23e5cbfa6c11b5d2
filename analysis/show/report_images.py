"""The report's sections on the images: bytes, transfer rates, and similarity."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.ask.questions.cards import Card, byte_size, not_varied
from analysis.ask.samples import EMPTY_FROM, emptiness
from analysis.ask.similarity import cluster_order, compare_images
from analysis.read.manifests import ImageManifest
from analysis.show.charts import rates, similarity_map
from analysis.show.conditions import differences
from analysis.show.labels import counted, short_names
from analysis.show.page import Figure, Section
from analysis.show.report_parts import Draft, columns_of, make_table

_TEXT = (
    "Bytes per second that a pull moves over the network and writes to the disk. A rate alone does "
    "not tell what limits it."
)


def image_bytes(draft: Draft) -> Section:
    """Return the section on the bytes of images and their rates."""
    images = draft.frames.images.sort_values("cluster").drop_duplicates("name", keep="last")
    images = images.assign(ratio=emptiness(images)).sort_values(
        ["unpacked_bytes", "layers", "name"], na_position="first"
    )
    counters = images[["received_bytes", "written_bytes"]].notna().any(axis=None)
    more = ("Received#", "Written#") if counters else ()
    table = make_table(
        f"{len(images)} images: compressed bytes as reported by kubelets, unpacked bytes as the "
        "tag claims" + (", received and written bytes as counted by nodes" if counters else ""),
        ("Image", "Repository", "Layers#", "Compressed#", "Unpacked#", "Ratio#", *more),
        [
            [
                row.label,
                row.repository,
                f"{row.layers:.0f}" if pd.notna(row.layers) else "–",
                *(_size(value) for value in (row.wire_bytes, row.unpacked_bytes)),
                _ratio(row.ratio),
                *((_size(row.received_bytes), _size(row.written_bytes)) if counters else ()),
            ]
            for row in images.itertuples(index=False)
        ],
        draft.mark,
    )
    return Section(
        "images",
        "Images and rates",
        [_TEXT, *_counters(draft)],
        figures=_rates(draft),
        tables=[table] if len(images) else [],
    )


def _size(value: float) -> str:
    return byte_size(None if pd.isna(value) else value)


def _counters(draft: Draft) -> list[str]:
    """Describe for how many pulls the nodes' own counters are usable, if they were read."""
    if not any(r.folder and r.folder.stats for r in draft.tables.recordings):
        return []
    cells = draft.frames.cells
    written = cells["written_bytes"].fillna(cells["disk_bytes"]).notna().sum()
    return [
        (
            "The runner read the nodes' own counters before and after each trial. Kubelets update "
            "them about every ten seconds, so they are used only if they cover one pull and hardly "
            f"any other: network counters of {cells['received_bytes'].notna().sum():,} and disk "
            f"counters of {written:,} of {cells['pulled_at'].notna().sum():,} pulls."
        )
    ]


def _ratio(ratio: float) -> str:
    if pd.isna(ratio):
        return "–"
    return f"{ratio:.3g}{' (almost empty)' if ratio >= EMPTY_FROM else ''}"


def _rates(draft: Draft) -> list[Figure]:
    pulls = draft.frames.pulls
    pulled = pulls[pulls["outcome"] == "pulled"]
    medians = pulled.groupby(["cluster", "image"], observed=True, as_index=False)["pull_s"].median()
    medians = medians.astype({"cluster": "str", "image": "str"})
    known = draft.frames.images.merge(medians, on=["cluster", "image"])
    moved = known["received_bytes"].fillna(known["wire_bytes"])
    stored = known["written_bytes"].fillna(known["unpacked_bytes"])
    good = moved.gt(0) & stored.gt(0) & known["pull_s"].gt(0)
    if not good.any():
        return []
    sides = [
        pd.DataFrame(
            {
                "cluster": known["cluster"],
                "image": draft.short_images(known["image"]),
                "size_gb": (known["unpacked_bytes"].fillna(stored) / 1e9).round(6),
                "kind": kind,
                "mb_s": (moving / 1e6 / known["pull_s"]).map(lambda rate: float(f"{rate:.4g}")),
            }
        )[good]
        for kind, moving in (("to the disk", stored), ("over the network", moved))
    ]
    draft.data["rates"] = columns_of(pd.concat(sides))
    counters = known["written_bytes"].notna().any()
    caption = f"n = {int(good.sum())} medians over nodes, all successful pulls; bytes as "
    caption += "counted by the nodes." if counters else "reported by the kubelet and by the tag."
    caption += differences(draft)
    return [
        Figure("rates", "Transfer rates", rates(draft.mark), ["rates"], caption,
               marks=2 * int(good.sum()), provenance=draft.mark)
    ]  # fmt: skip


def shared_layers(manifests: Sequence[ImageManifest]) -> Card:
    """Tell whether the images of the study share layers beyond a common base."""
    question = "Do the images share layers?"
    if len(manifests) < 2:  # noqa: PLR2004 (a comparison)
        return not_varied("shared layers", question, "there are no manifests of two images")
    similar = compare_images(manifests)
    pairs = np.triu_indices(len(similar.tags), 1)
    every, without = similar.layers[pairs], similar.layers_without_base[pairs]
    sharing = int((without > 0).sum())
    verdict, effect = "No, none beyond the common base.", ""
    if sharing:
        verdict = f"Yes: {sharing} of {len(without)} pairs do."
        effect = f"At most {without.max() * 100:.0f} % of two images' layers beyond the base."
    return Card(
        "shared layers",
        question,
        verdict,
        effect,
        f"{len(similar.tags)} images",
        detail=f"Including the base, a typical pair shares {np.median(every) * 100:.1f} % of its "
        "layers. A shared layer is pulled only with the first image.",
    )


def similarity(draft: Draft, manifests: Sequence[ImageManifest]) -> list[Section]:
    """Return the section on image similarity, if there are manifests."""
    if len(manifests) < 2:  # noqa: PLR2004 (a comparison)
        return []
    similar = compare_images(manifests)
    short = short_names(similar.tags)
    figures = []
    base = counted(len(similar.base), "layer")
    kinds = {
        "similarity_layers": ("Layers in common", "all layers"),
        "similarity_layers_without_base": (
            "Layers in common, without the base",
            f"the layers without the base (the first {base} of all images)"
            if similar.base
            else "all layers, since the images have no common base",
        ),
        "similarity_build_steps": ("Build steps in common", "the config history's created_by"),
    }
    for key, matrix in similar.tables().items():
        order = cluster_order(matrix)
        tags = [short[similar.tags[i]] for i in order]
        name = key.replace("_", "-")
        draft.data[name] = {
            "a": [tag for tag in tags for _ in tags],
            "b": [tag for _ in tags for tag in tags],
            "similarity": [round(float(matrix[i, j]), 4) for i in order for j in order],
        }
        title, of = kinds[key]
        figures.append(
            Figure(name, title, similarity_map(name, tags, draft.mark), [name],
                   f"n = {len(tags)} images, Jaccard similarity of {of}; similar images are next "
                   "to each other.", marks=len(tags) ** 2, provenance=draft.mark)
        )  # fmt: skip
    text = (
        "An image pulls faster after another one that shares its layers. A common base makes all "
        "images look similar, so layers are also compared without it."
    )
    return [Section("similarity", "Image similarity", [text], figures=figures)]
