"""Plots of a study as files. Each draws clusters (study_data.py).

The report's interactive plots are in charts.py. Axes have units; every figure states its n and
exclusions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.ask.effects import Matrix, nan_median
from analysis.ask.study_data import Cluster, load_clusters, priced_alike, timeline_of
from analysis.judge.wall_time import PARTS
from analysis.show.labels import short_names
from analysis.show.plot_files import (
    PART_COLOURS,
    PULL,
    SETTLE,
    START,
    WAIT,
    new_figure,
    new_heat_map,
    save,
    sequence,
    style,
)
from analysis.tables import Tables

Colour = tuple[float, float, float, float]

_LOG_FROM = 50
_SECONDS = "pull time (s)"
_JITTER = 0.28
_MOST_CELLS = 20_000
_SYMBOLS = "Filled: valid; hollow: excluded; bar: median of valid cells."


def write_plots(tables: Tables, out: Path) -> list[Path]:
    """Write all plots that the data allow; return their paths.

    Raises:
        PlotError: the folder cannot be written.
    """
    clusters = load_clusters(tables)
    paths: list[Path] = []
    with style():
        for kind in sorted({cluster.kind for cluster in clusters}):
            mine = [c for c in clusters if c.kind == kind and c.every.images]
            if mine:
                suffix = "" if kind == "measured" else f"-{_slug(kind)}"
                marks = sorted({c.provenance for c in mine if not c.measured})
                paths += _all(tables, mine, out, suffix, "; ".join(marks))
    return paths


def _slug(text: str) -> str:
    return text.partition(",")[0].replace(" ", "-")


def _all(
    tables: Tables, clusters: Sequence[Cluster], out: Path, suffix: str, mark: str
) -> list[Path]:
    paths = [
        *_by_cluster(clusters, out, suffix, mark),
        *_by_layers(clusters, out, suffix, mark),
        *_wall_time(clusters, out, suffix, mark),
        *_machines(clusters, out, suffix, mark),
    ]
    for cluster in clusters:
        name = f"{cluster.run}-{cluster.stack or cluster.nodes}".replace("/", "-") + suffix
        paths += _distribution(cluster, out, name, mark)
        paths += _node_map(cluster, out, name, mark)
        paths += _timeline(tables, cluster, out, name, mark)
    return paths


def counted(clusters: Sequence[Cluster]) -> str:
    """Return n and exclusions for a caption."""
    every = sum(int(np.isfinite(c.every.seconds).sum()) for c in clusters)
    valid = sum(int(np.isfinite(c.valid.seconds).sum()) for c in clusters)
    return f"n = {every} cells with a successful pull: {valid} valid, {every - valid} excluded."


def _sizes(clusters: Sequence[Cluster]) -> list[float]:
    return sorted(
        {
            (image.unpacked_bytes or image.wire_bytes or 0) / 1e9
            for cluster in clusters
            for image in cluster.images.values()
        }
    )


def _size(cluster: Cluster, image: str) -> float:
    known = cluster.images.get(image)
    return ((known.unpacked_bytes or known.wire_bytes or 0) if known else 0) / 1e9


def _labels(cluster: Cluster, images: Sequence[str]) -> list[str]:
    tags = [cluster.images[i].label if i in cluster.images else i for i in images]
    short = short_names(tags)
    return [short[tag] for tag in tags]


def _seconds_axis(axes: Axes, values: Matrix) -> None:
    known = values[np.isfinite(values) & (values > 0)]
    if len(known) and known.max() / known.min() > _LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(_SECONDS)


def _points(
    axes: Axes, x: float, cluster: Cluster, image: str, *, width: float, colour: Colour
) -> None:
    """Draw all pulls of an image: filled if the cell is valid, hollow if not."""
    for pulls, filled in ((cluster.every, False), (cluster.valid, True)):
        if image not in pulls.images:
            continue
        seconds = pulls.of([image])[:, 0]
        seconds = seconds[np.isfinite(seconds)]
        spread = np.linspace(-width, width, len(seconds)) if len(seconds) > 1 else np.zeros(1)
        face = colour if filled else "none"
        axes.scatter(x + spread[: len(seconds)], seconds, s=14, facecolors=face, edgecolors=colour,
                     linewidths=0.8, alpha=0.75)  # fmt: skip
        if filled and len(seconds):
            median = float(np.median(seconds))
            axes.plot([x - width, x + width], [median, median], color="#1c2430", lw=1.6)


def _by_cluster(clusters: Sequence[Cluster], out: Path, suffix: str, mark: str) -> list[Path]:
    figure, axes = new_figure(max(8, 1.6 * len(clusters) + 4))
    sizes = _sizes(clusters)
    colours = dict(zip(sizes, sequence(len(sizes)), strict=True))
    width = 0.8 / max(1, len(sizes))
    for place, cluster in enumerate(clusters):
        for image in cluster.every.images:
            size = _size(cluster, image)
            x = place + (sizes.index(size) - (len(sizes) - 1) / 2) * width
            _points(axes, x, cluster, image, width=width * _JITTER, colour=colours[size])
    axes.set_xticks(range(len(clusters)), [c.label.replace(" · ", "\n") for c in clusters])
    axes.set_xlabel("cluster")
    _seconds_axis(axes, np.concatenate([c.every.seconds.ravel() for c in clusters]))
    axes.set_title("Pull time by cluster and image size")
    shown = sizes if len(sizes) <= 12 else sizes[:: -(-len(sizes) // 12)]  # noqa: PLR2004 (rows)
    for size in shown:
        axes.scatter([], [], color=[colours[size]], label=f"{size:.3g} GB")
    axes.legend(title="image size", loc="center left", bbox_to_anchor=(1, 0.5))
    caption = f"{counted(clusters)} {_SYMBOLS}"
    return save(figure, out, f"pull-time-by-cluster{suffix}", caption, mark)


def _by_layers(clusters: Sequence[Cluster], out: Path, suffix: str, mark: str) -> list[Path]:
    figure, axes = new_figure()
    counts = sorted({i.layers for c in clusters for i in c.images.values() if i.layers})
    colours = dict(zip(counts, sequence(len(counts)), strict=True))
    drawn = False
    for cluster in clusters:
        pulls = cluster.valid if cluster.valid.images else cluster.every
        medians = nan_median(pulls.seconds, 0)
        for layers in counts:
            points = sorted(
                (_size(cluster, image), float(median))
                for image, median in zip(pulls.images, medians, strict=True)
                if cluster.images.get(image) and cluster.images[image].layers == layers
            )
            if points:
                drawn = True
                x, y = zip(*points, strict=True)
                axes.plot(x, y, "o-", ms=4, lw=1.2, color=colours[layers], alpha=0.85)
    if not drawn:
        return []
    for layers in counts if len(counts) <= 12 else counts[:: -(-len(counts) // 12)]:  # noqa: PLR2004
        axes.plot([], [], "o-", color=colours[layers], label=str(layers))
    axes.legend(title="layers")
    sizes = _sizes(clusters)
    if sizes[0] > 0 and sizes[-1] / sizes[0] > _LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("image size (GB, unpacked)")
    _seconds_axis(axes, np.concatenate([c.every.seconds.ravel() for c in clusters]))
    axes.set_title("Pull time by image size and number of layers")
    caption = f"Medians over nodes; a line per cluster and number of layers. {counted(clusters)}"
    return save(figure, out, f"pull-time-by-layers{suffix}", caption, mark)


def _distribution(cluster: Cluster, out: Path, name: str, mark: str) -> list[Path]:
    images = sorted(cluster.every.images, key=lambda image: _size(cluster, image))
    figure, axes = new_figure(max(7, 0.28 * len(images) + 3), 5.5)
    colours = sequence(len(images))
    for place, image in enumerate(images):
        _points(axes, place, cluster, image, width=0.25, colour=colours[place])
    labels = _labels(cluster, images)
    axes.set_xticks(range(len(images)), labels, rotation=90, fontsize=7)
    _seconds_axis(axes, cluster.every.seconds)
    axes.set_title(f"Pull times by image: {cluster.label}")
    return save(
        figure,
        out,
        f"distribution-{name}",
        f"One point per node. {counted([cluster])} {_SYMBOLS}",
        mark,
    )


def _node_map(cluster: Cluster, out: Path, name: str, mark: str) -> list[Path]:
    images = sorted(cluster.every.images, key=lambda image: _size(cluster, image))
    seconds = cluster.every.of(images)
    relative = seconds / nan_median(seconds, 0)[None, :]
    labels = _labels(cluster, images)
    far = float(np.nanmax(np.abs(relative - 1))) if np.isfinite(relative).any() else 0.1
    far = min(max(far, 0.05), 1.0)
    figure, axes = new_heat_map(
        relative.tolist(),
        ["-".join(name.split("-")[-2:]) for name in cluster.every.names],
        labels,
        label="pull time / image's median",
        limits=(1 - far, 1 + far),
        colours="PuOr_r",
    )
    axes.set_title(f"Differences between nodes: {cluster.label}", y=1.01)
    caption = f"White: the image's median. Empty: no pull. {counted([cluster])}"
    return save(figure, out, f"node-map-{name}", caption, mark)


def _timeline(tables: Tables, cluster: Cluster, out: Path, name: str, mark: str) -> list[Path]:
    cells = timeline_of(tables, cluster, _MOST_CELLS)
    rows = [
        row
        for row in zip(
            *(cells[name] for name in ("node", "scheduled", "pulling", "pulled", "started")),
            cells["ran"],
            cells["finished"],
            strict=True,
        )
        if row[2] is not None
    ]
    if not rows:
        return []
    zero = min(row[1] for row in rows)
    nodes = sorted({row[0] for row in rows})
    place = {node: number for number, node in enumerate(nodes)}
    figure, axes = new_figure(11, min(14.0, max(3.0, 0.12 * len(nodes) + 2.4)))
    parts = (
        ("waiting", WAIT),
        ("pulling", PULL),
        ("starting", START),
        ("container", PART_COLOURS["container"]),
        ("settling", SETTLE),
    )
    for part, (label, colour) in enumerate(parts, 1):
        spans = [
            (place[row[0]], row[part] - zero, row[part + 1] - row[part])
            for row in rows
            if row[part] is not None and row[part + 1] is not None and row[part + 1] > row[part]
        ]
        if spans:
            y, left, width = zip(*spans, strict=True)
            axes.barh(y, width, left=left, height=0.8, color=colour, label=label)
    axes.set_ylabel(f"{len(nodes)} nodes")
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlabel("time since the first pod was bound (s)")
    axes.set_title(f"Timeline of each node: {cluster.label}")
    figure.legend(ncols=5, loc="outside upper right")
    until = "the end of the container" if cluster.own else "the completion of the Job"
    caption = (
        f"{len(rows)} cells with a recorded pull. Settling: after the program, until {until}. "
        f"{counted([cluster])}"
    )
    return save(figure, out, f"timeline-{name}", caption, mark)


def _wall_time(clusters: Sequence[Cluster], out: Path, suffix: str, mark: str) -> list[Path]:
    timed = [cluster for cluster in clusters if cluster.time.total_s > 0]
    if not timed:
        return []
    figure, axes = new_figure(max(6.5, 1.2 * len(timed) + 3.5))
    bottom = np.zeros(len(timed))
    for part in PARTS:
        heights = np.array([cluster.time.parts[part] for cluster in timed])
        if heights.any():
            axes.bar(
                range(len(timed)), heights, 0.6, bottom=bottom, color=PART_COLOURS[part], label=part
            )
            bottom += heights
    axes.set_xticks(range(len(timed)), [c.label.replace(" · ", "\n") for c in timed])
    axes.set_ylabel("wall time (s)")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    axes.set_title("Wall time breakdown")
    trials = sum(len(cluster.trials) for cluster in timed)
    least = min(cluster.time.explained for cluster in timed)
    caption = f"n = {trials} trials, each on the path of its slowest node; {least:.1%} explained."
    return save(figure, out, f"wall-time{suffix}", caption, mark)


def _machines(clusters: Sequence[Cluster], out: Path, suffix: str, mark: str) -> list[Path]:
    priced = priced_alike(clusters)
    if not priced:
        return []
    figure, axes = new_figure(6.5, 4.5)
    for (cluster, cost), colour in zip(priced, sequence(len(priced)), strict=True):
        axes.scatter([cluster.trials_s / 60], [cost], s=70, color=[colour], clip_on=False)
        name = f"{cluster.machine_type}\n{cluster.nodes} nodes"
        axes.annotate(name, (cluster.trials_s / 60, cost), xytext=(9, 0),
                      textcoords="offset points", va="center")  # fmt: skip
    axes.set_xlim(0, 1.25 * max(cluster.trials_s for cluster, _ in priced) / 60)
    axes.set_ylim(0, 1.15 * max(cost for _, cost in priced))
    axes.set_xlabel("wall time of the study (minutes)")
    axes.set_ylabel("price of the nodes (USD)")
    axes.set_title("Machine types: time and price")
    return save(
        figure, out, f"machines{suffix}", "On demand, us-central1; lower left is better.", mark
    )
