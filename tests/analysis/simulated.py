"""Simulated studies of a known truth: pulls that vary by node, trial and cluster."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.ask import power
from analysis.ask.power import Noise, Site
from analysis.ask.samples import attributes
from analysis.frames import image_name
from analysis.judge.cells import image_parts

__all__ = ["Noise", "Site"]

Truth = Callable[[pd.Series, "Site"], float]
"""Expected seconds of an image (a row with IMAGE_ATTRIBUTES, gb and wire_gb) on a cluster."""


def by_size(image: pd.Series, _: Site) -> float:
    """6 s a GB and 3 s for 100 layers, as the original study measured."""
    return float(0.5 + 6 * image["gb"] + 0.03 * image["layers"])


def simulate(
    images: Sequence[str],
    sites: Sequence[Site],
    truth: Truth = by_size,
    *,
    seed: int = 1,
    noise: Noise | None = None,
    repetitions: int = 1,
    wire: float = 1.0,
) -> pd.DataFrame:
    """Return samples (samples.samples_of) of studies of these images on these clusters."""
    trials = facts_of(images, wire).loc[lambda facts: facts.index.repeat(repetitions)]
    trials["repetition"] = list(range(1, repetitions + 1)) * len(images)
    rows = pd.concat([trials[["image", "repository", "repetition"]], attributes(trials)], axis=1)
    seconds = [
        [truth(row, site) for _, row in power.through([site.remote] * len(rows), rows).iterrows()]
        for site in sites
    ]
    return power.simulate(trials, sites, seconds, noise=noise or Noise(), seed=seed)


def facts_of(images: Sequence[str], wire: float = 1.0) -> pd.DataFrame:
    """Return what images' names say, a row each, with `wire` unpacked bytes per compressed one."""
    parts = [image_parts(name) for name in images]
    return pd.DataFrame(
        {
            "image": [image_name(name) for name in images],
            "repository": [repository for repository, *_ in parts],
            "tag": [tag for _, tag, *_ in parts],
            "layers": [float(layers or np.nan) for *_, layers, _ in parts],
            "unpacked_bytes": [float(size or np.nan) for *_, size in parts],
            "wire_bytes": [float(size or np.nan) / wire for *_, size in parts],
        }
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
