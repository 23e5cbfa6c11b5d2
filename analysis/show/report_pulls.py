"""The report's sections on pull times: by cluster, by size, by layers, by node, and the model."""

from typing import Any

from analysis.ask.effects import nan_median
from analysis.ask.model import ModelError, fit
from analysis.ask.study_data import Cluster
from analysis.show.charts import by_cluster, by_layers, by_size
from analysis.show.labels import seconds, short_names
from analysis.show.page import Columns, Figure, PageTable, Section
from analysis.show.report_parts import MOST_ROWS, Draft, make_table, mark_of
from analysis.show.run_charts import node_map

_TEXT = (
    "The kubelet's own duration of each pull, without waiting for other pulls on the node. "
    "Small dots are pulls, large dots medians, bars the middle half (quartiles)."
)

_FEW_IMAGES = 12
"""At most this many images are named on one plot; more are labelled by size only."""

_FEW_LAYERS = 3
"""At most this many layer counts have separate lines on one plot."""

_MODEL = (
    "Pull time = intercept + seconds per GB, layer and doubling of the nodes: least squares of the "
    "relative error, standard errors robust over nodes. python -m analysis predict gives the "
    "expected time of an image of your own."
)


def pull_times(draft: Draft) -> Section:
    """Return the section on pull times by cluster, size and layers."""
    pulls = draft.data["pulls"] = _pulls(draft)
    if not pulls["pull_s"]:
        return Section(
            "times",
            "Pull times",
            ["No pull of the study's images was recorded."],
        )
    sizes = list(dict.fromkeys(pulls["size"]))
    sizes_gb = [size for size in pulls["size_gb"] if size]
    count = len(pulls["pull_s"])
    caption = draft.counted() + _sampled(draft, count)
    figures = [
        Figure(
            "by-cluster",
            "Pull time by cluster and image size",
            by_cluster(draft.labels, sizes, pulls["pull_s"], draft.mark),
            ["pulls"],
            caption,
            marks=count,
            provenance=draft.mark,
            table=_summary(draft),
        )
    ]
    if sizes_gb:
        figures.append(
            Figure(
                "by-size",
                "Pull time by image size and cluster",
                by_size(
                    draft.labels,
                    sizes_gb,
                    pulls["pull_s"],
                    size_title=draft.size_title,
                    apart=len(set(pulls["layers"])) <= _FEW_LAYERS,
                    provenance=draft.mark,
                ),
                ["pulls"],
                caption,
                marks=count,
                provenance=draft.mark,
            )
        )
    return Section("times", "Pull times", [_TEXT], figures=[*figures, *_layers(draft)])


def _sampled(draft: Draft, drawn: int) -> str:
    (row,) = draft.tables.rows("SELECT count(*) AS n FROM pulls WHERE outcome = 'pulled'")
    return f" Drawn: an even sample of {drawn:,} of {row['n']:,} pulls." if drawn < row["n"] else ""


def _pulls(draft: Draft) -> Columns:
    (row,) = draft.tables.rows("SELECT count(*) AS n FROM pulls WHERE outcome = 'pulled'")
    every = max(1, -(-row["n"] // MOST_ROWS))
    columns = draft.columns(f"""
        SELECT cluster, coalesce(nullif(tag, ''), image) AS image, layers::VARCHAR AS layers,
            coalesce(size_bytes, image_bytes) / 1e9 AS size_gb, node,
            round(pull_s, 4) AS pull_s, round(pull_and_wait_s, 4) AS wait_s, status,
            status = 'valid' AS valid,
            coalesce(format('{{:.4g}} GB', coalesce(size_bytes, image_bytes) / 1e9), '?') AS size
        FROM (SELECT *, row_number() OVER (ORDER BY run, stack, image, node, pod_uid) AS turn
            FROM pulls WHERE outcome = 'pulled') JOIN cluster USING (run, stack)
        WHERE turn % {every} = 0 ORDER BY size_gb, cluster, image, node
    """)
    images = set(columns["image"])
    if len(set(columns["size"])) < len(images) <= _FEW_IMAGES:
        short = short_names(images)
        columns["size"] = [short[image] for image in columns["image"]]  # not only by size
    return columns


def _summary(draft: Draft) -> PageTable:
    rows = draft.tables.rows("""
        SELECT cluster, coalesce(nullif(tag, ''), image) AS image, n, s.nodes_pulled,
            pull_s_median, pull_s_p95, pull_s_max, cells, valid_n, valid_pull_s_median
        FROM summary AS s JOIN cluster USING (run, stack)
        ORDER BY s.size_bytes, s.image, s.run, s.nodes, s.stack
    """)
    body = [
        [
            row["cluster"],
            row["image"],
            str(row["n"]),
            str(row["nodes_pulled"]),
            seconds(row["pull_s_median"]),
            seconds(row["pull_s_p95"]),
            seconds(row["pull_s_max"]),
            f"{row['valid_n']} of {row['cells']}",
            seconds(row["valid_pull_s_median"]),
        ]
        for row in rows
    ]
    names = ("Cluster", "Image", "Pulls#", "Nodes#", "Median (s)#", "95th percentile (s)#",
             "Max (s)#", "Valid cells#", "Median of valid (s)#")  # fmt: skip
    return make_table("Pull times by image and cluster", names, body, draft.mark)


def _layers(draft: Draft) -> list[Figure]:
    rows = [row for cluster in draft.clusters for row in _medians(cluster)]
    counts = sorted({row["layers"] for row in rows})
    if len(counts) < 2:  # noqa: PLR2004 (a comparison)
        return []
    names = ("cluster", "image", "layers", "size_gb", "median_s", "n")
    draft.data["medians"] = {name: [row[name] for row in rows] for name in names}
    draft.data["medians"]["layers"] = [str(row["layers"]) for row in rows]
    chart = by_layers(
        [str(count) for count in counts],
        [row["size_gb"] for row in rows],
        [row["median_s"] for row in rows],
        size_title="image size (GB, unpacked)",
        provenance=draft.mark,
    )
    caption = f"{len(rows)} medians over nodes of all successful pulls. {draft.counted()}"
    return [
        Figure("by-layers", "Pull time by image size and number of layers", chart, ["medians"],
               caption, marks=len(rows), provenance=draft.mark)
    ]  # fmt: skip


def _medians(cluster: Cluster) -> list[dict[str, Any]]:
    medians = nan_median(cluster.every.seconds, 0)
    rows = []
    for image, median in zip(cluster.every.images, medians, strict=True):
        known = cluster.images.get(image)
        if known and known.layers and known.unpacked_bytes:
            rows.append(
                {
                    "cluster": cluster.label,
                    "image": known.label,
                    "layers": known.layers,
                    "size_gb": known.unpacked_bytes / 1e9,
                    "median_s": round(float(median), 4),
                    "n": len(cluster.every.names),
                }
            )
    return rows


def nodes(draft: Draft) -> Section:
    """Return the section on differences between nodes."""
    figures = []
    for number, cluster in enumerate(draft.clusters):
        if not cluster.every.images:
            continue
        short = short_names(image.label for image in cluster.images.values())
        images = [
            short[cluster.images[name].label]
            for name in sorted(cluster.every.images, key=lambda name: _bytes(cluster, name))
            if name in cluster.images
        ]
        chart = node_map(f"cells-{number}", cluster.every.names, images, mark_of(cluster))
        figures.append(
            Figure(
                f"nodes-{number}",
                f"Pull time relative to the image's median: {cluster.label}",
                chart,
                [f"cells-{number}"],
                "Cells with one successful pull; cells with several pulls have no single duration. "
                f"{draft.counted(cluster)}",
                marks=len(images) * len(cluster.every.names),
                provenance=mark_of(cluster),
                choice=cluster.label,
            )
        )
    text = (
        "Images are sorted by size. A mostly orange row is a slow node, a mostly purple row a fast "
        "one; an uneven column is an image whose pull time varies between nodes."
    )
    if not figures:
        return Section("nodes", "Differences between nodes", ["No node pulled an image."])
    return Section("nodes", "Differences between nodes", [text], figures=figures,
                   choice_label="Cluster")  # fmt: skip


def _bytes(cluster: Cluster, name: str) -> float:
    image = cluster.images.get(name)
    return (image.unpacked_bytes or image.wire_bytes or 0.0) if image else 0.0


def model(draft: Draft) -> Section:
    """Return the section on the model of pull time, fitted for each kind of data."""
    tables = []
    reasons = []
    for kind in sorted({cluster.kind for cluster in draft.clusters}):
        mine = [c for c in draft.clusters if c.kind == kind]
        try:
            fitted = fit(mine)
        except ModelError as error:
            reasons.append(error.problem)
            continue
        rows = [
            [term.name, f"{term.value:.4g}".replace("-", "\u2212"), f"{term.error:.2g}", ""]
            for term in fitted.terms
        ]
        rows += [[name, "–", "–", f"left out: {why}"] for name, why in fitted.left_out.items()]
        caption = (
            f"n = {fitted.pulls:,} pulls of {len(fitted.images)} images on {fitted.nodes} nodes "
            f"({fitted.selection}). Median error on images left out of the fit: "
            f"{fitted.unseen_error:.0%}."
        )
        mark = "" if kind == "measured" else kind
        names = ("Term", "Seconds per unit#", "Standard error (s)#", "Note")
        tables.append(make_table(caption, names, rows, mark))
    return Section("model", "A model of pull time", [_MODEL, *reasons], tables=tables)
