"""The report's sections on pull times: by cluster, by size and layers, by node, and the model."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.ask.model import ModelError, fit
from analysis.ask.samples import samples_of
from analysis.ask.slowest import relative_times, tails
from analysis.frames import Frames
from analysis.show.charts import by_cluster, by_size
from analysis.show.labels import seconds, short_names
from analysis.show.page import Figure, PageTable, Section
from analysis.show.report_parts import MOST_ROWS, Draft, columns_of, make_table, mark_of
from analysis.show.run_charts import node_map, tail

_TEXT = (
    "The kubelet's own duration of each pull, without waiting for other pulls on the node. "
    "Small dots are pulls, large dots medians (diamonds: of one or two pulls), bars the middle "
    "half (quartiles)."
)

_FEW_IMAGES = 12
"""At most this many images are named on one plot; more are labelled by size only."""

_FEW_LAYERS = 3
"""With more layer counts than this, colours show layers, not clusters."""

_MODEL = (
    "Pull time = intercept + seconds per GB, layer and doubling of the nodes: least squares of the "
    "relative error over the medians of trials, with 95 % intervals that hold for these clusters. "
    "python -m analysis predict gives the expected time of an image of your own."
)


def pull_times(draft: Draft) -> Section:
    """Return the section on pull times by cluster, size and layers."""
    drawn, every = _pulls(draft)
    if drawn.empty:
        return Section("times", "Pull times", ["No pull of the study's images was recorded."])
    draft.data["pulls"] = columns_of(drawn)
    count = len(drawn)
    caption = draft.counted()
    if count < every:
        caption += f" Drawn: an even sample of {count:,} of {every:,} pulls."
    figures = [
        Figure(
            "by-cluster",
            "Pull time by cluster and image size",
            by_cluster(
                draft.labels, list(dict.fromkeys(drawn["size"])), list(drawn["pull_s"]), draft.mark
            ),
            ["pulls"],
            caption,
            marks=count,
            provenance=draft.mark,
            table=_summary(draft),
        )
    ]
    sizes = drawn["size_gb"].dropna()
    if len(sizes):
        layers = sorted({int(n) for n in drawn["layers"] if n.isdigit()})
        figures.append(
            Figure(
                "by-size",
                "Pull time by image size and number of layers",
                by_size(
                    draft.labels,
                    list(sizes),
                    list(drawn["pull_s"]),
                    size_title=draft.size_title,
                    layers=[str(n) for n in layers] if len(layers) > _FEW_LAYERS else [],
                    provenance=draft.mark,
                ),
                ["pulls"],
                f"A line for each cluster and number of layers. {caption}",
                marks=count,
                provenance=draft.mark,
            )
        )
    return Section("times", "Pull times", [_TEXT], figures=figures)


def _pulls(draft: Draft) -> tuple[pd.DataFrame, int]:
    """Return the pulls to draw, and how many there are."""
    pulls = draft.frames.pulls
    pulls = pulls[pulls["outcome"] == "pulled"]
    every = max(1, -(-len(pulls) // MOST_ROWS))
    mine = pulls.iloc[::every]
    size = mine["size_bytes"].fillna(mine["image_bytes"]).astype("float64") / 1e9
    drawn = pd.DataFrame(
        {
            "cluster": mine["cluster"].astype("str"),
            "image": draft.images(mine["image"]),
            "layers": ["?" if pd.isna(count) else str(count) for count in mine["layers"]],
            "size_gb": size,
            "node": mine["node"].astype("str"),
            "pull_s": mine["pull_s"].round(4),
            "wait_s": mine["pull_and_wait_s"].round(4),
            "status": mine["status"].astype("str"),
            "valid": mine["status"] == "valid",
            "size": [f"{gb:.4g} GB" if gb == gb else "?" for gb in size],  # noqa: PLR0124 (nan)
        }
    ).sort_values(["size_gb", "cluster", "image", "node"], ignore_index=True)
    images = set(drawn["image"])
    if drawn["size"].nunique() < len(images) <= _FEW_IMAGES:
        drawn["size"] = drawn["image"].map(short_names(images))  # not only by size
    return drawn, len(pulls)


def _summary(draft: Draft) -> PageTable:
    rows = draft.frames.summary.sort_values(["size_bytes", "image", "run", "nodes", "stack"])
    rows = rows.assign(label=draft.images(rows["image"]))
    body = [
        [
            str(row.cluster),
            row.label,
            str(row.n),
            str(row.nodes_pulled),
            seconds(row.pull_s_median),
            seconds(row.pull_s_p95),
            seconds(row.pull_s_max),
            f"{row.valid_n} of {row.cells}",
            seconds(row.valid_pull_s_median),
        ]
        for row in rows.itertuples()
    ]
    names = ("Cluster", "Image", "Pulls#", "Nodes#", "Median (s)#", "95th percentile (s)#",
             "Max (s)#", "Valid cells#", "Median of valid (s)#")  # fmt: skip
    return make_table("Pull times by image and cluster", names, body, draft.mark)


def nodes(draft: Draft) -> Section:
    """Return the section on differences between nodes."""
    figures = _tails(draft)
    for number, cluster in enumerate(draft.clusters):
        label = cluster["cluster"]
        cells = draft.of(draft.frames.cells, label)
        pulled = cells[cells["pull_s"] > 0]
        if pulled.empty:
            continue
        images = draft.of(draft.frames.images, label)
        images = images.assign(
            bytes=images["unpacked_bytes"].fillna(images["wire_bytes"])
        ).sort_values("bytes")
        short = short_names(images["label"])
        every = sorted(set(cells["node"].astype("str")))
        relative = pulled["pull_s"] / pulled.groupby("image", observed=True)["pull_s"].transform(
            "median"
        )
        figures.append(
            Figure(
                f"nodes-{number}",
                f"Pull time relative to the image's median: {label}",
                node_map(
                    f"cells-{number}",
                    every,
                    [short[name] for name in images["label"]],
                    float(np.abs(np.log2(relative)).max()),
                    mark_of(cluster),
                ),
                [f"cells-{number}"],
                "Cells with one successful pull; cells with several pulls have no single duration, "
                f"and an empty row is a node that never pulled. {draft.counted(label)}",
                marks=len(images) * len(every),
                provenance=mark_of(cluster),
                choice=label,
            )
        )
    text = (
        "Images are sorted by size. The scale is symmetric: half the median is as dark as twice "
        "the median. A mostly orange row is a slow node, a mostly purple row a fast one."
    )
    if not figures:
        return Section("nodes", "Differences between nodes", ["No node pulled an image."])
    return Section("nodes", "Differences between nodes", [text], figures=figures,
                   choice_label="Cluster")  # fmt: skip


def _tails(draft: Draft) -> list[Figure]:
    """Return the figure of the slowest pulls by cluster; none if no cluster has enough nodes."""
    samples = samples_of(draft.frames)
    relative = relative_times(samples)
    if relative.empty:
        return []
    drawn = relative.iloc[:: max(1, -(-len(relative) // MOST_ROWS))]
    draft.data["tails"] = columns_of(
        pd.DataFrame(
            {
                "cluster": drawn["cluster"],
                "node": drawn["node"],
                "image": drawn["image"].str.rpartition("/")[2],
                "relative": drawn["relative"].round(4),
            }
        )
    )
    rows = [
        [row.cluster, str(row.trials), str(row.pulls), *(
            "\u2013" if pd.isna(value) else f"{value:.2f}"
            for value in (row.slowest, row.slowest_most, row.p99, row.p999)
        )]
        for row in tails(samples).itertuples()
    ]  # fmt: skip
    names = ("Cluster", "Trials#", "Pulls#", "Slowest node#", "Slowest pull#", "99 %#", "99.9 %#")
    return [
        Figure(
            "tail",
            "The slowest pulls: share of pulls by time relative to their trial's median",
            tail(
                [label for label in draft.labels if label in set(relative["cluster"])], draft.mark
            ),
            ["tails"],
            "Valid cells. The table has the slowest node of a trial (geometric mean), the slowest "
            f"pull, and quantiles where 100 and 1,000 pulls allow them. {draft.counted()}",
            marks=len(drawn),
            provenance=draft.mark,
            table=make_table("Pull time over the trial's median", names, rows, draft.mark),
        )
    ]


def model(draft: Draft) -> Section:
    """Return the section on the model of pull time, fitted for each kind of data."""
    tables = []
    notes = []
    for kind, clusters in draft.frames.clusters.groupby("kind", sort=True):
        try:
            fitted = fit(_only(draft, clusters))
        except ModelError as error:
            notes.append(error.problem)
            continue
        rows = [
            [term.name, *(_number(v) for v in (term.value, term.low, term.high)), ""]
            for term in fitted.terms
        ]
        rows += [[name, "–", "–", "–", f"left out: {why}"] for name, why in fitted.left_out.items()]
        caption = (
            f"n = {fitted.pulls:,} valid cells of {len(fitted.images)} images on {fitted.nodes} "
            f"nodes. Median error on images left out of the fit: {fitted.unseen_error * 100:.0f} %."
        )
        notes += [fitted.caution] if fitted.caution else []
        names = ("Term", "Seconds per unit#", "From#", "To#", "Note")
        tables.append(make_table(caption, names, rows, "" if kind == "measured" else str(kind)))
    return Section("model", "A model of pull time", [_MODEL, *notes], tables=tables)


def _only(draft: Draft, clusters: pd.DataFrame) -> Frames:
    names = set(clusters["cluster"])
    frames = draft.frames
    return replace(
        frames,
        clusters=clusters,
        **{
            name: (frame := getattr(frames, name))[frame["cluster"].isin(names)]
            for name in ("cells", "images", "trials")
        },
    )


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\u2212")
