"""Pulls of the recorded study, beside what the model of simulated nodes says of them.

    python -m tests.rehearsal.recorded_pulls

prints the table of docs/rehearsal.md.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass

from analysis.read.pull_message import parse_pulled
from rehearsal.simulated_nodes.pull_model import (
    LayerSize,
    Parameters,
    download_cap,
    load_parameters,
    pull_time,
)
from tests.recorded_data import CHONKS

FITTED = ("pulling/run1/4", "pulling/run1/8", "pulling/run1/16")
CHECKED = (
    "pulling-test/test/n1-standard-16",
    "pulling-test/test/n1-standard-64",
    "pulling-test/run1/16",
)
_TAG = re.compile(r"container-chonks[^:]*:(\d+)-layers-size-(\d+)-bytes")


@dataclass(frozen=True)
class Point:
    """An image of a recording: the medians over the nodes that pulled it, in seconds."""

    recording: str
    layers: int
    size: int
    nodes: int
    recorded_s: float
    modelled_s: float

    @property
    def error(self) -> float:
        return self.modelled_s / self.recorded_s - 1


def compressed_sizes() -> dict[tuple[int, int], int]:
    """Compressed bytes of the recorded images, by layers and size of the tag."""
    found = {}
    for path in sorted((CHONKS / "manifests").glob("*.json.gz")):
        for tag, manifest in json.loads(gzip.decompress(path.read_bytes()))["manifests"].items():
            layers, size = map(int, re.findall(r"\d+", tag)[:2])
            found[layers, size] = sum(layer["size"] for layer in manifest["layers"])
    return found


def recorded(name: str) -> dict[tuple[int, int], dict[str, float]]:
    """First pull that did not wait, in seconds, by layers and size, then node."""
    pulls: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    (path,) = (CHONKS / name).glob("events-*")
    for line in gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines():
        if '"reason":"Pulled"' not in line:
            continue
        event = json.loads(line[line.index("{") :])
        tag = _TAG.search(event["message"])
        message = parse_pulled(event["message"]) if tag else None
        if tag and message and message.pull_s and message.pull_s == message.pull_and_wait_s:
            key = (int(tag[1]), int(tag[2]))
            pulls[key].setdefault(event["source"]["host"], message.pull_s)
    return pulls


def modelled(
    parameters: Parameters, layers: int, size: int, compressed: int, nodes: int
) -> list[float]:
    """What pulls of an image take on so many nodes at once, in seconds."""
    each = [LayerSize(compressed // layers, size // layers)] * layers
    rate = min(download_cap(parameters, each), parameters.registry_bytes_per_s / nodes)
    found = []
    for number in range(nodes):
        name = f"node-{number}"
        pull = pull_time(
            parameters,
            parameters.disk_of(name),
            each,
            download_s=compressed / rate,
            noise=parameters.noise_factor(name, layers, size),
        )
        found.append(pull.pull_s)
    return found


def points(name: str, parameters: Parameters) -> list[Point]:
    """The images of a recording that two nodes or more pulled, model beside record.

    The model's median is over many nodes, as which of them has which disk is noise.
    """
    sizes = compressed_sizes()
    return [
        Point(
            name,
            layers,
            size,
            len(nodes),
            statistics.median(nodes.values()),
            statistics.median(modelled(parameters, layers, size, sizes[layers, size], 64)),
        )
        for (layers, size), nodes in sorted(recorded(name).items())
        if len(nodes) > 1
    ]


def main() -> None:
    parameters = load_parameters()
    for name in (*FITTED, *CHECKED):
        found = points(name, parameters)
        for low, high in ((0, 1e9), (1e9, 9e9), (9e9, 1e11)):
            errors = sorted(point.error for point in found if low <= point.size < high)
            if errors:
                print(
                    f"{name:34} {low / 1e9:3.0f}-{high / 1e9:3.0f} GB {len(errors):3} images  "
                    f"median {statistics.median(errors):+6.1%}  worst {max(errors, key=abs):+6.1%}"
                )


if __name__ == "__main__":
    main()
