"""The overhead benchmark's table (Markdown) and plot. Pure, but for the file of the plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.overhead.side import Comparison, Side

_RUNNER, _LOOP = "#0b6e4f", "#b4461f"


def table(found: Sequence[Comparison]) -> str:
    """Two lines a setting: the loop's and the runner's."""
    head = (
        "| cluster | who | wall an image, s | slowest pull, s | overhead, s | added, s "
        "| gap (largest), s | own requests | all requests | CPU, s | memory, MB |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {comparison.setting} | {who} | {_cells(side)} |\n"
        for comparison in found
        for who, side in (("loop", comparison.loop), ("runner", comparison.runner))
    ]
    return head + "".join(lines)


def _cells(side: Side) -> str:
    numbers = (
        f"{side.wall_s:.2f}",
        f"{side.slowest_pull_s:.2f}",
        f"{side.overhead_s:.2f}",
        f"{side.added_s:.2f}",
        f"{side.gap_s:.2f}",
        f"{side.own_requests:,.0f}",
        f"{side.all_requests:,.0f}",
        f"{side.cpu_s:.2f}",
        f"{side.peak_mb:.0f}",
    )
    return " | ".join(numbers)


def write_plot(found: Sequence[Comparison], path: Path) -> None:
    """What is added, and the gap, over cluster size; with limits (solid) and without (dashed)."""
    simulated = [c for c in found if c.setting.kind == "simulated"]
    canvas = Canvas(figsize=(9, 3.8), layout="constrained")
    wall, gap = canvas.subplots(1, 2, sharex=True)
    for limits, dash in ((True, "-"), (False, "--")):
        chosen = [c for c in simulated if c.setting.rate_limits is limits]
        nodes = [c.setting.nodes for c in chosen]
        for who, color, sides in (
            ("loop", _LOOP, [c.loop for c in chosen]),
            ("runner", _RUNNER, [c.runner for c in chosen]),
        ):
            label = f"{who}, {'default limits' if limits else 'no limits'}"
            style = {"color": color, "linestyle": dash, "marker": "o", "label": label}
            wall.plot(nodes, [side.added_s for side in sides], **style)
            gap.plot(nodes, [side.gap_s for side in sides], **style)
    wall.set_ylabel("wall an image less its slowest pod, s")
    gap.set_ylabel("last container ended to next pod bound, s")
    for axes in (wall, gap):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([c.setting.nodes for c in simulated], minor=False)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("nodes (simulated)")
        axes.grid(alpha=0.3)
    wall.legend(fontsize=8)
    canvas.savefig(path)
