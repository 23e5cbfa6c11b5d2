"""Published claims about pulling images, each confirmed, refuted or left open by the data. Pure.

The claims are those of "Trends for Pulling HPC Containers in Cloud" (CLOUD COMPUTING 2025) and of
the notes in its repository (converged-computing/container-chonks), in this project's words. Where a
claim has no margin, the one used here is on its card.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.ask.effects import Effect, Slope
from analysis.ask.questions.cards import Card, byte_size
from analysis.ask.questions.cluster_contrasts import (
    STREAMED,
    between_clusters,
    cluster_effects,
    named_streaming,
)
from analysis.ask.questions.contrasts import image_effects
from analysis.ask.questions.slopes import best_slope, slopes_by_cluster
from analysis.ask.samples import with_turns

CLAIM = "claim: "
"""Start of the contrast's name on the card of a claim."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim: its name, what it says, the study file that tests it, and the claimed ratio.

    Attributes:
        span: least and greatest ratio that agree with it.
        limits: what its card adds.
    """

    name: str
    said: str
    study: str
    span: tuple[float, float] = (1.0, 1.0)
    limits: str = ""


_ON_ONE = "Measured on one cluster."

SIZE = Claim("size", "the size of an image dominates, its layers do not", "matrix-38")
LAYERS = Claim(
    "layers", "the number of layers hardly matters", "layers", (1 / 1.2, 1.2),
    f"Hardly: at most 20 %. {_ON_ONE}",
)  # fmt: skip
REGISTRY = Claim(
    "registry", "a registry in the same cloud makes no difference", "registries", (1 / 1.05, 1.05),
    "No difference: at most 5 %.",
)  # fmt: skip
SSD = Claim(
    "local SSD", "a local SSD pulls 1.25 times as fast", "disks", (1.125, 1.375),
    "1.25 times: from 1.125 to 1.375.",
)  # fmt: skip
STREAMING = Claim(
    "streaming", "image streaming pulls 15 to 120 times as fast", "streaming", (15.0, 120.0),
    "A streamed pull ends before all bytes have arrived.",
)  # fmt: skip

GOOGLES = ("-docker.pkg.dev", "gcr.io")
"""Ends of the names of registries in Google Cloud."""


def claims(samples: pd.DataFrame) -> list[Card]:
    """Return a card for each claim; those that nothing was varied for are not `varied`."""
    cold = samples[~samples["warm"]]
    return [ask(cold) for ask in (_size, _layers, _registry, _disk, _streaming)]


def _size(cold: pd.DataFrame) -> Card:
    sizes = slopes_by_cluster(cold, "gb", ["layers"])
    layers = slopes_by_cluster(cold, "layers", ["size", "what"])
    both = {name: found for name, found in sizes.items() if name in layers}
    if not both:
        return _untested(SIZE)
    cluster, trials, per_gb = best_slope(both)
    mine = cold[cold["cluster"] == cluster]
    gb, count = (float(mine[name].max() - mine[name].min()) for name in ("gb", "layers"))
    by_size, by_layers = _times(per_gb, gb), _times(layers[cluster][1], count)
    verdict = "Cannot tell: the intervals overlap."
    if by_size.low > by_layers.high:
        verdict = "Confirmed."
    elif by_size.high < by_layers.low:
        verdict = "Refuted."
    return Card(
        f"{CLAIM}{SIZE.name}",
        _question(SIZE),
        verdict,
        f"{gb:.3g} GB more take {by_size.text(1)} s more, {count:.0f} layers more "
        f"{by_layers.text(1)} s.",
        f"{trials} trials on {cluster}",
        f"It holds for {_minmax(mine, 'gb', 'GB')} and {_minmax(mine, 'layers', 'layers')}. "
        f"{_ON_ONE}",
        answered=not verdict.startswith("Cannot"),
    )


def _times(slope: Slope, by: float) -> Slope:
    return Slope(slope.value * by, slope.low * by, slope.high * by, slope.freedom)


def _minmax(samples: pd.DataFrame, column: str, unit: str) -> str:
    return f"{samples[column].min():.3g} to {samples[column].max():.3g} {unit}"


def _layers(cold: pd.DataFrame) -> Card:
    """Judge at the smallest size, where layers weigh most."""
    for _, mine in cold[cold["gb"].notna()].groupby("gb"):
        found = slopes_by_cluster(mine, "layers", ["size", "what"])
        if not found:
            continue
        cluster, trials, slope = best_slope(found)
        here = mine[mine["cluster"] == cluster]
        few, many = here["layers"].min(), here["layers"].max()
        base = float(here.loc[here["layers"] == few, "seconds"].median())
        added = _times(slope, (many - few) / base)
        effect = Effect(1 + added.value, 1 + added.low, 1 + added.high, trials=trials)
        small = byte_size(1e9 * here["gb"].iloc[0])
        text = f"At {small} {many:.0f} layers take {{}} as long as {few:.0f}."
        return _of_ratio(LAYERS, effect, text, f"{trials} trials on {cluster}")
    return _untested(LAYERS)


def _registry(cold: pd.DataFrame) -> Card:
    host = cold["repository"].str.partition("/")[0] if len(cold) else cold["repository"]
    same = host.map(lambda name: str(name).endswith(GOOGLES)).astype(bool)
    named = cold.assign(repository=same.map({True: "same", False: "other"}))
    if named["repository"].nunique() < 2:  # noqa: PLR2004 (a comparison)
        return _untested(REGISTRY)
    effect = image_effects(with_turns(named.drop(columns="turn")), "repository", "other").get(
        "same"
    )
    if effect is None:
        alone = named.assign(where=named["repository"], repository="")
        effect = between_clusters(alone, "where", "same")
    return _of_ratio(REGISTRY, effect, "Google's registry takes {} as long as the other.")


def _disk(cold: pd.DataFrame) -> Card:
    return _between(SSD, cold, "disk", "local-ssd", "Other disks take {} as long as local SSDs.")


def _streaming(cold: pd.DataFrame) -> Card:
    text = "Plain pulls take {} as long as streamed ones."
    return _between(STREAMING, named_streaming(cold), "streaming", STREAMED, text)


def _between(claim: Claim, cold: pd.DataFrame, attribute: str, level: str, text: str) -> Card:
    """Judge how many times as long the other clusters take as those of a level."""
    found, _ = cluster_effects(cold, attribute)
    of_level = [
        effect.inverse() if pair[0] == level else effect for pair, effect in found if level in pair
    ]
    if not of_level:
        return _untested(claim)
    return _of_ratio(claim, max(of_level, key=lambda one: (one.answered, one.trials)), text)


def _of_ratio(claim: Claim, effect: Effect | None, text: str, basis: str = "") -> Card:
    if effect is None:
        verdict = "Cannot tell: too few nodes with valid cells."
        return Card(f"{CLAIM}{claim.name}", _question(claim), verdict, answered=False)
    verdict = judge(effect, claim.span)
    return Card(
        f"{CLAIM}{claim.name}",
        _question(claim),
        verdict,
        text.format(effect.times()),
        basis or effect.basis(),
        claim.limits,
        answered=not verdict.startswith("Cannot"),
    )


def judge(effect: Effect, span: tuple[float, float]) -> str:
    """Return the verdict: the whole interval inside the claimed span, outside, or neither."""
    if not effect.answered:
        return f"Cannot tell: {effect.why}."
    if span[0] <= effect.low and effect.high <= span[1]:
        return "Confirmed."
    if effect.high < span[0] or effect.low > span[1]:
        return "Refuted."
    return "Cannot tell: the interval is too wide."


def _question(claim: Claim) -> str:
    return f"Published claim: {claim.said}."


def _untested(claim: Claim) -> Card:
    return Card(
        f"{CLAIM}{claim.name}", _question(claim), "Not varied here.",
        limits=f"studies/{claim.study}.yaml", answered=False, varied=False,
    )  # fmt: skip
