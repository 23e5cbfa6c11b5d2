"""The images on a simulated node, the disk that they take, and what happens when a fault fills it.

A layer is on the node once, by its diff id, whatever images have it; on disk are its compressed
bytes (containerd keeps them) and the unpacked ones. Unlike on a real node, images are never
removed to make room, and only a fault causes disk pressure and an eviction: a study whose images
do not fit sees its pulls fail with `no space left on device`.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from rehearsal.cluster.kubernetes import Object
from rehearsal.simulated_nodes import messages
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.events import timestamp

SYSTEM_BYTES = 5_500_000_000
"""What a fresh node's disk holds: of 101 GB, the study's recorded nodes had 95 to 96 free."""
EVICTION_SHARE = 0.10
"""nodefs.available below which GKE's nodes evict pods."""
_FULL_SHARE = 0.97
"""Of the disk that is used once a fault has filled it."""
_MONITOR_S = 10.0
"""evictionMonitoringPeriod."""
_TRANSITION_S = 300.0
"""evictionPressureTransitionPeriod."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer of an image."""

    diff_id: str
    compressed: int
    """Bytes that are downloaded."""
    unpacked: int
    """Bytes that are written."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as a registry describes it."""

    name: str
    """`repository@digest`."""
    size: int
    """Bytes that the kubelet reports: manifest, config and layers, compressed."""
    layers: tuple[StoredLayer, ...]
    """Lowest first."""


@dataclass(slots=True)
class ImageStore:
    """The images of one node; pure, in bytes."""

    capacity: int
    """Of the disk."""
    ballast: int = 0
    """What a fault has written to it."""
    _images: dict[str, StoredImage] = field(default_factory=dict)
    _references: dict[str, str] = field(default_factory=dict)
    """Name of the image, by reference."""

    @property
    def layers(self) -> dict[str, StoredLayer]:
        return {layer.diff_id: layer for image in self._images.values() for layer in image.layers}

    @property
    def image_bytes(self) -> int:
        return sum(layer.compressed + layer.unpacked for layer in self.layers.values())

    @property
    def available(self) -> int:
        return max(0, self.capacity - SYSTEM_BYTES - self.ballast - self.image_bytes)

    @property
    def eviction_threshold(self) -> int:
        """Free bytes below which pods are evicted."""
        return int(self.capacity * EVICTION_SHARE)

    def fill(self) -> None:
        used = self.capacity - self.available
        self.ballast += max(1, int(_FULL_SHARE * self.capacity) - used)

    def missing(self, image: StoredImage) -> list[StoredLayer]:
        there = self.layers
        return [layer for layer in image.layers if layer.diff_id not in there]

    def fits(self, layers: Iterable[StoredLayer]) -> bool:
        return sum(layer.compressed + layer.unpacked for layer in layers) <= self.available

    def add(self, reference: str, image: StoredImage) -> None:
        """Add an image that has been pulled under a reference."""
        self._images[image.name] = image
        self._references[reference] = image.name

    def find(self, reference: str) -> StoredImage | None:
        """Return the image that is there under a reference; None if it is not."""
        name = self._references.get(reference)
        return self._images[name] if name else None

    def remove(self, reference: str) -> list[int]:
        """Remove an image; return the indexes of its layers that stay as other images have them."""
        image = self.find(reference)
        if image is None:
            return []
        del self._images[image.name]
        self._references = {k: name for k, name in self._references.items() if name != image.name}
        there = self.layers
        return [index for index, layer in enumerate(image.layers) if layer.diff_id in there]

    def largest(self, most: int = 50) -> list[dict[str, object]]:
        """Return the images of the node's status, largest first, at most `most`."""
        names: dict[str, list[str]] = {name: [name] for name in self._images}
        for reference, name in sorted(self._references.items()):
            names[name].append(reference)
        images = sorted(self._images.values(), key=lambda image: -image.size)[:most]
        return [{"names": names[image.name], "sizeBytes": image.size} for image in images]


@dataclass(frozen=True, slots=True)
class NodeActions:
    """Callbacks of the disk pressure on its node."""

    record: Callable[[messages.EventText, float], None]
    """Records an event about the node."""
    patch_status: Callable[[Object], Awaitable[None]]
    evict: Callable[[float], None]
    """Ends the newest pod, if there is any."""


class DiskPressure:
    """One node's DiskPressure condition, from the moment that a fault has filled its disk."""

    def __init__(self, node: str, images: ImageStore, clock: Clock, actions: NodeActions) -> None:
        self.active = False
        self._node = node
        self._images = images
        self._clock = clock
        self._actions = actions

    async def run(self) -> None:
        """Go through one round of the eviction manager: pressure, an eviction, relief.

        Pods that are bound to the node meanwhile are rejected.
        """
        at = await self._wait(_MONITOR_S)
        await self._set(at, active=True)
        self._actions.record(messages.RECLAIMING, at)
        self._actions.evict(at)
        self._images.ballast = 0
        await self._set(await self._wait(_TRANSITION_S), active=False)

    async def patch_condition(self, at: float) -> None:
        """Write the condition to the node's status."""
        stamp = timestamp(self._clock.at(at))
        condition = {
            "type": "DiskPressure",
            "status": "True" if self.active else "False",
            "reason": f"KubeletHas{'' if self.active else 'No'}DiskPressure",
            "message": f"kubelet has {'' if self.active else 'no '}disk pressure",
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
        }
        await self._actions.patch_status({"conditions": [condition]})

    async def _wait(self, seconds: float) -> float:
        at = self._clock.now() + seconds
        await self._clock.until(at)
        return at

    async def _set(self, at: float, *, active: bool) -> None:
        self.active = active
        status = f"NodeHas{'' if active else 'No'}DiskPressure"
        self._actions.record(messages.node_status(self._node, status), at)
        await self.patch_condition(at)
