"""The report's sections on pull times: by cluster, by size and layers, by node, and the model."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.ask.model import ModelError, fit
from analysis.ask.questions.readiness import MOMENTS, readiness_of
from analysis.ask.questions.slowest import relative_times, tails
from analysis.frames import Frames
from analysis.judge.cells import image_parts
from analysis.show.charts import by_cluster, by_size, colour_of, gradient_of
from analysis.show.conditions import differences
from analysis.show.labels import seconds
from analysis.show.page import Figure, PageTable, Section
from analysis.show.report_parts import MOST_ROWS, Draft, columns_of, make_table, mark_of
from analysis.show.run_charts import node_map, tail
from schema.run_records import Status

_TEXT = (
    "The kubelet's own duration of each pull, without waiting for other pulls on the node unless "
    "you choose otherwise. Small dots are pulls. Large dots are medians of an image on a cluster "
    "(diamonds: of one or two pulls) with the 95 % interval of the median over these pulls by "
    "order statistics, which needs six; the number at a median is n."
)

_READINESS = (
    "Each pod read shares of its image's bytes before its program. The pull is by the kubelet; the "
    "start and the shares count from the release, by the runner's clock, the node's and its "
    "kernel's. After a plain pull the bytes are read from memory; of a streamed image they come "
    "over the network, of a preloaded one from the second disk."
)

_PARTS = (
    "By the spans of the nodes' containerds, in wall time. A moment in which a layer is unpacked "
    "counts as unpacking, whatever is fetched meanwhile (the column fetching too has that part); "
    "fetching is all other time of the pull: requests, receiving, storing, and containerd's own "
    "work."
)
_NEAR = 0.05

_FEW_IMAGES = 7
"""At most this many images have a colour each; of more, the colour shows the size."""

_FEW_LAYERS = 7
"""At most this many layer counts have a colour each."""

_WHICH = {"valid cells": "valid", "all successful pulls": "pulled"}
_METRICS = {"pull": "pull_s", "pull with waiting": "wait_s"}

_MODEL = (
    "Pull time = intercept + seconds per GB, layer and doubling of the nodes: least squares of the "
    "relative error over the medians of trials, with 95 % intervals that hold for these clusters. "
    "pull-study-analysis predict gives the expected time of an image of your own."
)


def pull_times(draft: Draft) -> Section:
    """Return the section on pull times by cluster, size and layers."""
    pulls = _pulls(draft)
    if pulls.empty:
        return Section("times", "Pull times", ["No pull of the study's images was recorded."])
    if not pulls[["pull_s", "wait_s"]].notna().any(axis=None):
        return Section("times", "Pull times", ["No pull has a duration by the kubelet."])
    every = max(1, -(-len(pulls) // MOST_ROWS))
    drawn = pulls.iloc[::every]
    draft.data["pulls"] = columns_of(drawn.drop(columns=["repository", "layers", "pulled"]))
    medians = _medians(pulls)
    draft.data["medians"] = columns_of(medians)
    caption = draft.counted()
    if every > 1:
        caption += f" Dots: an even sample of {len(drawn):,} of {len(pulls):,} pulls."
    caption += differences(draft)
    images = list(dict.fromkeys(medians.sort_values("size_gb")["image"]))
    known = sorted(set(pulls["size_gb"].dropna()))
    durations = list(pulls["pull_s"])
    by_image = (
        gradient_of("size_gb", "size (GB)", known)
        if known and len(images) > _FEW_IMAGES
        else colour_of("image", "image", images)
    )
    figures = [
        Figure(
            "by-cluster",
            "Pull time by cluster and image",
            by_cluster(draft.labels, images, durations, by_image, draft.mark),
            ["pulls", "medians"],
            caption,
            marks=len(drawn),
            provenance=draft.mark,
            table=_summary(draft),
        )
    ]
    if known:
        layers = sorted({int(n) for n in medians["layers"].dropna()})
        by_layers = (
            gradient_of("layers", "layers", layers)
            if len(layers) > _FEW_LAYERS
            else colour_of("layers", "layers", layers)
        )
        shown = medians[(medians["which"] == "valid cells") & (medians["metric"] == "pull")]
        figures.append(
            Figure(
                "by-size",
                "Pull time by image size and number of layers",
                by_size(
                    draft.labels,
                    list(shown["size_gb"].dropna()),
                    list(medians["median"]),
                    size_title=draft.size_title,
                    colour=by_layers,
                    provenance=draft.mark,
                ),
                ["medians"],
                "Medians. A line connects images of one repository and one number of layers, which "
                f"differ in size alone; between them it is a trend. {caption}",
                marks=3 * len(shown),
                provenance=draft.mark,
            )
        )
    return Section("times", "Pull times", [_TEXT], figures=figures, filters=True)


def _pulls(draft: Draft) -> pd.DataFrame:
    """Return successful pulls as the plots need them, sorted by size."""
    pulls = draft.frames.pulls
    mine = pulls[pulls["outcome"] == "pulled"]
    return pd.DataFrame(
        {
            "cluster": mine["cluster"].astype("str"),
            "image": draft.short_images(mine["image"]),
            "repository": mine["image"].map(lambda name: image_parts(str(name))[0]).astype("str"),
            "layers": mine["layers"].astype("float64"),
            "size_gb": mine["size_bytes"].fillna(mine["image_bytes"]).astype("float64") / 1e9,
            "node": mine["node"].astype("str"),
            "pull_s": mine["pull_s"].round(4),
            "wait_s": mine["pull_and_wait_s"].round(4),
            "status": mine["status"].astype("str"),
            "valid": mine["status"] == "valid",
            "pulled": True,
        }
    ).sort_values(["size_gb", "cluster", "image", "node"], ignore_index=True)


def _medians(pulls: pd.DataFrame) -> pd.DataFrame:
    """Return medians with n and their interval, by cluster and image, for each choice of a view.

    Columns: cluster, image, repository, layers, size_gb, which and metric (the choice), n, median,
    low and high (95 %; the median where there is no interval), interval (as text), least, most.
    """
    rows = []
    keys = ["cluster", "image", "repository"]
    for which, flag in _WHICH.items():
        for metric, column in _METRICS.items():
            some = pulls[pulls[flag]].dropna(subset=[column])
            for names, group in some.groupby(keys, observed=True, sort=False):
                values = np.sort(group[column].to_numpy())
                median = float(np.median(values))
                low, high = median_interval(values)
                known = np.isfinite(low)
                text = f"{low:.3f} to {high:.3f} s" if known else "none: n < 6"
                bounds = (low, high) if known else (median, median)
                first = group.iloc[0]
                rows.append(
                    (*names, first["layers"], first["size_gb"], which, metric, len(values),
                     median, *bounds, text, values[0], values[-1])
                )  # fmt: skip
    names = [*keys, "layers", "size_gb", "which", "metric", "n", "median", "low", "high",
             "interval", "least", "most"]  # fmt: skip
    return pd.DataFrame(rows, columns=names).round(4)


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the median of sorted values; NaN where none exists (n < 6).

    By order statistics, without an assumption on the distribution: the ranks k and n + 1 - k with
    the largest k for which a binomial (n, 1/2) is below k in at most 2.5 %.
    """
    rank = int(stats.binom.ppf(0.025, len(values), 0.5))
    if rank < 1:
        return float("nan"), float("nan")
    return float(values[rank - 1]), float(values[len(values) - rank])


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


def readiness(draft: Draft) -> list[Section]:
    """Return the section on when shares of the images' bytes were read; none if none was."""
    samples = readiness_of(draft.frames)
    if samples.empty:
        return []
    pulls = draft.samples[~draft.samples["warm"]].assign(moment="pull")
    samples = pd.concat([pulls, samples], ignore_index=True)
    read = samples.groupby(["cluster", "image"])["way"].transform("first")
    samples = samples.assign(way=read)[read.notna()]
    moments = ["pull", *MOMENTS]
    rows = []
    for (cluster, image, way), mine in samples.groupby(["cluster", "image", "way"], sort=False):
        times = [mine.loc[mine["moment"] == name, "seconds"] for name in moments]
        label = draft.images(pd.Series([image])).iloc[0]
        most = str(max(map(len, times)))
        rows.append([str(cluster), str(way), label, most, *map(_with_interval, times)])
    rows.sort(key=lambda row: (row[0], row[2]))
    names = ("Cluster", "Images by", "Image", "Cells#", "Pull (s)#", "Start (s)#",
             *(f"{name} (s)#" for name in moments[2:]))  # fmt: skip
    table = make_table("Medians with 95 % intervals over cells", names, rows, draft.mark)
    return [Section("readiness", "Readiness", [_READINESS], tables=[table])]


def _with_interval(values: pd.Series) -> str:
    if values.empty:
        return "\u2013"
    ordered = np.sort(values.to_numpy())
    low, high = median_interval(ordered)
    text = seconds(float(np.median(ordered)))
    return f"{text} ({seconds(low)} … {seconds(high)})" if np.isfinite(low) else text


def pull_parts(draft: Draft) -> list[Section]:
    """Return the section on fetching and unpacking; none if no cell has containerd's spans."""
    cells = draft.frames.cells
    cells = cells[(cells["status"] == Status.VALID.value) & cells["unpack_s"].notna()]
    if cells.empty:
        return []
    parts = cells[["pull_s", "fetch_s", "unpack_s", "overlap_s"]]
    shares = (parts["fetch_s"] + parts["unpack_s"]) / parts["pull_s"]
    rows = []
    groups = cells.groupby(["cluster", "image"], observed=True, sort=True)
    for (cluster, image), mine in groups:
        times = [_with_interval(parts.loc[mine.index, name].dropna()) for name in parts]
        unpacking = (mine["unpack_s"] / mine["pull_s"]).median()
        label = draft.images(pd.Series([image])).iloc[0]
        rows.append([str(cluster), label, str(len(mine)), *times, f"{unpacking:.0%}"])
    names = ("Cluster", "Image", "Cells#", "Pull (s)#", "Fetching (s)#", "Unpacking (s)#",
             "Fetching too (s)#", "Unpacking, share#")  # fmt: skip
    table = make_table("Medians with 95 % intervals over cells", names, rows, draft.mark)
    near = f"Of {len(shares)} cells with spans, in {(abs(shares - 1) <= _NEAR).mean():.1%} the sum "
    near += f"of the two is within {_NEAR:.0%} of the kubelet's duration."
    return [Section("parts", "Where a pull's time goes", [_PARTS, near], tables=[table])]


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
        names = draft.short_images(images["image"])
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
                    list(dict.fromkeys(names)),
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
    samples = draft.samples
    relative = relative_times(samples)
    if relative.empty:
        return []
    drawn = relative.iloc[:: max(1, -(-len(relative) // MOST_ROWS))]
    draft.data["tails"] = columns_of(
        pd.DataFrame(
            {
                "cluster": drawn["cluster"],
                "node": drawn["node"],
                "image": draft.short_images(drawn["image"]),
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
            f"pull, and quantiles where 100 and 1,000 pulls allow them. {draft.counted()}"
            + differences(draft),
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
