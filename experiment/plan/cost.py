"""How long a run takes and what it costs, with a range, before anything is made. Pure.

The rates are of the original study's own events (container-chonks, experiments/pulling, run1 at 4,
8 and 16 nodes of n1-standard-16 with 100 GB pd-balanced; experiments/pulling-test for layers),
whose nodes were bound by unpacking to disk: other machines and disks lie outside what is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from experiment.plan.trial_order import unpacked_bytes
from schema.run_records import PlannedTrial

SOURCE = (
    "events of the original study (run1 at 4, 8 and 16 nodes, n1-standard-16, 100 GB pd-balanced): "
    "slowest pull of a trial 5.7, 7.3 or 8.6 s a GB unpacked; highest: its whole turns, job loop "
    "included, with what its totals grew by up to 256 nodes"
)

Range = tuple[float, float, float]
"""Lowest, expected, highest."""

_S_PER_GB: Range = (5.7, 7.3, 8.6)
"""Slowest pull of a trial by GB unpacked: least, regression line, most of 18 trials of run1."""
_S_PER_LAYER = 0.04
"""Of pulling-test: pull times regressed on size and 1 to 125 layers (0.040 and 0.043)."""
_S_PER_TURN: Range = (1.5, 6.0, 20.0)
"""Around a pull. Lowest: the container's second of sleep and its start; highest: the original's
turns from first Scheduled to Job complete, less 8.6 s a GB, were at most this (16 nodes)."""
_GROWTH_S = ((16, 0.0), (32, 0.5), (64, 3.3), (128, 14.0), (256, 38.8), (1024, 160.0))
"""Seconds by which the original's turn of an image grew over that at 16 nodes (its README's totals
over 38 images); beyond 256 nodes in proportion."""
_BINDINGS_PER_S = 50
"""kube-scheduler's default --kube-api-qps; pods exist before their turn, so nothing else waits."""
_UP_AND_DOWN_S: Range = (480.0, 720.0, 1500.0)
"""Cluster up, ready, and down again: an assumption, not a measurement."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to take and cost, cluster up to cluster down."""

    trial_s: tuple[Range, ...]
    """Of each trial, in their order."""
    hours: Range
    usd: Range


def trial_range(planned: PlannedTrial, nodes: int) -> Range:
    """Seconds from release to the next trial's release: lowest, expected, highest."""
    share = 1 - planned.warm_bytes / max(planned.image.compressed_bytes, 1)
    gb = unpacked_bytes(planned.image) * share / 1e9
    layers_s = _S_PER_LAYER * len(planned.image.layers)
    waits = (0.0, nodes / _BINDINGS_PER_S, _growth_s(nodes))
    low, expected, high = (
        turn + rate * gb + layers_s + wait
        for turn, rate, wait in zip(_S_PER_TURN, _S_PER_GB, waits, strict=True)
    )
    return low, expected, high


def expected_trial_s(planned: PlannedTrial) -> float:
    """Seconds that a trial is expected to take on a small cluster."""
    return trial_range(planned, 1)[1]


def run_estimate(trials: Sequence[PlannedTrial], nodes: int, usd_per_hour: float) -> Estimate:
    """A whole run's hours and US dollars at list prices."""
    each = tuple(trial_range(trial, nodes) for trial in trials)
    low, expected, high = (
        (base + sum(trial[at] for trial in each)) / 3600 for at, base in enumerate(_UP_AND_DOWN_S)
    )
    hours = (low, expected, high)
    return Estimate(each, hours, (low * usd_per_hour, expected * usd_per_hour, high * usd_per_hour))


def teardown_s() -> float:
    """Seconds that a cluster still costs money once measuring ends: half of up and down."""
    return _UP_AND_DOWN_S[1] / 2


def _growth_s(nodes: int) -> float:
    if nodes <= _GROWTH_S[0][0]:
        return 0.0
    for (fewer, below), (more, above) in pairwise(_GROWTH_S):
        if nodes <= more:
            return below + (above - below) * (nodes - fewer) / (more - fewer)
    return _GROWTH_S[-1][1]
