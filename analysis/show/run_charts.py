"""Interactive plots of a run: timeline, nodes, statuses, wall time, machines.

Vega-Lite specifications as in charts.py, which also has their colours and conventions.
"""

from collections.abc import Sequence

from analysis.show.charts import Spec, colour_of, watermark

STATUS_COLOURS = {
    "valid": "var(--valid)",
    "preloaded": "var(--s3)",
    "repeated": "var(--s6)",
    "missing-events": "var(--wait)",
    "cached": "var(--s4)",
    "warm-layers": "var(--s5)",
    "retried": "var(--start)",
    "failed": "var(--excluded)",
    "evicted": "var(--s7)",
    "disk-pressure": "var(--settle)",
    "node-lost": "var(--s1)",
    "aborted": "var(--faint)",
}

PHASES = (
    ("waiting", "scheduled", "pulling", "var(--wait)"),
    ("pulling", "pulling", "pulled", "var(--pull)"),
    ("starting", "pulled", "started", "var(--start)"),
    ("container", "started", "ran", "var(--run)"),
    ("settling", "ran", "finished", "var(--settle)"),
)
"""Parts of a cell on the timeline: name, columns of start and end, colour."""

_BAR = 34
"""Pixels of a bar with its gap."""

_LABEL_PIXELS = 10
"""A row must be higher than this to have a label."""


def timeline(data: str, nodes: Sequence[str], provenance: str) -> Spec:
    """Plot the parts of all cells over time, a row per node.

    Data set `data`: see report_runs.
    """
    step = max(3, min(20, 640 // max(1, len(nodes))))
    tooltip = [
        {"field": "part", "title": "part"},
        {"field": "node", "title": "node"},
        {"field": "image", "title": "image"},
        {"field": "status", "title": "status"},
        {"field": "waiting_s", "title": "waiting (s)", "format": ".2f"},
        {"field": "pull_s", "title": "pull (s)", "format": ".3f"},
    ]
    names = [name for name, *_ in PHASES]
    colour = {
        "type": "nominal",
        "title": None,
        "legend": {"orient": "top"},
        "scale": {"domain": names, "range": [colour for *_, colour in PHASES]},
    }
    layers = [
        {
            "data": {"name": data},
            "transform": [
                {"filter": f"isValid(datum.{begin}) && isValid(datum.{end})"},
                {"calculate": f"'{name}'", "as": "part"},
            ],
            "mark": {"type": "bar", "height": {"band": 0.82}},
            "encoding": {
                "x": {
                    "field": begin,
                    "type": "quantitative",
                    "title": "time since the first pod was bound (s)",
                },
                "x2": {"field": end},
                "y": _node_axis(nodes, step),
                "color": colour | {"field": "part"},
                "tooltip": tooltip,
            },
        }
        # A Job may complete after the next image's trial has started: settling is drawn below.
        for name, begin, end, _ in reversed(PHASES)
    ]
    return {
        "width": "container",
        "height": step * len(nodes),
        "layer": layers + watermark(provenance),
    }


def node_map(
    data: str, nodes: Sequence[str], images: Sequence[str], most: float, provenance: str
) -> Spec:
    """Plot each pull relative to its image's median, nodes by images; data set of the timeline.

    The scale is symmetric and logarithmic; `most` is the largest |log2(pull / median)|.
    """
    reach = max(most, 0.07)  # 5 %: smaller differences are not worth a colour
    step = max(3, min(20, 640 // max(1, len(nodes))))
    few = len(images) <= 40  # noqa: PLR2004 (labels that fit next to each other)
    x = {"field": "image", "type": "nominal", "sort": list(images), "title": "image",
         "axis": {"labels": few, "ticks": few, "labelAngle": -55, "labelLimit": 130,
                  "domain": False}}  # fmt: skip
    return {
        "width": "container",
        "height": step * len(nodes),
        "layer": [
            {
                "data": {"name": data},
                "transform": [
                    {"filter": "isValid(datum.pull_s)"},
                    {"joinaggregate": [{"op": "median", "field": "pull_s", "as": "median"}],
                     "groupby": ["image"]},
                    {"calculate": "datum.pull_s / datum.median", "as": "relative"},
                    {"calculate": "log(datum.relative) / LN2", "as": "doublings"},
                ],
                "mark": {"type": "rect"},
                "encoding": {
                    "x": x,
                    "y": _node_axis(nodes, step),
                    "color": {"field": "doublings", "type": "quantitative",
                              "title": "pull / image's median",
                              "legend": {"labelExpr": "format(pow(2, datum.value), '.0%')"},
                              "scale": {"scheme": "purpleorange", "domain": [-reach, reach]}},
                    "tooltip": [
                        {"field": "node"}, {"field": "image"},
                        {"field": "pull_s", "title": "pull (s)", "format": ".3f"},
                        {"field": "relative", "title": "pull / median", "format": ".1%"},
                        {"field": "status", "title": "status"},
                    ],
                },
            },
            *watermark(provenance),
        ],
    }  # fmt: skip


def tail(clusters: Sequence[str], provenance: str) -> Spec:
    """Plot the share of pulls that end within a multiple of their trial's median, by cluster.

    An empirical distribution function; data set `tails`: cluster, node, image, relative.
    """
    x = {"field": "relative", "type": "quantitative", "title": "pull / trial's median",
         "scale": {"type": "log", "nice": False, "padding": 14}}  # fmt: skip
    y = {"field": "share", "type": "quantitative", "title": "share of pulls",
         "axis": {"format": "%"}}  # fmt: skip
    share: list[Spec] = [
        {"window": [{"op": "cume_dist", "as": "share"}], "sort": [{"field": "relative"}],
         "groupby": ["cluster"]},
    ]  # fmt: skip
    tooltip = [{"field": "cluster"}, {"field": "node"}, {"field": "image"},
               {"field": "relative", "title": "pull / median", "format": ".3f"},
               {"field": "share", "title": "share of pulls", "format": ".1%"}]  # fmt: skip
    colour = colour_of("cluster", "cluster", clusters)
    return {
        "width": "container",
        "height": 300,
        "layer": [
            {
                "data": {"name": "tails"},
                "transform": share,
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
                "encoding": {"x": x, "y": y, "color": colour},
            },
            {
                "data": {"name": "tails"},
                "transform": share,
                "mark": {"type": "circle", "size": 26, "opacity": 0.5},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
            },
            *watermark(provenance),
        ],
    }


# Names of nodes of a pool differ in their last parts.
_NODE_LABEL = "join(slice(split(datum.label, '-'), -2), '-')"


def _node_axis(nodes: Sequence[str], step: int) -> Spec:
    labels: Spec = {"labelLimit": 110, "labelExpr": _NODE_LABEL}
    if step <= _LABEL_PIXELS:
        labels = {"labels": False, "ticks": False}
    return {
        "field": "node",
        "type": "nominal",
        "sort": list(nodes),
        "scale": {"domain": list(nodes)},  # a node that never pulled has an empty row
        "title": f"{len(nodes)} nodes",
        "axis": {"domain": False, **labels},
    }


def status_bars(clusters: Sequence[str], statuses: Sequence[str], provenance: str) -> Spec:
    """Plot cells by status, a bar per cluster; data set `statuses` (cluster, status, cells)."""
    return {
        "width": "container",
        "height": _BAR * len(clusters),
        "layer": [
            {
                "data": {"name": "statuses"},
                "mark": {"type": "bar", "cornerRadius": 2},
                "encoding": {
                    "x": {
                        "field": "cells",
                        "type": "quantitative",
                        "stack": "normalize",
                        "title": "share of all cells",
                        "axis": {"format": "%"},
                    },
                    "y": {
                        "field": "cluster",
                        "type": "nominal",
                        "sort": list(clusters),
                        "title": None,
                        "axis": {"labelLimit": 280},
                    },
                    "color": {
                        "field": "status",
                        "type": "nominal",
                        "title": None,
                        "scale": {
                            "domain": list(statuses),
                            "range": [STATUS_COLOURS[status] for status in statuses],
                        },
                        "legend": {"orient": "top", "columns": 4},
                    },
                    "order": {"field": "rank", "type": "quantitative"},
                    "tooltip": [{"field": "cluster"}, {"field": "status"}, {"field": "cells"}],
                },
            },
            *watermark(provenance),
        ],
    }


PART_COLOURS = {
    "preflight": "var(--faint)",
    "provision": "var(--s2)",
    "prepare": "var(--s3)",
    "removal": "var(--s4)",
    "control plane": "var(--s1)",
    "start": "var(--start)",
    "pull": "var(--pull)",
    "container": "var(--run)",
    "settling": "var(--settle)",
    "runner": "var(--wait)",
    "collect": "var(--s6)",
    "teardown": "var(--s7)",
    "unexplained": "var(--excluded)",
}
"""Colours of the parts of the wall time (wall_time.PARTS)."""


def wall_bars(data: str, rows: Sequence[str], parts: Sequence[str], provenance: str) -> Spec:
    """Plot the wall time breakdown, a bar per row; data set: row, part, seconds, share, rank."""
    step = max(9, min(_BAR, 900 // max(1, len(rows))))
    labels = {"labelLimit": 190} if step > _LABEL_PIXELS else {"labels": False, "ticks": False}
    return {
        "width": "container",
        "height": step * len(rows),
        "layer": [
            {
                "data": {"name": data},
                "mark": {"type": "bar", "cornerRadius": 2},
                "encoding": {
                    "x": {"field": "seconds", "type": "quantitative", "title": "wall time (s)"},
                    "y": {"field": "row", "type": "nominal", "sort": list(rows),
                          "title": None, "axis": labels},
                    "color": {"field": "part", "type": "nominal", "title": None,
                              "scale": {"domain": list(parts),
                                        "range": [PART_COLOURS[part] for part in parts]},
                              "legend": {"orient": "top", "columns": 4}},
                    "order": {"field": "rank", "type": "quantitative"},
                    "tooltip": [{"field": "row", "title": "bar"}, {"field": "part"},
                                {"field": "seconds", "format": ".2f"},
                                {"field": "share", "format": ".1%"}],
                },
            },
            *watermark(provenance),
        ],
    }  # fmt: skip


def machine_points(provenance: str) -> Spec:
    """Plot time and price of equal studies; data set `machines`: cluster, machine, minutes, usd."""
    x = {"field": "minutes", "type": "quantitative", "title": "wall time of the study (minutes)",
         "scale": {"zero": True}}  # fmt: skip
    y = {"field": "usd", "type": "quantitative", "title": "price of the nodes (USD)",
         "scale": {"zero": True}}  # fmt: skip
    data = {"name": "machines"}
    text = {"type": "text", "align": "right", "dx": -10, "color": "var(--ink)"}
    tooltip = [
        {"field": "cluster"},
        {"field": "machine"},
        {"field": "minutes", "format": ".1f"},
        {"field": "usd", "title": "USD", "format": ".2f"},
    ]
    return {
        "width": "container",
        "height": 300,
        "layer": [
            {
                "data": data,
                "mark": {"type": "point", "filled": True, "size": 110, "color": "var(--pull)"},
                "encoding": {"x": x, "y": y, "tooltip": tooltip},
            },
            {
                "data": data,
                "mark": text,
                "encoding": {"x": x, "y": y, "text": {"field": "machine"}},
            },
            *watermark(provenance),
        ],
    }
