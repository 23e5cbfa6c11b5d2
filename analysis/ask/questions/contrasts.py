"""A card for each contrast: one factor varies, everything else is held, what remains is paired.

Here images are compared within a cluster, paired by node and by trial; slopes.py has sizes and
layers, cluster_contrasts.py what differs between clusters. Only valid cells count; an upgrade is
warm by intent, so there the cells with layers of the earlier version count too. Pure.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.ask.effects import LEVEL, Effect, Matrix, log_ratios, over_clusters, ratio
from analysis.ask.questions.cards import Card, not_varied, of_effect
from analysis.ask.questions.cluster_contrasts import (
    cluster_contrast,
    cluster_size,
    disk,
    machine,
    preloaded,
    streaming,
    unpack,
    workload,
    zone,
)
from analysis.ask.questions.slopes import layers, size
from analysis.ask.samples import IMAGE_ATTRIBUTES, matrices
from schema.run_records import Cache
from schema.study import Contrast


def image_pairs(
    samples: pd.DataFrame, attribute: str, base: object
) -> dict[str, list[tuple[Matrix, Matrix]]]:
    """Return by level of an image's attribute the pulls of the base level and of it, by cluster.

    Everything else is equal, and both sides are of the same nodes.
    """
    others = [name for name in IMAGE_ATTRIBUTES if name != attribute]
    by = ["cluster", *others, "turn"]
    left = samples[samples[attribute] == base]
    pairs: dict[str, list[tuple[Matrix, Matrix]]] = {}
    for level in sorted(set(samples[attribute].dropna()) - {base}):
        right = samples[samples[attribute] == level]
        for cluster in sorted(set(left["cluster"]) & set(right["cluster"])):
            one, other = (side[side["cluster"] == cluster] for side in (left, right))
            a, b, paired = matrices(one, other, by)
            if a.size and b.size and paired:
                pairs.setdefault(str(level), []).append((a, b))
    return pairs


def image_effects(samples: pd.DataFrame, attribute: str, base: object) -> dict[str, Effect]:
    """Return by level of an image's attribute the ratio to its base level, everything else equal.

    Intervals hold for all levels together (Bonferroni).
    """
    pairs = image_pairs(samples, attribute, base)
    spread = _spread([pair for several in pairs.values() for pair in several])
    found = {
        level: over_clusters([ratio(a, b, paired=True, spread=spread) for a, b in several])
        for level, several in pairs.items()
    }
    level_of_each = 1 - (1 - LEVEL) / max(1, len(found))
    return {name: effect.at(level_of_each) for name, effect in found.items()}


def _spread(pairs: Sequence[tuple[Matrix, Matrix]]) -> tuple[float, int] | None:
    """Return the variance of a trial's log ratio, pooled over levels and clusters."""
    rows = [log_ratios(a, b, paired=True, statistic="median") for a, b in pairs]
    freedom = sum(len(one) - 1 for one in rows)
    if not freedom:
        return None
    return sum(float(((one - one.mean()) ** 2).sum()) for one in rows) / freedom, freedom


def _largest(effects: dict[str, Effect]) -> tuple[str, Effect]:
    """Return the clearest level: that with an interval, then the largest change."""
    return max(effects.items(), key=lambda item: (item[1].answered, abs(np.log(item[1].value))))


def _listed(effects: dict[str, Effect]) -> str:
    if len(effects) < 2:  # noqa: PLR2004 (a list)
        return ""
    return "; ".join(f"{name}: {effect.percent()}" for name, effect in effects.items()) + "."


def registry(samples: pd.DataFrame) -> Card:
    """Compare repositories by copies of the same images."""
    question = "Is one registry faster than another?"
    cold = samples[~samples["warm"]]
    repositories = cold["repository"].value_counts()
    if len(repositories) < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(Contrast.REGISTRY, question, "all images came from one repository")
    base = str(base_of(cold, "repository"))
    effects = image_effects(cold, "repository", base)
    where = {name: name.partition("/")[0] for name in (base, *effects)}
    if not effects:
        return _registries_apart(cold, question)
    name, effect = _largest(effects)
    pair = f"{where[name]} against {where[base]}"
    return of_effect(
        Contrast.REGISTRY,
        question,
        effect,
        slower=f"{where[base]} is faster.",
        faster=f"{where[name]} is faster.",
        detail=f"{pair}, the same nodes, copies of the same images. {_listed(effects)}".strip(),
    )


def _registries_apart(samples: pd.DataFrame, question: str) -> Card:
    """Two registries on different clusters: the clusters are the unit."""
    host = samples["repository"].str.replace("/.*", "", regex=True)
    cached = " with a " + samples["cache"] + " cache"
    through = cached.where(samples["cache"] != "", "")
    named = samples.assign(registry=host + through, repository="", cache="")
    return cluster_contrast(
        named, "registry", Contrast.REGISTRY, question,
        nothing="no cluster pulled copies of an image from two repositories",
    )  # fmt: skip


BASES: dict[str, object] = {"compression": "gzip 6", "files": 1, "version": "v1", "cache": "cold"}
"""Level of an image's attribute that the others are compared with, if it is there."""


def base_of(samples: pd.DataFrame, attribute: str) -> object:
    """Return the level of an image's attribute that others are compared with."""
    levels = samples[attribute].value_counts()
    base = BASES.get(attribute)
    return base if base in levels.index else levels.index[0]


def _of_images(
    samples: pd.DataFrame, attribute: str, words: tuple[str, str, str, str, str]
) -> Card:
    """Card of a contrast within clusters; words: contrast, question, nothing, slower, faster."""
    contrast, question, nothing, slower, faster = words
    if samples[attribute].nunique() < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(contrast, question, nothing)
    base = base_of(samples, attribute)
    effects = image_effects(samples, attribute, base)
    if not effects:
        return not_varied(contrast, question, f"no two images differ in {attribute} alone")
    name, effect = _largest(effects)
    detail = f"{name} against {base or 'the default'}. {_listed(effects)}".strip()
    return of_effect(
        contrast, question, effect, slower=slower.format(name), faster=faster.format(name),
        detail=detail,
    )  # fmt: skip


def compression(samples: pd.DataFrame) -> Card:
    """Compare compressions of the same content."""
    return _of_images(
        samples[~samples["warm"]], "compression",
        (Contrast.COMPRESSION, "Does the compression matter?",
         "all images are compressed in one way", "Yes: {} is slower.", "Yes: {} is faster."),
    )  # fmt: skip


def files(samples: pd.DataFrame) -> Card:
    """Compare numbers of files in images of one size."""
    return _of_images(
        samples[~samples["warm"]], "files",
        (Contrast.FILES, "Do many small files take longer?",
         "all images have as many files in a layer", "Yes: {} files are slower.",
         "No: {} files are faster."),
    )  # fmt: skip


def upgrade(samples: pd.DataFrame) -> Card:
    """Compare a new version on nodes that have the old one with the old one's cold pull."""
    return _of_images(
        samples, "version",
        (Contrast.UPGRADE, "What does an upgrade cost a node that has the old version?",
         "no image is a second version", "More than the first pull.", "Less than the first pull."),
    )  # fmt: skip


def cache(samples: pd.DataFrame) -> Card:
    """Compare pulls through a remote repository that has the image with the first one."""
    known = samples[~samples["warm"] & samples["cache"].isin([Cache.COLD, Cache.WARM])]
    return _of_images(
        known, "cache",
        (Contrast.CACHE, "Does a cache in the region shorten pulls?",
         "no image was pulled through a remote repository both before and after it had it",
         "No: a {} cache is slower.", "Yes: a {} cache is faster."),
    )  # fmt: skip


CONTRASTS: dict[Contrast, Callable[[pd.DataFrame], Card]] = {
    Contrast.SIZE: size,
    Contrast.LAYERS: layers,
    Contrast.CLUSTER_SIZE: cluster_size,
    Contrast.REGISTRY: registry,
    Contrast.CACHE: cache,
    Contrast.COMPRESSION: compression,
    Contrast.FILES: files,
    Contrast.UPGRADE: upgrade,
    Contrast.MACHINE: machine,
    Contrast.DISK: disk,
    Contrast.STREAMING: streaming,
    Contrast.PRELOADED: preloaded,
    Contrast.UNPACK: unpack,
    Contrast.ZONE: zone,
    Contrast.WORKLOAD: workload,
}
