"""Whether a simulated node's disk has room: image collection, eviction, the DiskPressure condition.

Follows the kubelet's eviction manager and image garbage collector with their defaults. What images
there are is rehearsal.simulated_nodes.images's; what an evicted pod does is
rehearsal.simulated_nodes.kubelet's.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rehearsal.simulated_nodes import messages
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.events import timestamp
from rehearsal.simulated_nodes.images import ImageStore

Object = dict[str, Any]

_MONITOR_S = 10.0
"""evictionMonitoringPeriod."""
_TRANSITION_S = 300.0
"""evictionPressureTransitionPeriod."""
_COLLECT_S = 300.0
"""ImageGCPeriod."""
_BALLAST_SHARE = 0.97
"""Of the disk that is used once a fault has filled it."""


@dataclass(frozen=True, slots=True)
class DiskHands:
    """What the disk's minder may do on its node.

    Attributes:
        record: an event about the node, of this instant.
        patch_status: changes the node's status.
        tell_images: lets the node's status tell of its images, soon.
        in_use: references of the images that containers run from.
        evict: ends the pod that came last, of this instant; False where there is none.
        spawn: runs something beside.
    """

    record: Callable[[messages.EventText, float], None]
    patch_status: Callable[[Object], Awaitable[None]]
    tell_images: Callable[[], None]
    in_use: Callable[[], list[str]]
    evict: Callable[[float], bool]
    spawn: Callable[[Coroutine[Any, Any, None]], None]


class NodeDisk:
    """Minds the disk of one node, from the first shortage until there is room again."""

    def __init__(
        self, node: str, images: ImageStore, clock: Clock, times: random.Random, hands: DiskHands
    ) -> None:
        self.has_pressure = False
        self.offset = timedelta(0)
        """By which the node's clock is ahead."""
        self._node = node
        self._images = images
        self._clock = clock
        self._times = times
        self._hands = hands
        self._watching: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The node is gone."""
        if self._watching:
            self._watching.cancel()

    def fill(self) -> None:
        """Something else fills the disk nearly whole."""
        used = self._images.capacity - self._images.available
        self._images.ballast += max(0, int(_BALLAST_SHARE * self._images.capacity) - used)
        self._watch()

    def look(self) -> None:
        """More is on the disk than was."""
        if self._images.is_pressed or self._images.excess():
            self._watch()

    async def tell_pressure(self, at: float) -> None:
        """Write the condition into the node's status."""
        stamp = timestamp(self._clock.at(at) + self.offset)
        has, has_not = "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"
        condition = {
            "type": "DiskPressure",
            "status": "True" if self.has_pressure else "False",
            "reason": has if self.has_pressure else has_not,
            "message": f"kubelet has {'' if self.has_pressure else 'no '}disk pressure",
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
        }
        await self._hands.patch_status({"conditions": [condition]})

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._mind())

    async def _mind(self) -> None:
        """Collect images and evict pods until the disk has room again."""
        relieved = -1.0
        collect_at = self._clock.now() + self._times.uniform(0, _COLLECT_S)
        while True:
            at = self._clock.now() + _MONITOR_S
            await self._clock.until(at)
            if self._images.is_pressed:
                relieved = -1.0
                self._relieve(at)
            elif self.has_pressure and relieved < 0:
                relieved = at
            elif self.has_pressure and at - relieved >= _TRANSITION_S:
                self._set_pressure(at, pressed=False)
            if at >= collect_at:
                collect_at = at + _COLLECT_S
                self._collect(at, self._images.excess())
            if not (self.has_pressure or self._images.excess()):
                return

    def _relieve(self, at: float) -> None:
        """One round of the eviction manager."""
        if not self.has_pressure:
            self._set_pressure(at, pressed=True)
        self._hands.record(messages.RECLAIMING, at)
        self._images.collect(at, self._hands.in_use(), self._images.capacity)
        if self._images.is_pressed and self._hands.evict(at):
            self._images.ballast = 0  # whatever a fault had put there is cleared away

    def _collect(self, at: float, wanted: int) -> None:
        if not wanted:
            return
        freed = self._images.collect(at, self._hands.in_use(), wanted)
        if freed < wanted:
            self._hands.record(messages.collection_failed(wanted, freed), at)
        self._hands.tell_images()

    def _set_pressure(self, at: float, *, pressed: bool) -> None:
        self.has_pressure = pressed
        word = "NodeHasDiskPressure" if pressed else "NodeHasNoDiskPressure"
        self._hands.record(messages.node_status(self._node, word), at)
        self._hands.spawn(self.tell_pressure(at))
