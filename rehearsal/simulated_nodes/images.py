"""The images on a simulated node and the disk that they take. Pure, in bytes and node seconds.

A layer is on the node once, by its diff id, whatever images have it; on disk are its compressed
bytes (containerd keeps them) and the unpacked ones. Limits are those of kubelet's defaults and of
GKE: collection of images at 85 % of the disk down to 80 %, pressure and evictions below 10 % free.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SYSTEM_BYTES = 5_500_000_000
"""What a fresh node's disk holds: of 101 GB, the study's recorded nodes had 95 to 96 free."""
HIGH, LOW = 0.85, 0.80
"""imageGCHighThresholdPercent, imageGCLowThresholdPercent."""
MIN_AGE_S = 120.0
"""imageMinimumGCAge."""
EVICTION_SHARE = 0.10
"""nodefs.available below which GKE's nodes evict pods."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer of an image.

    Attributes:
        diff_id: tells layers apart on a node.
        compressed: bytes that travel.
        unpacked: bytes that are written.
    """

    diff_id: str
    compressed: int
    unpacked: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as a registry tells it.

    Attributes:
        name: `repository@digest`.
        size: bytes that the kubelet tells: manifest, config and layers, compressed.
        layers: lowest first.
    """

    name: str
    size: int
    layers: tuple[StoredLayer, ...]


@dataclass(slots=True)
class _Held:
    image: StoredImage
    references: set[str]
    since: float
    used_at: float


@dataclass(slots=True)
class ImageStore:
    """The images of one node.

    Attributes:
        capacity: bytes of the disk.
        ballast: bytes that something else has put there.
    """

    capacity: int
    ballast: int = 0
    _held: dict[str, _Held] = field(default_factory=dict)

    @property
    def layers(self) -> dict[str, StoredLayer]:
        """All layers that are there, by diff id."""
        return {each.diff_id: each for held in self._held.values() for each in held.image.layers}

    @property
    def image_bytes(self) -> int:
        """Disk that images take."""
        return sum(layer.compressed + layer.unpacked for layer in self.layers.values())

    @property
    def available(self) -> int:
        """Disk that is free."""
        return max(0, self.capacity - SYSTEM_BYTES - self.ballast - self.image_bytes)

    @property
    def eviction_threshold(self) -> int:
        """Free bytes below which pods are evicted."""
        return int(self.capacity * EVICTION_SHARE)

    @property
    def is_pressed(self) -> bool:
        """Whether so little disk is free that pods are evicted."""
        return self.available < self.eviction_threshold

    def has(self, reference: str) -> bool:
        """Whether an image is there under this reference."""
        return any(reference in held.references for held in self._held.values())

    def missing(self, image: StoredImage) -> list[StoredLayer]:
        """The image's layers that are not there."""
        there = self.layers
        return [layer for layer in image.layers if layer.diff_id not in there]

    def fits(self, layers: Iterable[StoredLayer]) -> bool:
        """Whether the disk has room for more layers."""
        return sum(layer.compressed + layer.unpacked for layer in layers) <= self.available

    def add(self, reference: str, image: StoredImage, now: float) -> None:
        """An image has been pulled under a reference."""
        held = self._held.setdefault(image.name, _Held(image, set(), now, now))
        held.references.add(reference)
        held.used_at = now

    def use(self, reference: str, now: float) -> StoredImage | None:
        """A container runs an image that is there; None if it is not."""
        for held in self._held.values():
            if reference in held.references:
                held.used_at = now
                return held.image
        return None

    def remove(self, reference: str) -> list[int]:
        """Remove an image; the indexes of its layers that are still there as others have them."""
        name = next((n for n, held in self._held.items() if reference in held.references), None)
        if name is None:
            return []
        image = self._held.pop(name).image
        there = self.layers
        return [index for index, layer in enumerate(image.layers) if layer.diff_id in there]

    def newest(self, most: int = 50) -> list[dict[str, object]]:
        """What the node's status tells of its images, largest first, at most so many."""
        images = sorted(self._held.values(), key=lambda held: -held.image.size)[:most]
        return [
            {"names": [held.image.name, *sorted(held.references)], "sizeBytes": held.image.size}
            for held in images
        ]

    def collect(self, now: float, in_use: Sequence[str], wanted: int) -> int:
        """Remove images that no container runs, those first that were used longest ago."""
        before = self.image_bytes
        for name, held in sorted(self._held.items(), key=lambda each: each[1].used_at):
            freed = before - self.image_bytes
            if freed >= wanted:
                break
            if held.references.isdisjoint(in_use) and now - held.since >= MIN_AGE_S:
                del self._held[name]
        return before - self.image_bytes

    def excess(self) -> int:
        """Bytes to free so that 80 % are used, once 85 % are; else 0."""
        used = self.capacity - self.available
        return int(used - LOW * self.capacity) if used >= HIGH * self.capacity else 0
