"""Faults that simulated nodes suffer: asked for by their emitter, pull by pull and node by node.

It only says what is to happen; the emitter does it, in a kubelet's and containerd's own words. A
pull's faults are drawn once, at the first question, and stay the same for all its tries. Deleting
and replacing nodes is done from outside (rehearsal.faults.cluster).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rehearsal.faults.faults import Fault, Faults, injected_file


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull that a node is about to do for a pod."""

    trial: int
    """Of the pod's label; 0 for a pod of no trial."""
    node: str
    pod: str
    uid: str
    image: str


class PullFaults:
    """What strikes the pulls and nodes of one emitter; of one thread alone.

    Args:
        faults: that were asked for.
        clock: seconds, for how long a node is silent.
    """

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._drawn: dict[tuple[str, str], Fault | None] = {}
        self._silent: dict[str, tuple[float, float]] = {}

    def presence(self, pull: Pull) -> str:
        """'' or how an image that is there already is told: `present`, or `disguised` as a pull."""
        self._fall_silent(pull)
        fault = self._draw("cached-image", pull)
        if fault is None:
            return ""
        return "disguised" if fault.number("disguised") else "present"

    def factor(self, pull: Pull) -> float:
        """How many times longer the pull takes."""
        fault = self._draw("node-slow", pull)
        return fault.number("factor") if fault else 1.0

    def error(self, pull: Pull, attempt: int) -> str:
        """'' or the container runtime's sentence with which this try fails.

        Args:
            pull: the pull.
            attempt: counts from 1.
        """
        if self._draw("image-missing", pull):
            return _not_found(pull.image)
        for name, sentence in (("registry-throttled", _throttled), ("registry-down", _refused)):
            fault = self._draw(name, pull)
            if fault and (not fault.number("tries") or attempt <= fault.number("tries")):
                return sentence(pull.image)
        return ""

    def disk_full(self, pull: Pull) -> bool:
        """Whether the node's disk fills up during this pull."""
        return self._draw("node-disk-full", pull) is not None

    def clock_offset(self, node: str) -> timedelta:
        """By how much the node's clock is ahead."""
        fault = self._draw("node-clock-off", Pull(0, node, "", "", ""))
        return timedelta(minutes=fault.number("minutes")) if fault else timedelta(0)

    def is_silent(self, node: str) -> bool:
        """Whether the node's kubelet says nothing now and the node is not Ready."""
        since, until = self._silent.get(node, (0.0, 0.0))
        return since <= self._clock() < until

    def _fall_silent(self, pull: Pull) -> None:
        fault = self._draw("node-not-ready", pull)
        if fault and pull.node not in self._silent:
            since = self._clock() + fault.number("after")
            self._silent[pull.node] = (since, since + fault.number("s"))

    def _draw(self, name: str, pull: Pull) -> Fault | None:
        if not self._faults.of(name):
            return None
        key = (name, pull.uid or pull.node)
        if key not in self._drawn:
            self._drawn[key] = self._faults.strike(
                name, trial=pull.trial, node=pull.node, pod=pull.pod, uid=pull.uid
            )
        return self._drawn[key]


def pull_faults(texts: Sequence[str], home: Path) -> PullFaults:
    """What strikes the nodes of an emitter.

    Args:
        texts: as `rehearsal.faults.faults.parse_faults` takes them.
        home: folder of the rehearsal, whose file of strikes is added to.

    Raises:
        FaultError: there is no such fault.
    """
    return PullFaults(Faults.read(texts, injected_file(home)))


def _not_found(image: str) -> str:
    return (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to '
        f'resolve reference "{image}": {image}: not found'
    )


def _throttled(image: str) -> str:
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        "copy: httpReadSeeker: failed open: unexpected status code "
        f"{_url(image, 'blobs')}: 429 Too Many Requests - Server message: toomanyrequests: "
        "You have reached your pull rate limit."
    )


def _refused(image: str) -> str:
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        f'resolve reference "{image}": failed to do request: Head "{_url(image, "manifests")}": '
        "dial tcp 192.0.2.1:443: connect: connection refused"
    )


def _url(image: str, kind: str) -> str:
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    repository = path.rpartition(":")[0] or path
    return f"https://{host}/v2/{repository}/{kind}/{digest or path.rpartition(':')[2]}"
