"""Simulated studies of a known truth: pulls that vary by node, trial and cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.ask.samples import CLUSTER_ATTRIBUTES, IMAGE_ATTRIBUTES, attributes, with_turns
from analysis.frames import image_name
from analysis.judge.cells import image_parts

Truth = Callable[[pd.Series, "Site"], float]
"""Expected seconds of an image (a row with IMAGE_ATTRIBUTES, gb and wire_gb) on a cluster."""


@dataclass(frozen=True)
class Site:
    """A simulated cluster."""

    nodes: int = 16
    machine_type: str = "n1-standard-16"
    disk: str = "pd-balanced"
    zone: str = "us-central1-a"
    streaming: bool = False
    study: str = "s"


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the logarithm of a pull time.

    Nodes 5 %, pulls 3 %; 3 % for trials and for clusters, as two runs of the original study differ.
    """

    node: float = 0.05
    pull: float = 0.03
    trial: float = 0.03
    cluster: float = 0.03


def by_size(image: pd.Series, _: Site) -> float:
    """6 s a GB and 3 s for 100 layers, as the original study measured."""
    return float(0.5 + 6 * image["gb"] + 0.03 * image["layers"])


def simulate(
    images: Sequence[str],
    sites: Sequence[Site],
    truth: Truth = by_size,
    *,
    seed: int = 1,
    noise: Noise = Noise(),
    repetitions: int = 1,
    wire: float = 1.0,
) -> pd.DataFrame:
    """Return samples (samples.samples_of) of studies of these images on these clusters."""
    rng = np.random.default_rng(seed)
    parts = [image_parts(name) for name in images]
    facts = pd.DataFrame(
        {
            "image": [image_name(name) for name in images],
            "repository": [repository for repository, *_ in parts],
            "tag": [tag for _, tag, *_ in parts],
            "layers": [float(layers or np.nan) for *_, layers, _ in parts],
            "unpacked_bytes": [float(size or np.nan) for *_, size in parts],
            "wire_bytes": [float(size or np.nan) / wire for *_, size in parts],
        }
    )
    facts = pd.concat([facts[["image", "repository"]], attributes(facts)], axis=1)
    trials, seconds = [], []
    for number, site in enumerate(sites):
        day = np.exp(rng.normal(0, noise.cluster))
        node = np.exp(rng.normal(0, noise.node, site.nodes))
        for place, (_, image) in enumerate(facts.iterrows()):
            for repetition in range(1, repetitions + 1):
                moment = np.exp(rng.normal(0, noise.trial))
                pull = np.exp(rng.normal(0, noise.pull, site.nodes))
                trials.append((number, place, repetition))
                seconds.append(truth(image, site) * day * moment * node * pull)
    plan = np.repeat(np.array(trials), [len(each) for each in seconds], axis=0)
    names = [[f"n{number}-{i}" for i in range(sites[number].nodes)] for number, *_ in trials]
    attributes_of = pd.DataFrame([vars(site) for site in sites])[list(CLUSTER_ATTRIBUTES)]
    samples = pd.DataFrame(
        {
            "cluster": [f"c{number}" for number in plan[:, 0]], "kind": "measured",
            "repetition": plan[:, 2], "node": [name for each in names for name in each],
            "warm": False, "seconds": np.concatenate(seconds),
        }
    )  # fmt: skip
    of_image = facts[["image", *IMAGE_ATTRIBUTES, "gb", "wire_gb"]].iloc[plan[:, 1]]
    of_cluster = attributes_of.iloc[plan[:, 0]]
    return with_turns(
        pd.concat(
            [samples, *(each.reset_index(drop=True) for each in (of_image, of_cluster))], axis=1
        )
    )


REPOSITORY = "ghcr.io/lab/chonks"


def chonks(
    sizes: Sequence[float], layers: Sequence[int], repository: str = REPOSITORY
) -> list[str]:
    """Return references of study images; sizes in GB."""
    return [
        f"{repository}:{count}-layers-size-{round(size * 1e9)}-bytes"
        for size in sizes
        for count in layers
    ]
