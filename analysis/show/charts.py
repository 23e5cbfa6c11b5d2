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

_VIEW = [
    {"name": "which", "value": "valid cells"},
    {"name": "metric", "value": "pull"},
]
"""What the page's controls choose; files have these values."""

_SHOWN = "which == 'all successful pulls' || datum.valid"
_SECONDS = "metric == 'pull' ? datum.pull_s : datum.wait_s"
_CHOSEN = "datum.which == which && datum.metric == metric"

_N_SHOWN = 60
"""With at most this many medians each has its n as a label."""


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


def colour_of(field: str, title: str, order: Sequence[str] | Sequence[int]) -> Spec:
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
    long = max((len(str(name)) for name in order), default=0) > _LONG_NAME
    return {
        "field": field,
        "type": "ordinal",
        "sort": list(order),
        "title": title,
        "scale": {"domain": list(order), "range": sequence(len(order))},
        **({"legend": {"columns": 1}} if long else {}),
    }


def gradient_of(field: str, title: str, values: Sequence[float]) -> Spec:
    """Return the colour encoding of a number, logarithmic if the values span much.

    The legend has a few of the values: strokes and fills in one legend have no colour bar.
    """
    ordered = sorted(set(values))
    few = min(_LISTED, len(ordered))
    listed = [ordered[round(i * (len(ordered) - 1) / max(1, few - 1))] for i in range(few)]
    kind = "log" if scale_of(values).get("type") == "log" else "linear"
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": kind, "scheme": "viridis", "nice": False,
                  **({} if kind == "log" else {"zero": False})},
        "legend": {"orient": "top", "format": ".3~g", "values": listed, "columns": _LISTED},
    }  # fmt: skip


_LISTED = 6
"""Values in the legend of a number."""

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


_MEDIAN_TOOLTIP = [
    {"field": "cluster", "title": "cluster"},
    {"field": "image", "title": "image"},
    {"field": "n", "title": "pulls (n)"},
    {"field": "median", "title": "median (s)", "format": ".3f"},
    {"field": "interval", "title": "95 % interval"},
    {"field": "least", "title": "fastest (s)", "format": ".3f"},
    {"field": "most", "title": "slowest (s)", "format": ".3f"},
]


def _medians(x: Spec, colour: Spec, y: Spec, count: int, more: Spec | None = None) -> list[Spec]:
    """Return the layers of medians: interval, mark (a diamond if n < 3), and n while few."""
    place = {"x": x, **(more or {})}
    data = {"data": {"name": "medians"}, "transform": [{"filter": _CHOSEN}]}
    shape = {"condition": {"test": "datum.n < 3", "value": "diamond"}, "value": "circle"}
    layers: list[Spec] = [
        data
        | {
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": place
            | {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour,
               "tooltip": _MEDIAN_TOOLTIP},
        },
        data
        | {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1,
                     "stroke": "var(--card)", "strokeWidth": 1.5},
            "encoding": place
            | {"y": y | {"field": "median"}, "color": colour, "shape": shape,
               "tooltip": _MEDIAN_TOOLTIP},
        },
    ]  # fmt: skip
    if count <= _N_SHOWN:
        layers.append(
            data
            | {
                "mark": {"type": "text", "dx": 9, "align": "left", "fontSize": 10,
                         "color": "var(--soft)"},
                "encoding": place | {"y": y | {"field": "median"}, "text": {"field": "n"}},
            }
        )  # fmt: skip
    return layers


def by_cluster(
    clusters: Sequence[str],
    images: Sequence[str],
    seconds: Sequence[float],
    colour: Spec,
    provenance: str,
) -> Spec:
    """Plot pull time by cluster (x) and image (in order of size): each pull, and medians.

    Data set `pulls`: cluster, image, node, size_gb, pull_s, wait_s, status, valid. Data set
    `medians`: cluster, image, layers, size_gb, which, metric, n, median, low, high, interval,
    least, most; below six pulls, where no 95 % interval exists, low and high are the median.
    """
    x = {
        "field": "cluster",
        "type": "ordinal",
        "sort": list(clusters),
        "title": "cluster",
        "axis": cluster_axis(clusters),
    }
    offset = {"xOffset": {"field": "image", "type": "ordinal", "sort": list(images)}}
    y = {"type": "quantitative", "title": "duration (s)", "scale": scale_of(seconds)}
    pulls = {
        "data": {"name": "pulls"},
        "transform": [{"filter": _SHOWN}, {"calculate": _SECONDS, "as": "seconds"}],
        "mark": {"type": "circle", "size": 18, "opacity": 0.35},
        "encoding": {
            "x": x, **offset, "y": y | {"field": "seconds"}, "color": colour, "tooltip": _TOOLTIP,
        },
    }  # fmt: skip
    return {
        "width": "container",
        "height": 360,
        "params": _VIEW,
        "layer": [
            pulls,
            *_medians(x, colour, y, len(clusters) * len(images), offset),
            *watermark(provenance),
        ],
    }


def by_size(
    clusters: Sequence[str],
    sizes_gb: Sequence[float],
    seconds: Sequence[float],
    *,
    size_title: str,
    colour: Spec,
    provenance: str,
) -> Spec:
    """Plot medians over image size, a panel per cluster; data set `medians` as in by_cluster.

    Lines connect images that differ in size alone: of one repository and one number of layers.
    """
    x = {
        "field": "size_gb",
        "type": "quantitative",
        "title": size_title,
        "scale": scale_of(sizes_gb),
        "axis": {"tickCount": 4},
    }
    y = {"type": "quantitative", "title": "median duration (s)", "scale": scale_of(seconds)}
    if len(clusters) > 1:  # a legend at the side of panels would be cut
        colour = colour | {"legend": colour.get("legend", {}) | {"orient": "top"}}
    line = {
        "data": {"name": "medians"},
        "transform": [{"filter": _CHOSEN}],
        "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.6},
        "encoding": {
            "x": x,
            "y": y | {"field": "median"},
            "color": colour,
            "detail": [{"field": "layers"}, {"field": "repository"}, {"field": "cluster"}],
        },
    }
    layers = [line, *_medians(x, colour, y, len(sizes_gb)), *watermark(provenance)]
    if len(clusters) == 1:
        return {"width": "container", "height": 360, "params": _VIEW, "layer": layers}
    for layer in layers[: len(layers) - bool(provenance)]:
        del layer["data"]  # a layer with data of its own is the same in all panels
    return {
        "data": {"name": "medians"},
        "params": _VIEW,
        "columns": 3,
        "facet": {"field": "cluster", "type": "nominal", "sort": list(clusters), "title": None},
        "spec": {"width": 240, "height": 240, "layer": layers},
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


def ratios(images: Sequence[str], most: float, statistic: str, provenance: str) -> Spec:
    """Plot ratios with intervals, an image a row; data set `ratios`: image, n, ratio, low, high.

    The scale is symmetric and logarithmic: half is as far from 1 as twice. `most` is the largest
    ratio or reciprocal of one.
    """
    scale = {"type": "log", "nice": False, "padding": 14, "domain": [1 / most, most]}
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
            {"data": {"name": "ratios"},
             "mark": {"type": "text", "dy": -9, "fontSize": 10, "color": "var(--soft)"},
             "encoding": {"y": y, "x": x | {"field": "ratio"}, "text": {"field": "n"}}},
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
