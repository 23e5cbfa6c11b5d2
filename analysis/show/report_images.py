"""The report's sections on the images: bytes, machine limits, and how alike they are."""

from collections.abc import Sequence

import numpy as np

from analysis.ask.answers import EMPTY_FROM
from analysis.ask.effects import nan_median
from analysis.ask.similarity import cluster_order, compare_images
from analysis.ask.study_data import Cluster, Image
from analysis.ask.time_answers import untold
from analysis.read.machines import DISK_BYTES_PER_S, GUNZIP_BYTES_PER_S, NETWORK_BYTES_PER_S
from analysis.read.manifests import ImageManifest
from analysis.show.charts import roofline, similarity_map
from analysis.show.labels import counted, short_names, size
from analysis.show.page import Answer, Figure, Section
from analysis.show.report_parts import Draft, make_table

_TEXT = (
    "What a pull moves over the network and what it writes to the disk, each second, against what "
    "the machine can do at most. A dot near a line runs under that limit."
)


def image_bytes(draft: Draft) -> Section:
    """Every image with its bytes, and the roofs that its pulls run under."""
    known: dict[str, Image] = {}
    for cluster in draft.clusters:
        known |= {image.label: image for image in cluster.images.values()}
    ordered = sorted(known.values(), key=lambda i: (i.unpacked_bytes or 0, i.layers or 0, i.label))
    counted = any(image.received_bytes or image.written_bytes for image in ordered)
    more = ("Received#", "Written#") if counted else ()
    table = make_table(
        f"{len(ordered)} images: bytes on the wire as kubelets reported them, bytes on the disk as "
        "the tag claims" + (", received and written as nodes counted" if counted else ""),
        ("Image", "Registry", "Layers (tag)#", "On the wire#", "On the disk#", "Ratio#", *more),
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
    """How many pulls the nodes' own counters tell of, where they were asked."""
    asked = sum(bool(r.folder and r.folder.stats) for r in draft.tables.recordings)
    (row,) = draft.tables.rows("""
        SELECT count(*) FILTER (pulled_at IS NOT NULL) AS pulls, count(received_bytes) AS received,
            count(coalesce(written_bytes, disk_bytes)) AS written FROM cells
    """)
    if not asked:
        return []
    return [
        (
            "Nodes were asked for their own counters before and after each trial. Kubelets renew "
            "them every ten seconds or so, hence they count only where they cover one pull and "
            f"hardly anything of another: for the network in {row['received']:,} and for the disk "
            f"in {row['written']:,} of {row['pulls']:,} pulls."
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
        (f"one core of gunzip, about {GUNZIP_BYTES_PER_S / 1e6:.0f} MB/s",
         GUNZIP_BYTES_PER_S / 1e6),
        *((f"network of {name}, {NETWORK_BYTES_PER_S[name] / 1e6:.0f} MB/s",
           NETWORK_BYTES_PER_S[name] / 1e6) for name in machines[:1]),
    ]  # fmt: skip
    measured = all(cluster.measured for cluster in draft.clusters)
    shown = limits if measured else []
    counted = any(i.written_bytes for c in draft.clusters for i in c.images.values())
    caption = f"n = {len(rows) // 2} medians over nodes, all successful pulls; bytes as "
    caption += "the nodes counted them. " if counted else "kubelet and tag tell them. "
    caption += (
        "Limits: makers' figures for 100 GB pd-balanced and the machine type."
        if measured
        else "The limits of a rehearsing machine are not known, so none is drawn."
    )
    return [
        Figure("roofline", "Bytes a second, under the machine's limits",
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


def images_alike(manifests: Sequence[ImageManifest]) -> Answer:
    """Whether the images of the study share layers, or only look as if they did."""
    question = "Do the images share layers?"
    if len(manifests) < 2:  # noqa: PLR2004 (a comparison)
        return untold(
            question,
            "No manifests are at hand; runs of this project have theirs, --manifests names others.",
        )
    similar = compare_images(manifests)
    pairs = np.triu_indices(len(similar.tags), 1)
    every, without = similar.layers[pairs], similar.layers_without_base[pairs]
    sharing = int((without > 0).sum())
    fact = "No: without the base no two of them have a layer in common."
    if sharing:
        fact = (
            f"{sharing} of {len(without)} pairs do, without the base at most {without.max():.0%}."
        )
    return Answer(
        question,
        fact,
        f"{len(similar.tags)} images; with the base pairs have {np.median(every):.1%} of their "
        f"layers in common in the middle, and at most {every.max():.0%}. A shared layer is pulled "
        "once, by whichever image comes first.",
    )


def alike(draft: Draft, manifests: Sequence[ImageManifest]) -> list[Section]:
    """How alike the images are, where manifests are at hand."""
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
            f"the layers without the base ({base} that all images begin with)"
            if similar.base
            else "all layers, since no layer is common to all images",
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
                   f"n = {len(tags)} images, Jaccard similarity of {of}; alike images side by "
                   "side.", marks=len(tags) ** 2, provenance=draft.mark)
        )  # fmt: skip
    text = (
        "Images that share layers pull faster after one another. With the base counted they look "
        "related; without it one sees whether they are."
    )
    return [Section("similarity", "How alike the images are", [text], figures=figures)]
