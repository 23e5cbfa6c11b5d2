"""What a planned study can answer, and how probably it finds an effect: known before it runs. Pure.

Whether a question can be answered is decided by its own card, asked of simulated pulls of the plan.
The power is that of a t test with the variance that the design leaves (non-central t; Cohen,
Statistical Power Analysis, 1988, chapter 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.ask.effects import LEAST_NODES, LEVEL
from analysis.ask.questions.cluster_contrasts import (
    held_of,
    named_preloaded,
    named_streaming,
    named_unpacks,
)
from analysis.ask.questions.contrasts import CONTRASTS, base_of, image_pairs
from analysis.ask.questions.slopes import comparable_trials
from analysis.ask.samples import CLUSTER_ATTRIBUTES, IMAGE_ATTRIBUTES, attributes, with_turns
from schema.study import Contrast, Workload


@dataclass(frozen=True)
class Site:
    """A cluster of a plan."""

    nodes: int = 16
    machine_type: str = "n1-standard-16"
    disk: str = "pd-balanced"
    zone: str = "us-central1-a"
    workload: str = Workload.JOB
    streaming: bool = False
    preloaded: bool = False
    unpacks: str = "1"
    remote: tuple[str, str] = ("", "")
    """Registry whose images are pulled through a remote repository, and that one's name."""
    study: str = "s"


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the logarithm of a pull time, by what varies."""

    node: float = 0.05
    pull: float = 0.03
    trial: float = 0.03
    cluster: float = 0.03


PLANNED = Noise(pull=0.06)
SOURCE = (
    "nodes vary by 5 % and pulls by 6 % (original study's run1 at 16 nodes: 4.8 and 5.9 %), trials "
    "and clusters by 3 % each (its run2 differs from run1 by 1.8 % on average and by 3.7 % from "
    "image to image)"
)
"""The assumed variation, and where it comes from."""

EFFECTS = (0.05, 0.20)
"""Effects that the power is given for."""

_MEDIAN = np.pi / 2
"""Variance of a median of normal values over that of their mean, for many values."""

_OF_IMAGES = {
    Contrast.REGISTRY: "repository",
    Contrast.CACHE: "cache",
    Contrast.COMPRESSION: "compression",
    Contrast.FILES: "files",
    Contrast.UPGRADE: "version",
}
_SLOPES = {Contrast.SIZE: ("gb", ["layers"]), Contrast.LAYERS: ("layers", ["size", "what"])}
_OF_CLUSTERS = {
    Contrast.MACHINE: "machine_type",
    Contrast.DISK: "disk",
    Contrast.ZONE: "zone",
    Contrast.WORKLOAD: "workload",
    Contrast.STREAMING: "streaming",
    Contrast.PRELOADED: "preloaded",
    Contrast.UNPACK: "unpacks",
    Contrast.REGISTRY: "repository",
}


class Precision(NamedTuple):
    """What a design leaves of an effect's logarithm: standard error, degrees of freedom, level."""

    error: float
    freedom: float
    basis: str
    level: float = LEVEL


@dataclass(frozen=True, slots=True)
class Question:
    """A contrast of a planned study.

    Attributes:
        power: for each of EFFECTS; empty if the plan does not answer the question.
        why: it is not answered.
    """

    contrast: str
    answered: bool
    power: tuple[float, ...] = ()
    basis: str = ""
    why: str = ""


def power(effect: float, precision: Precision) -> float:
    """Return the probability that the interval excludes 0, given the true change (0.05: 5 %)."""
    error, freedom, _, level = precision
    reach = stats.t.ppf((1 + level) / 2, freedom)
    away = float(np.log1p(effect)) / error
    # The far tail of a large effect has no digits in scipy (nan): it is 0.
    tails = stats.nct.sf(reach, freedom, away), stats.nct.cdf(-reach, freedom, away)
    return float(np.nan_to_num(tails).sum())


def questions(
    trials: pd.DataFrame, sites: Sequence[Site], named: Sequence[Contrast], noise: Noise = PLANNED
) -> list[Question]:
    """Return what a plan varies, and what its study names without varying it.

    Args:
        trials: a row per trial: image, repository, tag, layers, unpacked_bytes, wire_bytes,
            repetition.
        sites: the clusters, on each of which all trials run.
        named: contrasts that the study names.
        noise: assumed variation.
    """
    samples = simulate(trials, [_small(site) for site in sites], noise=noise)
    samples["warm"] = samples["version"].str.startswith("v2")
    samples["nodes"] = samples["cluster"].map(
        {f"c{number}": site.nodes for number, site in enumerate(sites)}
    )
    found = []
    for contrast, ask in CONTRASTS.items():
        card = ask(samples)
        if not card.varied:
            if contrast in named:
                found.append(Question(contrast, answered=False, why=card.limits))
            continue
        precision = _precision(contrast, samples, noise) if card.answered else None
        if precision is None:
            why = card.verdict.removeprefix("Cannot tell: ").rstrip(".")
            found.append(Question(contrast, answered=False, why=why))
            continue
        powers = tuple(power(effect, precision) for effect in EFFECTS)
        found.append(Question(contrast, True, powers, precision.basis))
    return found


def _small(site: Site) -> Site:
    """Return a cluster of few nodes: the rules need no more, and 256 nodes take seconds."""
    values = vars(site) | {"nodes": min(site.nodes, LEAST_NODES + 1)}
    return Site(**values)


def _precision(contrast: Contrast, samples: pd.DataFrame, noise: Noise) -> Precision | None:
    cold = samples[~samples["warm"]]
    if contrast in _SLOPES:
        return _of_slope(cold, *_SLOPES[contrast], noise)
    if contrast is Contrast.CLUSTER_SIZE:
        return _of_sizes(cold, noise)
    if contrast in _OF_IMAGES:
        chosen = samples if contrast is Contrast.UPGRADE else cold
        within = _of_pairs(chosen, _OF_IMAGES[contrast], noise)
        if within or contrast is not Contrast.REGISTRY:
            return within
    named = {
        Contrast.STREAMING: named_streaming,
        Contrast.PRELOADED: named_preloaded,
        Contrast.UNPACK: named_unpacks,
    }
    chosen = named[contrast](cold) if contrast in named else cold
    return _of_sides(chosen, _OF_CLUSTERS[contrast], noise)


def _trial_variance(nodes: float, noise: Noise) -> float:
    """Return the variance of the logarithm of a trial's median, apart from its nodes."""
    return float(noise.trial**2 + _MEDIAN * noise.pull**2 / nodes)


def _of_pairs(samples: pd.DataFrame, attribute: str, noise: Noise) -> Precision | None:
    """Trials of the same nodes, paired; the level with the largest error counts."""
    pairs = image_pairs(samples, attribute, base_of(samples, attribute))
    counts = [len(a) for several in pairs.values() for a, _ in several]
    freedom = sum(count - 1 for count in counts)
    if not freedom:
        return None
    variance = 2 * _trial_variance(float(samples["nodes"].min()), noise)
    least = min(sum(len(a) for a, _ in several) for several in pairs.values())
    return Precision(
        float(np.sqrt(variance / least)), freedom, f"{_counted(least, 'trial')} a side",
        1 - (1 - LEVEL) / len(pairs),
    )  # fmt: skip


def _of_slope(
    samples: pd.DataFrame, feature: str, held: Sequence[str], noise: Noise
) -> Precision | None:
    """Trials over a feature; the effect is that of its whole range."""
    best: Precision | None = None
    for _, mine, groups in comparable_trials(samples, feature, held):
        x = mine[feature].to_numpy(float)
        centred = x - pd.Series(x).groupby(groups).transform("mean").to_numpy(float)
        freedom = len(x) - len(set(groups)) - 1
        if freedom < 1:
            continue
        variance = _trial_variance(float(mine["nodes"].min()), noise)
        error = np.sqrt(variance / (centred**2).sum()) * (x.max() - x.min())
        one = Precision(float(error), freedom, _counted(len(x), "trial"))
        best = one if best is None or one.error < best.error else best
    return best


def _cluster_variance(samples: pd.DataFrame, noise: Noise) -> float:
    """Return the variance of a cluster's mean log median over its images."""
    nodes, images = float(samples["nodes"].min()), samples["image"].nunique()
    shared = _MEDIAN * noise.node**2 / nodes
    return float(noise.cluster**2 + shared + _trial_variance(nodes, noise) / images)


def _of_sides(samples: pd.DataFrame, attribute: str, noise: Noise) -> Precision | None:
    """Clusters of two kinds; the pair of levels with the smallest error counts."""
    held = [name for name in held_of(samples, attribute) if name != "nodes"]
    best: Precision | None = None
    for _, mine in samples.groupby([*held, "nodes"]):
        sides = sorted(mine.groupby(attribute)["cluster"].nunique(), reverse=True)[:2]
        if len(sides) < 2 or sum(sides) < 3:  # noqa: PLR2004 (two sides, and a spread)
            continue
        error = np.sqrt(_cluster_variance(mine, noise) * sum(1 / side for side in sides))
        basis = f"{_counted(min(sides), 'cluster')} a side"
        one = Precision(float(error), sum(sides) - 2, basis)
        best = one if best is None or one.error < best.error else best
    return best


def _of_sizes(samples: pd.DataFrame, noise: Noise) -> Precision | None:
    """Clusters of several sizes; the effect is that of a doubling."""
    sizes = samples.drop_duplicates("cluster")["nodes"].astype(float)
    x = np.log2(sizes.to_numpy(float))
    spread = float(((x - x.mean()) ** 2).sum())
    if len(x) < 3 or not spread:  # noqa: PLR2004 (a slope and its spread)
        return None
    error = np.sqrt(_cluster_variance(samples, noise) / spread)
    return Precision(float(error), len(x) - 2, _counted(len(x), "cluster"))


def through(remotes: Sequence[tuple[str, str]], images: pd.DataFrame) -> pd.DataFrame:
    """Return images as clusters with a remote repository pull them: the first time it is cold."""
    names, states = [], []
    rows = images[["repository", "repetition"]].itertuples(index=False)
    for (registry, remote), (repository, repetition) in zip(remotes, rows, strict=True):
        host, _, path = repository.partition("/")
        ours = bool(registry) and host == registry
        names.append(f"{remote}/{path}" if ours else repository)
        states.append(("cold" if repetition == 1 else "warm") if ours else "")
    return images.assign(repository=names, cache=states)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def simulate(
    trials: pd.DataFrame,
    sites: Sequence[Site],
    seconds: Sequence[Sequence[float]] | None = None,
    *,
    noise: Noise,
    seed: int = 1,
) -> pd.DataFrame:
    """Return samples (samples.samples_of) of all trials on each of the clusters.

    Args:
        trials: as for `questions`.
        sites: the clusters.
        seconds: by cluster and trial; by default all take one second.
        noise: of the pulls.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    trials = trials.reset_index(drop=True)
    facts = pd.concat([trials[["image", "repository", "repetition"]], attributes(trials)], axis=1)
    times, clusters, places, names = [], [], [], []
    for number, site in enumerate(sites):
        day = np.exp(rng.normal(0, noise.cluster))
        node = np.exp(rng.normal(0, noise.node, site.nodes))
        for place in range(len(trials)):
            moment = np.exp(rng.normal(0, noise.trial))
            pull = np.exp(rng.normal(0, noise.pull, site.nodes))
            expected = seconds[number][place] if seconds is not None else 1.0
            times.append(expected * day * moment * node * pull)
            clusters += [number] * site.nodes
            places += [place] * site.nodes
            names += [f"n{number}-{i}" for i in range(site.nodes)]
    kinds = [name for name in IMAGE_ATTRIBUTES if name != "cache"]
    of_image = facts[["image", "repetition", *kinds, "gb", "wire_gb"]].iloc[places]
    of_image = through([sites[number].remote for number in clusters], of_image)
    of_cluster = pd.DataFrame([vars(site) for site in sites])[list(CLUSTER_ATTRIBUTES)]
    pulls = pd.DataFrame(
        {
            "cluster": [f"c{number}" for number in clusters],
            "kind": "measured",
            "node": names,
            "warm": False,
            "seconds": np.concatenate(times),
        }
    )
    parts = (of_image, of_cluster.iloc[clusters])
    return with_turns(pd.concat([pulls, *(each.reset_index(drop=True) for each in parts)], axis=1))
