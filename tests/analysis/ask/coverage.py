"""Coverage of the 95 % intervals over simulated studies, for docs/analysis.md.

`python -m tests.analysis.ask.coverage 300` prints the table.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from analysis.ask.compare import compare
from analysis.ask.effects import Effect, Slope
from analysis.ask.questions.cluster_contrasts import between_clusters, trend
from analysis.ask.questions.contrasts import image_effects
from analysis.ask.questions.slopes import slopes_by_cluster
from tests.analysis.simulated import REPOSITORY, Noise, Site, chonks, simulate

Interval = Effect | Slope | None

SIX = chonks((1, 3, 7, 10, 15, 19), [9])
COPIES = [image.replace("ghcr.io", "pkg.dev") + "-b" for image in SIX]
OTHER = REPOSITORY.replace("ghcr.io", "pkg.dev")
PACKED = [
    f"{SIX[0]}-{kind}s{salt}" for kind, salt in (("gzip6", "a"), ("zstd3", "b"), ("none", "c"))
]
ONE_DAY = Noise(cluster=0.0)
LARGE = Site(machine_type="n1-standard-64")


@dataclass(frozen=True)
class Design:
    """A design with the true value of what it estimates."""

    name: str
    images: Sequence[str]
    sites: Sequence[Site]
    estimate: Callable[[pd.DataFrame], Interval]
    truth: float = 1.0
    repetitions: int = 1
    noise: Noise = field(default_factory=Noise)


def _registry(samples: pd.DataFrame) -> Interval:
    return image_effects(samples, "repository", REPOSITORY)[OTHER]


def _compression(samples: pd.DataFrame) -> Interval:
    return image_effects(samples, "compression", "gzip 6")["none"]


def _layers(samples: pd.DataFrame) -> Interval:
    return slopes_by_cluster(samples, "layers", ["size", "what"])["c0"][1]


def _size(samples: pd.DataFrame) -> Interval:
    return slopes_by_cluster(samples, "gb", ["layers"])["c0"][1]


def _machine(samples: pd.DataFrame) -> Interval:
    return between_clusters(samples, "machine_type", LARGE.machine_type)


def _compared(samples: pd.DataFrame) -> Interval:
    large = samples["machine_type"] == LARGE.machine_type
    return compare(samples[~large], samples[large]).overall


DESIGNS = (
    *(Design(f"registry: 6 pairs, {n} nodes", [*SIX, *COPIES], [Site(n)], _registry)
      for n in (4, 16, 64)),
    Design("registry: 2 pairs, 3 repetitions, 16 nodes", [*SIX[:2], *COPIES[:2]], [Site()],
           _registry, repetitions=3),
    Design("registry: 2 pairs, 3 repetitions, 3 clusters", [*SIX[:2], *COPIES[:2]], [Site()] * 3,
           _registry, repetitions=3),
    Design("compression: one of 3, 3 repetitions (97.5 %)", PACKED, [Site()], _compression,
           repetitions=3),
    *(Design(f"layers: 6 images of one size, {n} nodes", chonks([1.2], [1, 3, 9, 27, 81, 125]),
             [Site(n)], _layers, 0.03, noise=ONE_DAY) for n in (4, 16, 64)),
    Design("size: 5 sizes, 2 layer counts, 16 nodes", chonks((0.05, 0.4, 1.2, 7, 19), [9, 125]),
           [Site()], _size, 6.0, noise=ONE_DAY),
    Design("cluster size: 7 sizes, one cluster each", SIX,
           [Site(n) for n in (4, 8, 16, 32, 64, 128, 256)], trend),
    Design("cluster size: 4, 8, 16 nodes, 3 clusters each", SIX, [Site(n) for n in (4, 8, 16)] * 3,
           trend),
    *(Design(f"machine: {k} clusters a side", SIX, [Site()] * k + [LARGE] * k, _machine)
      for k in (2, 3, 5)),
    Design("compare: all images, 3 clusters a side", SIX, [Site()] * 3 + [LARGE] * 3, _compared),
)  # fmt: skip


def coverage(design: Design, studies: int) -> float:
    """Return the share of intervals that hold the truth, over simulated studies."""
    hits = 0
    for seed in range(studies):
        found = design.estimate(
            simulate(
                design.images, design.sites, seed=1000 + seed, noise=design.noise,
                repetitions=design.repetitions,
            ).assign(digest="")
        )  # fmt: skip
        assert found is not None
        hits += found.low <= design.truth <= found.high
    return hits / studies


if __name__ == "__main__":
    print("| design | coverage |\n|---|---|")
    for each in DESIGNS:
        print(f"| {each.name} | {100 * coverage(each, int(sys.argv[1])):.0f} % |", flush=True)
