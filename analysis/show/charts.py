"""The report's interactive plots as Vega-Lite 6 specifications. Pure: data sets go by name.

Colours are names of the page's CSS variables (`var(--pull)`), which assets/report.js replaces, so
that a plot follows the light or dark theme. figure_files.py writes
the same ones as files.

In all functions, `provenance` is the watermark ('' for measured data), `seconds` are pull times
and `sizes_gb` image sizes in GB, used to choose a linear or logarithmic scale; sequences of str
are the distinct labels in the order of the legend or axis.
"""

from collections.abc import Sequence
from typing import Any

from analysis.read.provenance import watermark_text

Spec = dict[str, Any]

STEPS = tuple(f"var(--s{number})" for number in range(1, 8))
"""Colours that also differ in lightness, so that they are distinct in greyscale."""


_LOG_FROM = 50
_WHICH = {
    "name": "which",
    "value": "valid cells",
    "bind": {"input": "radio", "options": ["valid cells", "all successful pulls"], "name": "Show"},
}
_SHOWN = "which == 'all successful pulls' || datum.valid"


def sequence(count: int) -> list[str]:
    """Return `count` of the seven colours, as far apart as possible."""
    if count <= 1:
        return [STEPS[2]]
    last = len(STEPS) - 1
    return [STEPS[round(i * last / (count - 1))] for i in range(count)]


def watermark(provenance: str) -> list[Spec]:
    """Return a layer that marks data as not measured; none for measured data."""
    if not provenance:
        return []
    mark = {
        "type": "text",
        "text": watermark_text(provenance),
        "fontSize": 26,
        "fontWeight": 700,
        "opacity": 0.16,
        "color": "var(--excluded)",
        "aria": False,
    }
    place = {
        axis: {"value": {"expr": f"{side} / 2"}} for axis, side in (("x", "width"), ("y", "height"))
    }
    return [{"data": {"values": [{}]}, "mark": mark, "encoding": place}]


def scale_of(values: Sequence[float]) -> Spec:
    """Return a logarithmic scale if the values span a factor of 50, else linear from zero."""
    positive = [value for value in values if value and value > 0]
    if positive and max(positive) / min(positive) > _LOG_FROM:
        return {"type": "log", "nice": False, "padding": 14}
    return {"zero": True, "nice": True}


def colour_of(field: str, title: str, order: Sequence[str]) -> Spec:
    """Return the colour encoding of an ordered field: the seven colours, or viridis if more."""
    if len(order) > len(STEPS):
        return {
            "field": field,
            "type": "ordinal",
            "sort": list(order),
            "title": title,
            "scale": {"scheme": "viridis"},
            "legend": {"columns": 2, "symbolLimit": 80},
        }
    long = max(map(len, order), default=0) > _LONG_NAME
    return {
        "field": field,
        "type": "ordinal",
        "sort": list(order),
        "title": title,
        "scale": {"domain": list(order), "range": sequence(len(order))},
        **({"legend": {"columns": 1}} if long else {}),
    }


_LONG_NAME = 16
"""Longer names get a line each in a legend."""

_UPRIGHT = 4
"""Names of clusters that fit next to each other."""


def cluster_axis(clusters: Sequence[str]) -> Spec:
    """Return the labels of a cluster axis: upright while they are few, else slanted."""
    if len(clusters) <= _UPRIGHT:
        return {"labelAngle": 0, "labelExpr": "split(datum.label, ' · ')"}
    return {"labelAngle": -35, "labelLimit": 220}


_TOOLTIP = [
    {"field": "cluster", "title": "cluster"},
    {"field": "image", "title": "image"},
    {"field": "node", "title": "node"},
    {"field": "pull_s", "title": "pull (s)", "format": ".3f"},
    {"field": "wait_s", "title": "pull with waiting (s)", "format": ".3f"},
    {"field": "status", "title": "status"},
]


def by_cluster(
    clusters: Sequence[str], sizes: Sequence[str], seconds: Sequence[float], provenance: str
) -> Spec:
    """Plot pull time by cluster (x) and image size (colour).

    Data set `pulls`: cluster, image, node, size (label), pull_s, wait_s, status, valid.
    """
    x = {
        "field": "cluster",
        "type": "ordinal",
        "sort": list(clusters),
        "title": "cluster",
        "axis": cluster_axis(clusters),
    }
    offset = {"field": "size", "type": "ordinal", "sort": list(sizes)}
    y = {"type": "quantitative", "title": "pull time (s)", "scale": scale_of(seconds)}
    colour = colour_of("size", "image", sizes)
    quartiles = [
        {"filter": _SHOWN},
        {
            "aggregate": [
                {"op": "q1", "field": "pull_s", "as": "q1"},
                {"op": "median", "field": "pull_s", "as": "median"},
                {"op": "q3", "field": "pull_s", "as": "q3"},
                {"op": "count", "as": "n"},
            ],
            "groupby": ["cluster", "size"],
        },
    ]
    tooltip = [
        {"field": "cluster", "title": "cluster"},
        {"field": "size", "title": "image size"},
        {"field": "n", "title": "pulls"},
        {"field": "q1", "title": "lower quartile (s)", "format": ".2f"},
        {"field": "median", "title": "median (s)", "format": ".2f"},
        {"field": "q3", "title": "upper quartile (s)", "format": ".2f"},
    ]
    base = {"x": x, "xOffset": offset}
    return {
        "width": "container",
        "height": 360,
        "params": [_WHICH],
        "layer": [
            {
                "data": {"name": "pulls"},
                "transform": [{"filter": _SHOWN}],
                "mark": {"type": "circle", "size": 22, "opacity": 0.4},
                "encoding": base
                | {"y": y | {"field": "pull_s"}, "color": colour, "tooltip": _TOOLTIP},
            },
            {
                "data": {"name": "pulls"},
                "transform": quartiles,
                "mark": {"type": "bar", "width": 7, "opacity": 0.35, "cornerRadius": 3},
                "encoding": base
                | {
                    "y": y | {"field": "q1"},
                    "y2": {"field": "q3"},
                    "color": colour,
                    "tooltip": tooltip,
                },
            },
            {
                "data": {"name": "pulls"},
                "transform": quartiles,
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 95,
                    "opacity": 1,
                    "stroke": "var(--card)",
                    "strokeWidth": 1.5,
                },
                "encoding": base
                | {
                    "y": y | {"field": "median"},
                    "color": colour,
                    "shape": {
                        "condition": {"test": "datum.n < 3", "value": "diamond"},
                        "value": "circle",
                    },
                    "tooltip": tooltip,
                },
            },
            *watermark(provenance),
        ],
    }


def by_size(
    clusters: Sequence[str],
    sizes_gb: Sequence[float],
    seconds: Sequence[float],
    *,
    size_title: str,
    layers: Sequence[str],
    provenance: str,
) -> Spec:
    """Plot pull time over image size, a line per cluster and number of layers.

    Colours show clusters, or layers where `layers` lists them. Data set `pulls` as in by_cluster,
    with size_gb and layers.
    """
    line = {"detail": [{"field": name, "type": "nominal"} for name in ("cluster", "layers")]}
    x = {
        "field": "size_gb",
        "type": "quantitative",
        "title": size_title,
        "scale": scale_of(sizes_gb),
    }
    y = {"type": "quantitative", "title": "pull time (s)", "scale": scale_of(seconds)}
    colour = (
        colour_of("layers", "layers", layers)
        if layers
        else colour_of("cluster", "cluster", clusters)
    )
    median = [
        {"filter": _SHOWN},
        {
            "aggregate": [
                {"op": "median", "field": "pull_s", "as": "median"},
                {"op": "count", "as": "n"},
            ],
            "groupby": ["cluster", "size_gb", "layers"],
        },
    ]
    tooltip = [
        {"field": "cluster", "title": "cluster"},
        {"field": "size_gb", "title": "size (GB)", "format": ".4~g"},
        {"field": "layers", "title": "layers"},
        {"field": "n", "title": "pulls"},
        {"field": "median", "title": "median (s)", "format": ".2f"},
    ]
    return {
        "width": "container",
        "height": 360,
        "params": [_WHICH],
        "layer": [
            {
                "data": {"name": "pulls"},
                "transform": [{"filter": _SHOWN}],
                "mark": {"type": "circle", "size": 16, "opacity": 0.3},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "pull_s"},
                    "color": colour,
                    "tooltip": _TOOLTIP,
                },
            },
            {
                "data": {"name": "pulls"},
                "transform": median,
                "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 60, "filled": True}},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "median"},
                    "color": colour,
                    "tooltip": tooltip,
                    **line,
                },
            },
            *watermark(provenance),
        ],
    }


_FEW = 40
"""Labels that fit next to each other."""


def rates(provenance: str) -> Spec:
    """Plot network and disk rates of each image; data set `rates`: see report_images."""
    kinds = ["to the disk", "over the network"]
    scale = {"type": "log", "nice": False, "padding": 14}
    return {
        "width": "container",
        "height": 340,
        "layer": [
            {
                "data": {"name": "rates"},
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 0.8},
                "encoding": {
                    "x": {"field": "size_gb", "type": "quantitative", "scale": scale,
                          "title": "image size (GB, unpacked)"},
                    "y": {"field": "mb_s", "type": "quantitative", "scale": scale,
                          "title": "MB/s (logarithmic)"},
                    "color": {"field": "kind", "type": "nominal", "title": None,
                              "scale": {"domain": kinds,
                                        "range": ["var(--pull)", "var(--start)"]},
                              "legend": {"orient": "top"}},
                    "shape": {"field": "kind", "type": "nominal", "title": None,
                              "scale": {"domain": kinds, "range": ["circle", "triangle-up"]}},
                    "tooltip": [{"field": "cluster"}, {"field": "image"}, {"field": "kind"},
                                {"field": "mb_s", "title": "MB/s", "format": ".3~g"}],
                },
            },
            *watermark(provenance),
        ],
    }  # fmt: skip


def similarity_map(data: str, tags: Sequence[str], provenance: str) -> Spec:
    """Plot a similarity matrix; data set `data`: a, b (labels) and similarity (0 to 1)."""
    axis = {"labels": len(tags) <= _FEW, "ticks": False, "labelAngle": -60, "labelLimit": 120,
            "domain": False}  # fmt: skip
    place: Spec = {"type": "nominal", "sort": list(tags), "title": None, "axis": axis}
    return {
        "width": "container",
        "height": 460,
        "layer": [
            {
                "data": {"name": data},
                "mark": {"type": "rect"},
                "encoding": {
                    "x": place | {"field": "a"},
                    "y": place | {"field": "b", "axis": axis | {"labelAngle": 0}},
                    "color": {"field": "similarity", "type": "quantitative", "title": "Jaccard",
                              "scale": {"domain": [0, 1], "scheme": "viridis"}},
                    "tooltip": [{"field": "a", "title": "image 1"},
                                {"field": "b", "title": "image 2"},
                                {"field": "similarity", "format": ".3f"}],
                },
            },
            *watermark(provenance),
        ],
    }  # fmt: skip


def ratios(images: Sequence[str], statistic: str, provenance: str) -> Spec:
    """Plot ratios with intervals, an image a row; data set `ratios`: image, ratio, low, high."""
    scale = {"type": "log", "nice": False, "padding": 14}
    title = f"{statistic} pull time, second / first (1: no difference)"
    y = {"field": "image", "type": "nominal", "sort": list(images), "title": None,
         "axis": {"labelLimit": 330}}  # fmt: skip
    x = {"type": "quantitative", "scale": scale, "title": title}
    colour = {"value": "var(--pull)"}
    return {
        "width": "container",
        "height": 26 * len(images),
        "layer": [
            {"data": {"values": [{"one": 1}]}, "mark": "rule",
             "encoding": {"x": x | {"field": "one"}}},
            {"data": {"name": "ratios"}, "mark": {"type": "rule", "strokeWidth": 2},
             "encoding": {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"},
                          "color": colour}},
            {"data": {"name": "ratios"}, "mark": {"type": "point", "filled": True, "size": 60},
             "encoding": {"y": y, "x": x | {"field": "ratio"}, "color": colour}},
            *watermark(provenance),
        ],
    }  # fmt: skip


def layer_sizes(provenance: str) -> Spec:
    """Plot a histogram of layers by size; data set `layers`: bytes, and its logarithm `log`."""
    x = {"bin": {"maxbins": 30}, "field": "log", "type": "quantitative",
         "title": "compressed size of a layer (bytes)",
         "axis": {"labelExpr": "format(pow(10, datum.value), '.2~s')"}}  # fmt: skip
    return {
        "width": "container",
        "height": 260,
        "layer": [
            {"data": {"name": "layers"}, "mark": {"type": "bar", "color": "var(--pull)"},
             "encoding": {"x": x, "y": {"aggregate": "count", "title": "layers"}}},
            *watermark(provenance),
        ],
    }  # fmt: skip
