"""What measuring costs beside the pulls: the runner and the original study's loop, side by side.

On one local control plane each, at several cluster sizes, with Kubernetes' own client-side rate
limits (as on a default cluster) and without them. `python -m benchmarks overhead` prints the
claims; the whole table and the plot are in data/benchmarks/.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import Figure
from benchmarks.overhead.page import table, write_plot
from benchmarks.overhead.side import Comparison, Setting, compare

SIMULATED_SIZES = (4, 16, 64, 256)
"""Speed 1: the control plane works by the clock, so the nodes must too."""

_OUT = Path("data/benchmarks")
_SETTINGS = (
    Setting(4, "real", rate_limits=True),
    *(Setting(n, "simulated", rate_limits=False) for n in SIMULATED_SIZES),
    *(Setting(n, "simulated", rate_limits=True) for n in SIMULATED_SIZES),
)


def measure() -> list[Figure]:
    """Compare in every setting, keep the details, give the claims."""
    found: list[Comparison] = []
    _OUT.mkdir(parents=True, exist_ok=True)
    for setting in _SETTINGS:
        with tempfile.TemporaryDirectory() as place:
            found.append(compare(setting, Path(place)))
        # after each, so that what was measured is there when a later setting fails
        rows = [asdict(comparison) for comparison in found]
        (_OUT / "overhead.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        (_OUT / "overhead.md").write_text(table(found), encoding="utf-8")
    write_plot(found, _OUT / "overhead.svg")
    return _claims(found)


def _claims(found: list[Comparison]) -> list[Figure]:
    figures = []
    for comparison in found:
        setting, loop, runner = comparison.setting, comparison.loop, comparison.runner
        what = "10 times" if setting.nodes == min(SIMULATED_SIZES) else ""
        figures += [
            Figure(f"{setting}: gap, loop / runner", loop.gap_s / runner.gap_s, "times", what),
            Figure(
                f"{setting}: wall less slowest pull, loop / runner",
                loop.overhead_s / runner.overhead_s,
                "times",
                what,
            ),
            Figure(
                f"{setting}: wall less slowest pod, loop / runner",
                loop.added_s / runner.added_s,
                "times",
                what,
            ),
        ]
        if setting.nodes != max(SIMULATED_SIZES):
            continue
        if setting.rate_limits:
            share = runner.added_s / loop.added_s
            figures.append(Figure(f"{setting}: added, runner / loop", share, "of it", "0.2"))
        else:
            figures += [
                Figure(f"{setting}: largest gap", runner.gap_s, "s", "at most 0.3 s"),
                Figure(
                    f"{setting}: release to last pod bound",
                    comparison.last_bound_s,
                    "s",
                    "at most 1.2 s",
                ),
            ]
    return figures
