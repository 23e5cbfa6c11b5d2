"""Interactive plots of images: their bytes under the machine's limits, and how alike they are.

Vega-Lite specifications as charts.py's.
"""

from collections.abc import Sequence

from analysis.charts import Spec, watermark

_FEW = 40
"""Labels that fit beside each other."""


def roofline(limits: Sequence[tuple[str, float]], provenance: str) -> Spec:
    """Bytes a second on the wire and on the disk, under the machine's limits.

    Dataset `rates` (cluster, image, size_gb, kind, mb_s); limits are (name, MB/s).
    """
    kinds = ["to the disk", "over the network"]
    x = {"field": "size_gb", "type": "quantitative", "title": "image size (GB, unpacked)",
         "scale": {"type": "log", "nice": False, "padding": 14}}  # fmt: skip
    y = {
        "type": "quantitative",
        "title": "MB/s, logarithmic",
        "scale": {"type": "log", "nice": False, "padding": 14},
    }
    rows = [{"limit": name, "mb_s": value} for name, value in limits]
    line = {"type": "rule", "strokeDash": [6, 4], "color": "var(--soft)"}
    name = {"type": "text", "align": "left", "dx": 4, "dy": -7, "color": "var(--soft)"}
    at = {"y": y | {"field": "mb_s"}}
    named = at | {"x": {"value": 0}, "text": {"field": "limit"}}
    roofs = [
        {"data": {"values": rows}, "mark": line, "encoding": at},
        {"data": {"values": rows}, "mark": name, "encoding": named},
    ]
    return {
        "width": "container",
        "height": 340,
        "layer": [
            *(roofs if rows else []),
            {
                "data": {"name": "rates"},
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 0.8},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "mb_s"},
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


def similarity_map(data: str, tags: Sequence[str]) -> Spec:
    """Images by images; dataset with columns a, b and similarity."""
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
                    "tooltip": [{"field": "a", "title": "image"}, {"field": "b", "title": "and"},
                                {"field": "similarity", "format": ".3f"}],
                },
            }
        ],
    }  # fmt: skip
