"""The report's interactive plots as Vega-Lite specifications. Pure: data goes in by name.

Colours are names of the page's CSS variables (`var(--pull)`), put in by page/report.js, so that a
plot follows the light and the dark theme. Plots as files are plots.py's. Reference of the
language: Vega-Lite 6, chapters Encoding, Parameter, Transform.
"""

from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]

STEPS = tuple(f"var(--s{number})" for number in range(1, 8))
"""A sequence of colours that differ in lightness too, so that they can be told apart in grey."""

STATUS_COLOURS = {
    "valid": "var(--valid)",
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
    ("running", "started", "finished", "var(--run)"),
    ("settling", "finished", "complete", "var(--settle)"),
)
"""Parts of a cell on the timeline: name, from, to, colour."""

_LOG_FROM = 50
_WHICH = {
    "name": "which",
    "value": "valid cells",
    "bind": {"input": "radio", "options": ["valid cells", "all successful pulls"], "name": "Show"},
}
_SHOWN = "which == 'all successful pulls' || datum.valid"


def sequence(count: int) -> list[str]:
    """So many colours, as far apart as the seven allow."""
    if count <= 1:
        return [STEPS[2]]
    last = len(STEPS) - 1
    return [STEPS[round(i * last / (count - 1))] for i in range(count)]


def watermark(provenance: str) -> list[Spec]:
    """Says across a plot that its data were not measured; nothing for measured data."""
    if not provenance:
        return []
    mark = {
        "type": "text",
        "text": provenance.partition(",")[0].upper(),
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


def _scale(values: Sequence[float]) -> Spec:
    """Logarithmic where the values span much; else linear from zero."""
    positive = [value for value in values if value and value > 0]
    if positive and max(positive) / min(positive) > _LOG_FROM:
        return {"type": "log", "nice": True}
    return {"zero": True, "nice": True}


def _colour(field: str, title: str, order: Sequence[str]) -> Spec:
    if len(order) > len(STEPS):
        return {
            "field": field,
            "type": "ordinal",
            "sort": list(order),
            "title": title,
            "scale": {"scheme": "viridis"},
            "legend": {"columns": 2, "symbolLimit": 80},
        }
    return {
        "field": field,
        "type": "ordinal",
        "sort": list(order),
        "title": title,
        "scale": {"domain": list(order), "range": sequence(len(order))},
    }


_TOOLTIP = [
    {"field": "cluster", "title": "cluster"},
    {"field": "image", "title": "image"},
    {"field": "node", "title": "node"},
    {"field": "pull_s", "title": "pull", "format": ".3f"},
    {"field": "wait_s", "title": "with waiting", "format": ".3f"},
    {"field": "status", "title": "cell"},
]


def by_cluster(
    clusters: Sequence[str], sizes: Sequence[str], seconds: Sequence[float], provenance: str
) -> Spec:
    """Pull time with cluster size as x and image size as hue: the plot that the study asked for.

    Needs the datasets `pulls` (cluster, size, pull_s, valid ...) and nothing else.
    """
    x = {
        "field": "cluster",
        "type": "ordinal",
        "sort": list(clusters),
        "title": "cluster size",
        "axis": {"labelAngle": 0},
    }
    offset = {"field": "size", "type": "ordinal", "sort": list(sizes)}
    y = {"type": "quantitative", "title": "pull time (s)", "scale": _scale(seconds)}
    colour = _colour("size", "image size", sizes)
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
    told = [
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
                    "tooltip": told,
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
                "encoding": base | {"y": y | {"field": "median"}, "color": colour, "tooltip": told},
            },
            *watermark(provenance),
        ],
    }


def by_size(
    clusters: Sequence[str], sizes_gb: Sequence[float], seconds: Sequence[float], provenance: str
) -> Spec:
    """Pull time over image size, a line a cluster; dataset `pulls` with size_gb."""
    x = {
        "field": "size_gb",
        "type": "quantitative",
        "title": "image size (GB, unpacked)",
        "scale": _scale(sizes_gb),
    }
    y = {"type": "quantitative", "title": "pull time (s)", "scale": _scale(seconds)}
    colour = _colour("cluster", "cluster", clusters)
    median = [
        {"filter": _SHOWN},
        {
            "aggregate": [
                {"op": "median", "field": "pull_s", "as": "median"},
                {"op": "count", "as": "n"},
            ],
            "groupby": ["cluster", "size_gb", "image"],
        },
    ]
    told = [
        {"field": "cluster", "title": "cluster"},
        {"field": "image", "title": "image"},
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
                    "tooltip": told,
                },
            },
            *watermark(provenance),
        ],
    }


def timeline(data: str, nodes: Sequence[str], provenance: str) -> Spec:
    """Every node a row; what it did from second to second. Dataset with a column a moment."""
    step = max(3, min(20, 640 // max(1, len(nodes))))
    labels = {} if step > 10 else {"labels": False, "ticks": False}  # noqa: PLR2004 (px a label needs)
    y = {
        "field": "node",
        "type": "nominal",
        "sort": list(nodes),
        "title": f"{len(nodes)} nodes, a row each",
        "axis": {"labelLimit": 90, "domain": False, **labels},
    }
    told = [
        {"field": "node", "title": "node"},
        {"field": "image", "title": "image"},
        {"field": "status", "title": "cell"},
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
            "transform": [{"filter": f"isValid(datum.{begin}) && isValid(datum.{end})"}],
            "mark": {"type": "bar", "height": {"band": 0.82}, "cornerRadius": 1},
            "encoding": {
                "x": {
                    "field": begin,
                    "type": "quantitative",
                    "title": "since the first pod was bound (s)",
                    "scale": {"zero": True},
                },
                "x2": {"field": end},
                "y": y,
                "color": colour | {"datum": name},
                "tooltip": [{"value": name, "title": "phase"}, *told],
            },
        }
        for name, begin, end, _ in PHASES
    ]
    return {"width": "container", "height": {"step": step}, "layer": layers + watermark(provenance)}


def status_bars(clusters: Sequence[str], provenance: str) -> Spec:
    """Cells by status, a bar a cluster; dataset `statuses` (cluster, status, cells)."""
    order = list(STATUS_COLOURS)
    return {
        "width": "container",
        "height": {"step": 34},
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
                    },
                    "color": {
                        "field": "status",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": order, "range": list(STATUS_COLOURS.values())},
                        "legend": {"orient": "top", "columns": 6},
                    },
                    "order": {"field": "rank", "type": "quantitative"},
                    "tooltip": [{"field": "cluster"}, {"field": "status"}, {"field": "cells"}],
                },
            },
            *watermark(provenance),
        ],
    }


def phase_bars(provenance: str) -> Spec:
    """A run's phases in their order; dataset `phases` (run, phase, begin, end, seconds)."""
    return {
        "width": "container",
        "height": {"step": 30},
        "layer": [
            {
                "data": {"name": "phases"},
                "mark": {"type": "bar", "cornerRadius": 2, "color": "var(--pull)"},
                "encoding": {
                    "x": {
                        "field": "begin",
                        "type": "quantitative",
                        "title": "since the run began (s)",
                    },
                    "x2": {"field": "end"},
                    "y": {"field": "phase", "type": "nominal", "sort": None, "title": None},
                    "row": {"field": "run", "title": None},
                    "tooltip": [
                        {"field": "run"},
                        {"field": "phase"},
                        {"field": "seconds", "title": "took (s)", "format": ".1f"},
                    ],
                },
            },
            *watermark(provenance),
        ],
    }
