"""Cards that compare clusters by the images that all pulled: each is one observation. Pure."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.ask.effects import (
    LEAST_NODES,
    LEVEL,
    Effect,
    line_over_clusters,
    node_error,
    of_log,
)
from analysis.ask.questions.cards import Card, cannot_tell, not_varied, of_effect
from analysis.ask.samples import IMAGE_ATTRIBUTES, key_of
from schema.study import Contrast

_HELD = ("nodes", "machine_type", "disk", "zone", "workload", "streaming", "unpacks")
"""Attributes of clusters; what is compared varies one of them."""

_LEAST_SIZES = 5
"""With one cluster of each size, so many sizes are needed to tell a trend from single clusters."""

_LEAST_REPEATED = 4
"""Clusters of several sizes, some of a size repeated."""


def cluster_contrast(
    samples: pd.DataFrame,
    attribute: str,
    contrast: str,
    question: str,
    *,
    nothing: str,
) -> Card:
    """Compare clusters that differ in one attribute; each cluster is one observation."""
    cold = samples[~samples["warm"]]
    if len(set(cold[attribute]) - {""}) < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(contrast, question, nothing)
    found, together = cluster_effects(cold, attribute)
    if not found:
        if together:
            return cannot_tell(contrast, question, None, "too few nodes with valid cells")
        return not_varied(contrast, question, "no two clusters differ in that alone")
    (level, base), effect = max(found, key=lambda one: (one[1].answered, one[1].trials))
    rest = "; ".join(f"{other[0]}: {e.percent()}" for other, e in found if other != (level, base))
    return of_effect(
        contrast, question, effect.at(1 - (1 - LEVEL) / len(found)), slower=f"{base} is faster.",
        faster=f"{level} is faster.", detail=f"{level} against {base}. {rest}".strip(),
    )  # fmt: skip


def cluster_effects(
    cold: pd.DataFrame, attribute: str
) -> tuple[list[tuple[tuple[str, str], Effect]], bool]:
    """Return ((level, base), effect) of clusters that differ in one attribute alone.

    Also whether there are such clusters at all; those with too few valid nodes have no effect.
    """
    levels = sorted(set(cold[attribute]) - {""}, key=str)
    found: list[tuple[tuple[str, str], Effect]] = []
    together = False
    for _, mine in cold.groupby(held_of(cold, attribute)):
        present = [level for level in levels if level in set(mine[attribute])]
        together = together or len(set(mine[attribute])) > 1
        for level in present[1:]:
            pair = mine[mine[attribute].isin([present[0], level])]
            effect = between_clusters(pair, attribute, level)
            if effect:
                found.append(((str(level), str(present[0])), effect))
    return found, together


def held_of(samples: pd.DataFrame, attribute: str) -> list[str]:
    """Return what else of clusters must be equal, apart from what is unknown of some of them."""
    return [n for n in _HELD if n != attribute and not (samples[n] == "").any()]


def between_clusters(samples: pd.DataFrame, attribute: str, level: object) -> Effect | None:
    """Return how much longer clusters of a level take than the others, by the images all pulled."""
    table = _cluster_means(samples)
    if table is None:
        return None
    y, errors, counts, images = table
    of = samples.drop_duplicates("cluster").set_index("cluster")[attribute]
    x = np.array([float(of[cluster] == level) for cluster in y.index])
    sides = [int((x == side).sum()) for side in (0, 1)]
    if min(sides) == 0:
        return None
    difference = float(y[x == 1].mean() - y[x == 0].mean())
    if max(sides) == 1:
        return Effect(
            float(np.exp(difference)),
            nodes=int(counts.min()),
            trials=images,
            why="one cluster each",
        )
    value, error, freedom = line_over_clusters(y, errors, x)
    return of_log(
        value, error, freedom, nodes=int(counts.min()), trials=images, clusters=min(sides)
    )


def _cluster_means(
    samples: pd.DataFrame, *, tail: bool = False
) -> tuple[pd.Series, pd.Series, pd.Series, int] | None:
    """Return by cluster: mean log median over shared images, its error by nodes, nodes; images.

    With `tail` it is the logarithm of maximum / median, whose error is left to the clusters.
    """
    samples = samples.assign(_key=key_of(samples, IMAGE_ATTRIBUTES))
    by_cluster = {
        cluster: mine
        for cluster, mine in samples.groupby("cluster")
        if mine["node"].nunique() >= LEAST_NODES
    }
    if len(by_cluster) < 2:  # noqa: PLR2004 (a comparison)
        return None
    shared = set.intersection(*(set(mine["_key"]) for mine in by_cluster.values()))
    if not shared:
        return None
    y, errors, counts = {}, {}, {}
    for cluster, mine in by_cluster.items():
        seconds = mine[mine["_key"].isin(shared)].pivot_table(
            index=["_key", "turn"], columns="node", values="seconds"
        )
        median = seconds.median(axis=1)
        logs = np.log(seconds.max(axis=1) / median if tail else median).groupby(level=0).mean()
        y[cluster], counts[cluster] = logs.mean(), seconds.shape[1]
        errors[cluster] = 0.0 if tail else node_error(seconds.to_numpy(float))
    return pd.Series(y), pd.Series(errors), pd.Series(counts), len(shared)


def cluster_size(samples: pd.DataFrame) -> Card:
    """Tell how pull time changes when the cluster doubles; each cluster is one observation."""
    question = "Does a pull take longer on a larger cluster?"
    cold = samples[~samples["warm"]]
    if cold["nodes"].nunique() < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(Contrast.CLUSTER_SIZE, question, "all clusters have one size")
    found: list[tuple[str, Effect]] = []
    for _, mine in cold.groupby(held_of(cold, "nodes")):
        for pulled in _comparable(mine):
            effect = trend(pulled)
            if effect:
                nodes = sorted({int(n) for n in pulled["nodes"]})
                text = f"clusters of {', '.join(map(str, nodes))} nodes"
                found.append((text, effect))
    if not found:
        return cannot_tell(Contrast.CLUSTER_SIZE, question, None, "too few nodes with valid cells")
    text, effect = max(found, key=lambda one: (one[1].answered, one[1].clusters))
    rest = "; ".join(f"{other}: {e.percent()}" for other, e in found if e is not effect)
    return of_effect(
        Contrast.CLUSTER_SIZE, question, effect, slower="Pulls take longer on larger clusters.",
        faster="Pulls are shorter on larger clusters.",
        detail=f"Per doubling of the nodes; {text} with valid cells. {rest}".strip(),
    )  # fmt: skip


def _comparable(samples: pd.DataFrame) -> list[pd.DataFrame]:
    """Return groups of clusters that pulled the same images: all together, else by study."""
    if _cluster_means(samples) is not None:
        return [samples]
    return [mine for _, mine in samples.groupby("study") if len(set(mine["nodes"])) > 1]


def trend(samples: pd.DataFrame, *, tail: bool = False) -> Effect | None:
    """Return the factor per doubling of the nodes, over clusters that pulled the same images.

    Args:
        samples: pulls of all clusters.
        tail: of maximum / median of a trial, not of its median.
    """
    table = _cluster_means(samples, tail=tail)
    if table is None:
        return None
    y, errors, counts, images = table
    of = samples.drop_duplicates("cluster").set_index("cluster")["nodes"].astype(float)
    x = np.log2([of[cluster] for cluster in y.index])
    if len(set(x)) < 2:  # noqa: PLR2004 (a line)
        return None
    value = float(np.polyfit(x, y, 1)[0])
    seen = Effect(
        float(np.exp(value)), nodes=int(counts.min()), trials=images, clusters=len(y),
        why="one cluster each",
    )  # fmt: skip
    repeated = len(set(x)) < len(y)
    if len(y) < (_LEAST_REPEATED if repeated else _LEAST_SIZES):
        return replace(seen, why="too few clusters") if repeated else seen
    value, error, freedom = line_over_clusters(y, errors, x)
    return of_log(value, error, freedom, nodes=int(counts.min()), trials=images, clusters=len(y))


def disk(samples: pd.DataFrame) -> Card:
    """Compare types of disk."""
    return cluster_contrast(
        samples, "disk", Contrast.DISK, "Does the type of disk matter?",
        nothing="all nodes have one type of disk, or none is known",
    )  # fmt: skip


def zone(samples: pd.DataFrame) -> Card:
    """Compare zones."""
    return cluster_contrast(
        samples, "zone", Contrast.ZONE, "Does the zone matter?",
        nothing="all clusters are in one zone, or none is known",
    )  # fmt: skip


def workload(samples: pd.DataFrame) -> Card:
    """Compare pulls by MiniClusters with pulls by Jobs."""
    card = cluster_contrast(
        samples, "workload", Contrast.WORKLOAD, "Does a MiniCluster change a pull?",
        nothing="all clusters ran one kind of workload, or it is unknown",
    )  # fmt: skip
    what = "What a MiniCluster does before its pull is init_s of cells.csv, and in no pull time."
    return replace(card, limits=f"{what} {card.limits}".strip()) if card.varied else card


STREAMED, PLAIN = "streaming", "plain pulling"


def named_streaming(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the samples with the column `streaming` in words."""
    return samples.assign(streaming=np.where(samples["streaming"], STREAMED, PLAIN))


def streaming(samples: pd.DataFrame) -> Card:
    """Compare image streaming with plain pulls."""
    return cluster_contrast(
        named_streaming(samples), "streaming", Contrast.STREAMING,
        "Does image streaming shorten pulls?",
        nothing="no event shows that an image was streamed"
        if not samples["streaming"].any()
        else "every cluster streamed its images",
    )  # fmt: skip


def named_preloaded(starts: pd.DataFrame) -> pd.DataFrame:
    """Return the samples with the column `preloaded` in words; streaming is part of preloading."""
    names = np.where(starts["preloaded"], "preloading", "pulling")
    return starts.assign(preloaded=names, streaming="")


def preloaded(starts: pd.DataFrame) -> Card:
    """Compare nodes that have the images on a secondary boot disk with nodes that pull them.

    Args:
        starts: of samples.starts_of.
    """
    card = cluster_contrast(
        named_preloaded(starts), "preloaded", Contrast.PRELOADED,
        "Do containers start sooner from preloaded images?",
        nothing="every cluster had its images preloaded"
        if starts["preloaded"].any()
        else "no image was preloaded",
    )  # fmt: skip
    what = "Compared is the time from release to start: a preloaded image is not pulled."
    return replace(card, limits=f"{what} {card.limits}".strip()) if card.varied else card


def named_unpacks(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the samples with the column `unpacks` in words."""
    words = samples["unpacks"].astype("str").add(" layers at once")
    return samples.assign(unpacks=words.mask(samples["unpacks"] == "1", "one layer at a time"))


def unpack(samples: pd.DataFrame) -> Card:
    """Compare nodes that unpack several layers of an image at once with those that unpack one."""
    return cluster_contrast(
        named_unpacks(samples), "unpacks", Contrast.UNPACK,
        "Does unpacking layers in parallel shorten pulls?",
        nothing="all nodes unpack as many layers at once",
    )  # fmt: skip


def machine(samples: pd.DataFrame) -> Card:
    """Compare machine types."""
    return cluster_contrast(
        samples, "machine_type", Contrast.MACHINE, "Does the machine type matter?",
        nothing="all nodes are of one machine type, or it is unknown",
    )  # fmt: skip
