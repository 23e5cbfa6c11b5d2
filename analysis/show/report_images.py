"""The report's sections on the images: bytes, machine limits, and similarity."""

from collections.abc import Sequence

import numpy as np

from analysis.ask.answer import Answer, no_answer
from analysis.ask.effects import nan_median
from analysis.ask.similarity import cluster_order, compare_images
from analysis.ask.study_data import EMPTY_FROM, Cluster, Image
from analysis.read.machines import DISK_BYTES_PER_S, GUNZIP_BYTES_PER_S, NETWORK_BYTES_PER_S
from analysis.read.manifests import ImageManifest
from analysis.show.charts import roofline, similarity_map
from analysis.show.labels import counted, short_names, size
from analysis.show.page import Figure, Section
from analysis.show.report_parts import Draft, make_table

_TEXT = (
    "Bytes per second that a pull moves over the network and writes to the disk, and the limits of "
    "the machine. A pull close to a line is close to that limit."
)


def image_bytes(draft: Draft) -> Section:
    """Return the section on the bytes of images and the limits of machines."""
    known: dict[str, Image] = {}
    for cluster in draft.clusters:
        known |= {image.label: image for image in cluster.images.values()}
    ordered = sorted(known.values(), key=lambda i: (i.unpacked_bytes or 0, i.layers or 0, i.label))
    counted = any(image.received_bytes or image.written_bytes for image in ordered)
    more = ("Received#", "Written#") if counted else ()
    table = make_table(
        f"{len(ordered)} images: compressed bytes as reported by kubelets, unpacked bytes as the "
        "tag claims" + (", received and written bytes as counted by nodes" if counted else ""),
        ("Image", "Registry", "Layers (tag)#", "Compressed#", "Unpacked#", "Ratio#", *more),
        [
            [
                image.label,
                image.registry,
                str(image.layers or "–"),
                size(image.wire_bytes),
                size(image.unpacked_bytes),
                _ratio(image),
                *((size(image.received_bytes), size(image.written_bytes)) if counted else ()),
            ]
            for image in ordered
        ],
        draft.mark,
    )
    return Section(
        "images",
        "Images and limits",
        [_TEXT, *_counters(draft)],
        figures=_roofline(draft),
        tables=[table] if ordered else [],
    )


def _counters(draft: Draft) -> list[str]:
    """Describe for how many pulls the nodes' own counters are usable, if they were read."""
    if not any(r.folder and r.folder.stats for r in draft.tables.recordings):
        return []
    (row,) = draft.tables.rows("""
        SELECT count(*) FILTER (pulled_at IS NOT NULL) AS pulls, count(received_bytes) AS received,
            count(coalesce(written_bytes, disk_bytes)) AS written FROM cells
    """)
    return [
        (
            "The runner read the nodes' own counters before and after each trial. Kubelets update "
            "them about every ten seconds, so they are used only if they cover one pull and hardly "
            f"any other: network counters of {row['received']:,} and disk counters of "
            f"{row['written']:,} of {row['pulls']:,} pulls."
        )
    ]


def _ratio(image: Image) -> str:
    if not image.unpacked_bytes or not image.wire_bytes:
        return "–"
    ratio = image.unpacked_bytes / image.wire_bytes
    return f"{ratio:.3g}{' (almost empty)' if ratio >= EMPTY_FROM else ''}"


def _roofline(draft: Draft) -> list[Figure]:
    rows = [row for cluster in draft.clusters for row in _rates(cluster)]
    if not rows:
        return []
    names = ("cluster", "image", "size_gb", "kind", "mb_s")
    draft.data["rates"] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    machines = sorted({c.machine_type for c in draft.clusters} & NETWORK_BYTES_PER_S.keys())
    limits = [
        (f"disk {DISK_BYTES_PER_S / 1e6:.0f} MB/s", DISK_BYTES_PER_S / 1e6),
        (f"gunzip on one core, about {GUNZIP_BYTES_PER_S / 1e6:.0f} MB/s",
         GUNZIP_BYTES_PER_S / 1e6),
        *((f"network of {name}, {NETWORK_BYTES_PER_S[name] / 1e6:.0f} MB/s",
           NETWORK_BYTES_PER_S[name] / 1e6) for name in machines[:1]),
    ]  # fmt: skip
    measured = all(cluster.measured for cluster in draft.clusters)
    shown = limits if measured else []
    counted = any(i.written_bytes for c in draft.clusters for i in c.images.values())
    caption = f"n = {len(rows) // 2} medians over nodes, all successful pulls; bytes as "
    caption += "counted by the nodes. " if counted else "reported by the kubelet and by the tag. "
    caption += (
        "Limits: published figures for 100 GB pd-balanced and the machine type."
        if measured
        else "The limits of a machine that rehearses are unknown and not drawn."
    )
    return [
        Figure("roofline", "Transfer rates and the machine's limits",
               roofline(shown, draft.mark), ["rates"], caption, marks=len(rows),
               provenance=draft.mark)
    ]  # fmt: skip


def _rates(cluster: Cluster) -> list[tuple[str, str, float, str, float]]:
    rows = []
    medians = nan_median(cluster.every.seconds, 0)
    for name, median in zip(cluster.every.images, medians, strict=True):
        image = cluster.images.get(name)
        if image and image.stored_bytes and image.moved_bytes and median > 0:
            gb = round((image.unpacked_bytes or image.stored_bytes) / 1e9, 6)
            for kind, moved in (
                ("to the disk", image.stored_bytes),
                ("over the network", image.moved_bytes),
            ):
                rate = float(f"{moved / 1e6 / median:.4g}")
                rows.append((cluster.label, image.label, gb, kind, rate))
    return rows


def shared_layers(manifests: Sequence[ImageManifest]) -> Answer:
    """Answer whether the images of the study share layers beyond a common base."""
    question = "Do the images share layers?"
    if len(manifests) < 2:  # noqa: PLR2004 (a comparison)
        return no_answer(
            question,
            "There are no manifests; runs of this project have them, --manifests names others.",
        )
    similar = compare_images(manifests)
    pairs = np.triu_indices(len(similar.tags), 1)
    every, without = similar.layers[pairs], similar.layers_without_base[pairs]
    sharing = int((without > 0).sum())
    fact = "No: apart from the common base, no two images share a layer."
    if sharing:
        fact = (
            f"Yes: {sharing} of {len(without)} pairs do, at most {without.max():.0%} of their "
            "layers apart from the common base."
        )
    return Answer(
        question,
        fact,
        f"{len(similar.tags)} images; including the base, a typical pair shares "
        f"{np.median(every):.1%} of its layers, and at most {every.max():.0%}. A shared layer is "
        "pulled only with the first image.",
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
            Figure(name, title, similarity_map(name, tags), [name],
                   f"n = {len(tags)} images, Jaccard similarity of {of}; similar images are next "
                   "to each other.", marks=len(tags) ** 2, provenance=draft.mark)
        )  # fmt: skip
    text = (
        "An image pulls faster after another one that shares its layers. A common base makes all "
        "images look similar, so layers are also compared without it."
    )
    return [Section("similarity", "Image similarity", [text], figures=figures)]
