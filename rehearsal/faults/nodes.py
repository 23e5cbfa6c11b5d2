"""Faults of simulated nodes, which their process asks for pull by pull and node by node.

It says only what is to happen; the simulated kubelet does it, in a kubelet's and containerd's own
words. A pull's faults are drawn once and stay the same for all its attempts. Nodes are deleted and
replaced by rehearsal.faults.cluster.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rehearsal.faults.faults import Fault, Faults, injected_file
from rehearsal.faults.registry import VIEW, failure


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull that a node is about to do for a pod."""

    trial: int
    """Of the pod's label; 0 for a pod of no trial."""
    node: str
    pod: str
    uid: str
    image: str

    @property
    def is_view(self) -> bool:
        """Whether it is of an image of Flux, which no fault of a trial's pull concerns."""
        return VIEW in self.image


class PullFaults:
    """The faults of one process of simulated nodes. Not thread-safe."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._drawn: dict[tuple[str, str, str], Fault | None] = {}
        self._silent: dict[str, tuple[float, float]] = {}

    def presence(self, pull: Pull) -> str:
        """Return how the kubelet reports a cached image, `present` or `disguised`; else ''."""
        self._silence(pull)
        fault = self._draw("cached-image", pull)
        if fault is None:
            return ""
        return "disguised" if fault.number("disguised") else "present"

    def factor(self, pull: Pull) -> float:
        """Return how many times longer the pull takes."""
        fault = self._draw("node-slow", pull)
        return fault.number("factor") if fault else 1.0

    def failure(self, pull: Pull, attempt: int) -> str:
        """Return how this attempt fails, counted from 1: 404, 429 or down; empty if not."""
        if pull.is_view and self._faults.inject("view-missing", node=pull.node):
            return "404"
        return failure(attempt, lambda how: self._draw("pull", pull, how))

    def disk_full(self, pull: Pull) -> bool:
        """Return whether the node's disk fills up during this pull."""
        return self._draw("disk-full", pull) is not None

    def is_silent(self, node: str) -> bool:
        """Return whether the node's kubelet reports nothing now and the node is not Ready."""
        since, until = self._silent.get(node, (0.0, 0.0))
        return since <= self._clock() < until

    def clock_ahead(self, node: str) -> timedelta:
        """Return by how much the node's clock is ahead."""
        fault = self._faults.inject("node-clock", node=node)
        return timedelta(minutes=fault.number("minutes") if fault else 0.0)

    def _silence(self, pull: Pull) -> None:
        fault = self._draw("node-not-ready", pull)
        if fault and pull.node not in self._silent:
            since = self._clock() + fault.number("after")
            self._silent[pull.node] = (since, since + fault.number("s"))

    def _draw(self, name: str, pull: Pull, how: str = "") -> Fault | None:
        if pull.is_view or not self._faults.of(name, how=how):
            return None
        key = (name, how, pull.uid)
        if key not in self._drawn:
            self._drawn[key] = self._faults.inject(
                name, how=how, trial=pull.trial, node=pull.node, pod=pull.pod, uid=pull.uid
            )
        return self._drawn[key]


def pull_faults(texts: Sequence[str], home: Path) -> PullFaults:
    """Return the faults of a process of simulated nodes, recorded beside the rehearsal's folder."""
    return PullFaults(Faults.read(texts, injected_file(home)))
