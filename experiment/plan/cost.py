"""Time and cost of a run: estimated with a range before it starts, and limited by --budget-usd.

One sum for `plan`, the question before a run and the budget: the cluster by the hour, and what
private nodes pull through Cloud NAT by the byte.

The rates are from the original study's events (container-chonks, experiments/pulling, run1 at 4, 8
and 16 nodes of n1-standard-16 with 100 GB pd-balanced; experiments/pulling-test for layers), whose
nodes were limited by unpacking to disk; they are not known for other machines and disks.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from experiment.errors import BudgetError, PlanError
from experiment.plan.trial_order import unpacked_bytes
from experiment.provision.cluster import Cluster
from experiment.provision.stack_cluster import StackCluster
from schema.run_records import Phase, PhaseRecord, PlannedTrial

SOURCE = (
    "events of the original study (run1 at 4, 8 and 16 nodes, n1-standard-16, 100 GB pd-balanced): "
    "slowest pull of a trial 5.7, 7.3 or 8.6 s per GB unpacked; highest: whole trials with the "
    "job loop, and the growth of its totals up to 256 nodes"
)

Range = tuple[float, float, float]
"""Lowest, expected, highest."""

_S_PER_GB: Range = (5.7, 7.3, 8.6)
"""Slowest pull of a trial per GB unpacked: minimum, regression, maximum of 18 trials of run1."""
_S_PER_LAYER = 0.04
"""From pulling-test: pull times regressed on size and 1 to 125 layers (0.040 and 0.043)."""
_S_PER_TURN: Range = (1.5, 6.0, 20.0)
"""Besides the pull. Lowest: the container's start and its second of sleep; highest: maximum of the
original's trials from first Scheduled to Job complete, minus 8.6 s per GB (16 nodes)."""
_INIT_S: Range = (9.0, 19.5, 24.3)
"""From a MiniCluster's first container to its pull: Flux is copied to the node's disk. Expected,
highest: the original study's streaming experiment, 4 to 64 nodes; lowest: an operator since
October 2025, which no longer sleeps for 10 s there."""
_READ_S_PER_GB: Range = (0.3, 2.0, 6.0)
"""Reading an image's files, assumed: all from memory; most of them; all from the disk, as fast as
the original's disks wrote (about 170 MB/s)."""
_GROWTH_S = ((16, 0.0), (32, 0.5), (64, 3.3), (128, 14.0), (256, 38.8), (1024, 160.0))
"""Seconds by which the original's time per image exceeded that at 16 nodes (its README's totals
over 38 images); extrapolated beyond 256 nodes."""
_BINDINGS_PER_S = 50
"""kube-scheduler's default --kube-api-qps; the pods exist already, so nothing else waits."""
_UP_AND_DOWN_S: Range = (480.0, 720.0, 1500.0)
"""Cluster up, ready, and down again: assumed, not measured."""


_GOOGLES_REGISTRIES = ("-docker.pkg.dev", "gcr.io")
"""Private nodes reach these by Private Google Access, which Cloud NAT switches on and leaves alone
(https://cloud.google.com/nat/docs/nat-product-interactions)."""
_LEAST_DEADLINE_HOURS, _MOST_DEADLINE_HOURS = 2, 12


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected time and cost of a run, from cluster up to cluster down."""

    trial_s: tuple[Range, ...]
    """Of each trial, in order."""
    hours: Range
    traffic_usd: float
    """Part of `usd`: Cloud NAT by the byte."""
    usd: Range

    @property
    def deadline_hours(self) -> int:
        """After which the cluster is deleted whatever happens: twice the highest, 2 to 12."""
        hours = math.ceil(2 * self.hours[2])
        return min(max(hours, _LEAST_DEADLINE_HOURS), _MOST_DEADLINE_HOURS)


def trial_range(planned: PlannedTrial, nodes: int) -> Range:
    """Return the seconds from release to the next trial's release: lowest, expected, highest."""
    share = 1 - planned.warm_bytes / max(planned.image.compressed_bytes, 1)
    gb = unpacked_bytes(planned.image) * share / 1e9
    layers_s = _S_PER_LAYER * len(planned.image.layers)
    waits = (0.0, nodes / _BINDINGS_PER_S, _growth_s(nodes))
    inits = _INIT_S if planned.view else (0.0, 0.0, 0.0)
    read_gb = unpacked_bytes(planned.image) * planned.read_share / 1e9
    low, expected, high = (
        turn + init + rate * gb + layers_s + reading * read_gb + wait
        for turn, init, rate, reading, wait in zip(
            _S_PER_TURN, inits, _S_PER_GB, _READ_S_PER_GB, waits, strict=True
        )
    )
    return low, expected, high


def expected_trial_s(planned: PlannedTrial) -> float:
    """Return the expected seconds of a trial on a small cluster."""
    return trial_range(planned, 1)[1]


def traffic_usd(trials: Iterable[PlannedTrial], cluster: Cluster) -> float:
    """Return what the pulls of some trials cost by the byte."""
    return (
        cluster.node_count
        * cluster.usd_per_byte
        * sum(
            trial.image.compressed_bytes - trial.warm_bytes
            for trial in trials
            if not is_googles(trial.image.repository)
        )
    )


def is_googles(repository: str) -> bool:
    """Return whether a repository is in Artifact Registry or Container Registry."""
    return repository.partition("/")[0].endswith(_GOOGLES_REGISTRIES)


def run_estimate(trials: Sequence[PlannedTrial], cluster: Cluster) -> Estimate:
    """Return a whole run's hours and USD at list prices."""
    each = tuple(trial_range(trial, cluster.node_count) for trial in trials)
    low, expected, high = (
        (base + sum(trial[at] for trial in each)) / 3600 for at, base in enumerate(_UP_AND_DOWN_S)
    )
    traffic, rate = traffic_usd(trials, cluster), cluster.usd_per_hour
    usd = (low * rate + traffic, expected * rate + traffic, high * rate + traffic)
    return Estimate(each, (low, expected, high), traffic, usd)


def own_deadline(cluster: Cluster, trials: Sequence[PlannedTrial]) -> int | None:
    """Return the hours after which a run's cluster is deleted; None if the run does not decide."""
    if not isinstance(cluster, StackCluster) or cluster.facts.deadline_chosen:
        return None
    return run_estimate(trials, cluster).deadline_hours


def deadline(cluster: Cluster, trials: Sequence[PlannedTrial]) -> str:
    """Return when a run's cluster is deleted, such as `after 4 hours`; empty for never."""
    hours = own_deadline(cluster, trials)
    if hours is not None:
        return f"after {hours} hours"
    return cluster.facts.deadline if isinstance(cluster, StackCluster) else ""


def teardown_s() -> float:
    """Return the seconds that a cluster costs money after measuring: half of up and down."""
    return _UP_AND_DOWN_S[1] / 2


def _growth_s(nodes: int) -> float:
    if nodes <= _GROWTH_S[0][0]:
        return 0.0
    for (fewer, below), (more, above) in pairwise(_GROWTH_S):
        if nodes <= more:
            return below + (above - below) * (nodes - fewer) / (more - fewer)
    return _GROWTH_S[-1][1]


class Budget:
    """Refuses trials that would exceed --budget-usd.

    It counts the time since provisioning started and the pulls, in every attempt, at list prices;
    between two attempts also the time in which a cluster was up that the first one left.

    Args:
        limit_usd: None for no limit.
        cluster: gives prices and the number of nodes.
        phases: returns all finished phases of the run, of every attempt.
        pulled: trials of earlier attempts.
        now: the runner's clock.

    Raises:
        PlanError: there is a limit and no price.
    """

    def __init__(
        self,
        limit_usd: float | None,
        cluster: Cluster,
        phases: Callable[[], Sequence[PhaseRecord]],
        *,
        pulled: Iterable[PlannedTrial] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if limit_usd is not None and not cluster.usd_per_hour:
            raise PlanError(
                "The price of this cluster is not known, so a budget cannot be applied.",
                "leave --budget-usd out",
            )
        self._limit = limit_usd
        self._cluster = cluster
        self._usd_per_s = cluster.usd_per_hour / 3600
        self._traffic_usd = traffic_usd(pulled, cluster)
        self._phases = phases
        self._now = now
        self._earlier_s: float | None = None
        self._since = now()

    def may_begin(self, planned: PlannedTrial) -> None:
        """Refuse a trial that would cost more than is left.

        Raises:
            BudgetError: the trial and the teardown would exceed the budget.
        """
        if self._limit is None:
            return
        if self._earlier_s is None:
            self._look_back()
        running_s = (self._earlier_s or 0.0) + (self._now() - self._since).total_seconds()
        spent = self._traffic_usd + self._usd_per_s * running_s
        traffic = traffic_usd([planned], self._cluster)
        then = spent + traffic + self._usd_per_s * (expected_trial_s(planned) + teardown_s())
        if then > self._limit:
            raise BudgetError(
                f"Trial {planned.trial} was not started: the cluster has cost {spent:.2f} USD so "
                f"far; with this trial and the teardown it would be {then:.2f}, above the budget "
                f"of {self._limit:.2f}."
            )
        self._traffic_usd += traffic

    def _look_back(self) -> None:
        """Read once how long earlier attempts took and when this one started to cost."""
        spans: list[tuple[datetime, datetime]] = []
        unrecorded_s = 0.0
        for record in self._phases():
            if record.cluster_since and record.cluster_until:
                unrecorded_s += (record.cluster_until - record.cluster_since).total_seconds()
            if record.phase is Phase.PROVISION:
                spans.append((record.started_at, record.ended_at))
            elif record.phase is not Phase.PREFLIGHT and spans:
                spans[-1] = (spans[-1][0], record.ended_at)
        if spans:
            self._since = spans.pop()[0]
        self._earlier_s = sum(((end - begin).total_seconds() for begin, end in spans), unrecorded_s)


def unrecorded_time(
    phases: Iterable[PhaseRecord],
    cluster: Cluster,
    now: datetime,
    *,
    expires_at: datetime | None = None,
    deadline_hours: int | None = None,
) -> tuple[datetime, datetime] | None:
    """Return the time in which a cluster of earlier attempts cost money and no phase says so.

    It starts with the last record of an attempt that was killed or kept its cluster. If the cluster
    is gone since an unknown time, it counts until now, but not beyond its deadline.

    Args:
        phases: of all earlier attempts.
        cluster: as it was found.
        now: the end of the preflight that found it.
        expires_at: its deadline, if the last attempt learnt it.
        deadline_hours: the run's own deadline, counted from provisioning.
    """
    last: datetime | None = None
    for record in phases:
        if record.phase is Phase.TEARDOWN and record.error is None:
            last = None
        elif record.phase is not Phase.PREFLIGHT or record.error is None or record.cluster_until:
            last = record.ended_at
    if last is None:
        return None
    if cluster.created_at:
        return min(max(last, cluster.created_at), now), now
    if expires_at is None and deadline_hours is not None:
        expires_at = last + timedelta(hours=deadline_hours)
    return last, max(last, min(now, expires_at or now))
