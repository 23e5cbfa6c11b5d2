"""How long a pull takes on a simulated node: a stated model, pure, in the node's own seconds.

Layers are downloaded three at once and unpacked one after another, each once it is there (or
several at once, where the stack has `parallelUnpacks`, which nothing that was recorded shows):

- a download has what is least of three connections, the NIC, and an equal share of the registry's
  rate, which all nodes have in common (`SharedRegistry`);
- unpacking runs at a rate per core until the page cache is full, then at the rate of the disk;
- what is in the page cache then is written before the container's end is reported (`settle_s`), as
  the original study's Jobs show: their containers slept for a second, and ended 10 to 40 s later;
- a pull that streams is over when the manifest is there;
- a pod that reads its image's files does so at one rate: from memory after a pull, over the network
  of a streamed image, from the disk of a preloaded one;
- each layer costs a round trip and a moment of unpacking, and all of it has a little noise.

Parameters and their sources are in pull_model.yaml; docs/rehearsal.md says how well they fit. It
does not model other disks than the recorded one, or several pulls on one disk.
"""

import heapq
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schema.names import READ_NAME

_READING_WORDS = 5
"""sh, -c, the script, its name, the shares; the study's command follows."""

PARAMETERS = Path(__file__).with_name("pull_model.yaml")


def _value(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    if not entry.get("source"):
        raise ValueError("an entry without a source")
    return entry["value"]


Sourced = Annotated[float, BeforeValidator(_value), Field(gt=0)]


class DiskClass(BaseModel):
    """How the disks of a share of the nodes behave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(gt=0, le=1)
    write_bytes_per_s: float = Field(gt=0)
    """Of unpacking once the page cache is full."""
    settle_bytes: float = Field(gt=0)
    """Most that is still to be written when a pull has ended."""


class Parameters(BaseModel):
    """pull_model.yaml, which says what each is and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    resolve_s: Sourced
    layer_latency_s: Sourced
    downloads_at_once: Annotated[int, BeforeValidator(_value), Field(ge=1)]
    connection_bytes_per_s: Sourced
    nic_bytes_per_s: Sourced
    registry_bytes_per_s: Sourced
    unpack_bytes_per_s: Sourced
    layer_unpack_s: Sourced
    noise: Sourced
    page_cache_bytes: Sourced
    drain_bytes_per_s: Sourced
    sandbox_s: Sourced
    create_s: Sourced
    start_s: Sourced
    busy_factor: Sourced
    sandbox_end_s: Sourced
    read_memory_bytes_per_s: Sourced
    read_disk_bytes_per_s: Sourced
    read_streamed_bytes_per_s: Sourced
    init_s: Sourced
    disks: Annotated[tuple[DiskClass, ...], BeforeValidator(_value), Field(min_length=1)]

    def disk_of(self, node: str) -> DiskClass:
        """Return the class of a node's disk, deterministic by its name."""
        drawn = random.Random(f"{self.seed}/{node}").random()  # noqa: S311 - no secret
        for disk in self.disks:
            drawn -= disk.share
            if drawn < 0:
                return disk
        return self.disks[-1]

    def noise_factor(self, *what: object) -> float:
        """Log-normal factor about 1, deterministic for the named pull (node, image, attempt)."""
        name = "/".join(map(str, (self.seed, *what)))
        return random.Random(name).lognormvariate(0, self.noise)  # noqa: S311 - no secret


def load_parameters(path: Path = PARAMETERS) -> Parameters:
    return Parameters.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer that is not on the node yet: bytes that are downloaded, and that are written."""

    compressed: int
    unpacked: int


@dataclass(frozen=True, slots=True)
class PullTime:
    """What a pull takes."""

    pull_s: float
    """From its start to its end, as the kubelet reports it."""
    settle_s: float
    """From then until the disk has written what it must before a container's end is reported."""


def download_cap(parameters: Parameters, layers: Sequence[LayerSize]) -> float:
    """Return the bytes per second that a node's own limits allow a pull of these layers."""
    connections = min(parameters.downloads_at_once, max(len(layers), 1))
    return min(parameters.nic_bytes_per_s, connections * parameters.connection_bytes_per_s)


def pull_time(
    parameters: Parameters,
    disk: DiskClass,
    layers: Sequence[LayerSize],
    *,
    download_s: float,
    noise: float = 1.0,
    unpacks: int = 1,
) -> PullTime:
    """Return what a pull takes on an idle node whose downloads took this many seconds.

    A node that unpacks several layers at once is an assumption: each unpacks as fast as alone,
    until the disk is the limit.
    """
    at_once = max(1, min(unpacks, len(layers)))
    unpack_rate = at_once * parameters.unpack_bytes_per_s
    total = sum(layer.compressed for layer in layers) or 1
    arrived = done = 0.0
    written = 0.0
    travelled = 0
    for number, layer in enumerate(layers, start=1):
        travelled += layer.compressed
        latency = number * parameters.layer_latency_s / parameters.downloads_at_once
        arrived = download_s * travelled / total + latency
        done = max(arrived, done) + parameters.layer_unpack_s / at_once
        cached = min(layer.unpacked, max(0.0, parameters.page_cache_bytes - written))
        done += cached / unpack_rate
        slowest = min(disk.write_bytes_per_s, unpack_rate)
        done += (layer.unpacked - cached) / slowest
        written += layer.unpacked
    settle = min(written, disk.settle_bytes) / parameters.drain_bytes_per_s
    return PullTime(noise * (parameters.resolve_s + done), noise * settle)


@dataclass(frozen=True, slots=True)
class ImageRead:
    """What a pod does that reads its image's files."""

    message: str = ""
    """Its termination message; empty for a pod that reads nothing."""
    seconds: float = 0.0


def image_read(
    command: Sequence[str],
    size: int,
    rate: float,
) -> ImageRead:
    """Return what a command of experiment.measure.on_nodes.image_reading reads of an image.

    Args:
        command: of the pod's container.
        size: bytes of the image's files.
        rate: bytes per second.
    """
    if len(command) < _READING_WORDS or command[3] != READ_NAME:
        return ImageRead()
    shares = [int(share) for share in command[4].split()]
    reads = [(share, size * share // 100, round(size * share / 100 / rate, 2)) for share in shares]
    message = json.dumps({"bytes": size, "list_s": 0.0, "reads": reads})
    return ImageRead(message, reads[-1][2] if reads else 0.0)


def run_s(command: list[str]) -> float:
    """Return how long a command that ends with `sleep N` runs; all else ends at once."""
    match command:
        case [*_, program, seconds] if program.endswith("sleep"):
            with suppress(ValueError):
                return float(seconds)
    return 0.0


class SharedRegistry:
    """The registry's rate, shared equally by the downloads under way; in any one unit of time.

    Each has the lower of its own cap and its share. Downloads of one cap progress alike, so one
    sum a cap is the progress of each of them, and a heap has the next to end.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._now = 0.0
        self._done: dict[float, float] = {}
        self._ends: dict[float, list[tuple[float, int]]] = {}
        self._number = 0

    def join(self, now: float, cap: float, size: float) -> int:
        """Start a download of `size` bytes, at most `cap` a second; return its number."""
        self._advance(now)
        self._number += 1
        heap = self._ends.setdefault(cap, [])
        heapq.heappush(heap, (self._done.setdefault(cap, 0.0) + size, self._number))
        return self._number

    def next_end(self) -> float | None:
        """Return when the next download ends unless others join; None without any."""
        ends = (self._end(cap, heap[0][0]) for cap, heap in self._ends.items() if heap)
        return min(ends, default=None)

    def ended(self, now: float) -> list[int]:
        """Remove the downloads that have ended, and return their numbers."""
        found: list[int] = []
        while (end := self.next_end()) is not None and end <= now:
            self._advance(end)
            for cap, heap in self._ends.items():
                # also when the rest is too short for a later float than now
                while heap and (
                    heap[0][0] <= self._done[cap] * (1 + 1e-12) + 1e-6
                    or self._end(cap, heap[0][0]) <= self._now
                ):
                    found.append(heapq.heappop(heap)[1])
        self._advance(now)
        return found

    def _end(self, cap: float, size: float) -> float:
        """Return when the downloads of a cap have made this progress."""
        return self._now + max(0.0, size - self._done[cap]) / self._speed(cap)

    def _speed(self, cap: float) -> float:
        count = sum(map(len, self._ends.values()))
        return min(cap, self._rate / max(count, 1))

    def _advance(self, now: float) -> None:
        passed = max(0.0, now - self._now)
        for cap in self._ends:
            self._done[cap] += self._speed(cap) * passed
        self._now = max(self._now, now)
