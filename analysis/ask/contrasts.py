"""A card for each contrast: one factor varies, everything else is held, what remains is paired.

Images are compared within a cluster, paired by node and by trial; clusters are compared by the
images that all of them pulled, each cluster being one observation. Only valid cells count; an
upgrade is warm by intent, so there the cells with layers of the earlier version count too. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.ask.cards import Card, cannot_tell, not_varied, of_effect
from analysis.ask.effects import (
    LEAST_NODES,
    LEVEL,
    Effect,
    Slope,
    line_over_clusters,
    node_error,
    of_log,
    over_clusters,
    ratio,
    slope,
)
from analysis.ask.samples import IMAGE_ATTRIBUTES, key_of, matrices, trials_of
from schema.study import Contrast

_HELD = ("nodes", "machine_type", "disk", "zone", "streaming")
"""Attributes of clusters; what is compared varies one of them."""


def image_effects(samples: pd.DataFrame, attribute: str, base: object) -> dict[str, Effect]:
    """Return by level of an image's attribute the ratio to its base level, everything else equal.

    Intervals hold for all levels together (Bonferroni).
    """
    others = [name for name in IMAGE_ATTRIBUTES if name != attribute]
    by = ["cluster", *others, "turn"]
    left = samples[samples[attribute] == base]
    found: dict[str, Effect] = {}
    levels = sorted(set(samples[attribute].dropna()) - {base})
    for level in levels:
        right = samples[samples[attribute] == level]
        each = []
        for cluster in sorted(set(left["cluster"]) & set(right["cluster"])):
            one, other = (side[side["cluster"] == cluster] for side in (left, right))
            a, b, paired = matrices(one, other, by)
            if a.size and b.size and paired:
                each.append(ratio(a, b, paired=paired))
        if each:
            found[str(level)] = over_clusters(each)
    level_of_each = 1 - (1 - LEVEL) / max(1, len(found))
    return {name: effect.at(level_of_each) for name, effect in found.items()}


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
    base = repositories.index[0]
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
    named = samples.assign(
        registry=samples["repository"].str.replace("/.*", "", regex=True), repository=""
    )  # fmt: skip
    return cluster_contrast(
        named, "registry", Contrast.REGISTRY, question,
        nothing="no cluster pulled copies of an image from two repositories",
    )  # fmt: skip


def _of_images(
    samples: pd.DataFrame, attribute: str, base: object, words: tuple[str, str, str, str, str]
) -> Card:
    """Card of a contrast within clusters; words: contrast, question, nothing, slower, faster."""
    contrast, question, nothing, slower, faster = words
    if samples[attribute].nunique() < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(contrast, question, nothing)
    if base not in set(samples[attribute]):
        base = samples[attribute].value_counts().index[0]
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
        samples[~samples["warm"]], "compression", "gzip 6",
        (Contrast.COMPRESSION, "Does the compression matter?",
         "all images are compressed in one way", "Yes: {} is slower.", "Yes: {} is faster."),
    )  # fmt: skip


def files(samples: pd.DataFrame) -> Card:
    """Compare numbers of files in images of one size."""
    return _of_images(
        samples[~samples["warm"]], "files", 1,
        (Contrast.FILES, "Do many small files take longer?",
         "all images have as many files in a layer", "Yes: {} files are slower.",
         "No: {} files are faster."),
    )  # fmt: skip


def upgrade(samples: pd.DataFrame) -> Card:
    """Compare a new version on nodes that have the old one with the old one's cold pull."""
    return _of_images(
        samples, "version", "v1",
        (Contrast.UPGRADE, "What does an upgrade cost a node that has the old version?",
         "no image is a second version", "More than the first pull.", "Less than the first pull."),
    )  # fmt: skip


def size(samples: pd.DataFrame) -> Card:
    """Seconds that a GB adds, between images with equal layers."""
    question = "How much does the size cost?"
    cold = samples[~samples["warm"]]
    feature, name = ("gb", "unpacked") if cold["gb"].notna().all() else ("wire_gb", "compressed")
    found = _slopes(cold, feature, ["layers"])
    if cold.empty or cold[feature].nunique() < 2:  # noqa: PLR2004 (a slope)
        return not_varied(Contrast.SIZE, question, "all images have one size, or none is known")
    if not found:
        return cannot_tell(Contrast.SIZE, question, None, "too few trials")
    cluster, trials, best = _best(found)
    clear = best.low > 0 or best.high < 0
    scale, unit, digits = (1.0, "GB", 2) if cold[feature].max() >= 1 else (0.001, "MB", 4)
    each = Slope(best.value * scale, best.low * scale, best.high * scale, best.freedom)
    return Card(
        Contrast.SIZE,
        question,
        "Larger images take longer." if best.low > 0 else "No effect of size found.",
        f"Each {name} {unit} takes {each.text(digits)} s.",
        f"{trials} trials on {cluster}",
        f"Not excluded: {each.low:.{digits}f} to {each.high:.{digits}f} s per {unit}. "
        "Measured on one cluster; another may differ.",
        _others(found, cluster, scale, f"s per {unit}", digits),
        answered=clear or best.freedom > 1,
    )


def layers(samples: pd.DataFrame) -> Card:
    """Compare images of one size with few and with many layers."""
    question = "Does the number of layers matter?"
    cold = samples[~samples["warm"] & samples["layers"].notna()]
    groups = cold.groupby(["cluster", "size", "what"], dropna=False)["layers"].nunique()
    if not (groups > 1).any():
        return not_varied(
            Contrast.LAYERS, question, "no two images of one size differ in their layers"
        )
    found = _slopes(cold, "layers", ["size", "what"])
    if not found:
        return cannot_tell(Contrast.LAYERS, question, None, "one trial each")
    cluster, trials, best = _best(found)
    per = Slope(best.value * 100, best.low * 100, best.high * 100, best.freedom)
    factors = _layer_factors(trials_of(cold[cold["cluster"] == cluster]))
    most = max(factors, default=1.0, key=lambda f: abs(np.log(f)))
    verdict = "No effect of layers found."
    if best.low > 0:
        small = "Layers matter, above all for small images."
        verdict = small if len(factors) > 1 and most > _MUCH else "More layers take longer."
    elif best.high < 0:
        verdict = "More layers take less time."
    return Card(
        Contrast.LAYERS,
        question,
        verdict,
        f"Each 100 layers take {per.text()} s more at one size.",
        f"{trials} trials on {cluster}",
        f"Not excluded: {per.low:.2f} to {per.high:.2f} s per 100 layers. "
        "Measured on one cluster; another may differ.",
        " ".join([_factor_text(trials_of(cold[cold["cluster"] == cluster])),
                  _others(found, cluster, 100, "s per 100 layers", 2)]).strip(),
    )  # fmt: skip


_MUCH = 1.2

_LEAST_SIZES = 5
"""With one cluster of each size, so many sizes are needed to tell a trend from single clusters."""

_LEAST_REPEATED = 4
"""Clusters of several sizes, some of a size repeated."""

_Slopes = dict[str, tuple[int, Slope]]


def _slopes(samples: pd.DataFrame, feature: str, held: Sequence[str]) -> _Slopes:
    """Return by cluster the number of trials used and the slope over a feature, all else held."""
    constant = [n for n in ("repository", "compression", "files", "version") if n != feature]
    found: _Slopes = {}
    if samples.empty:
        return found
    nodes = samples.groupby("cluster")["node"].nunique()
    for cluster, every in trials_of(samples[samples[feature].notna()]).groupby("cluster"):
        keys = key_of(every, [*held, *constant])
        varied = keys.map(every.groupby(keys)[feature].nunique()) > 1
        mine, keys = every[varied], keys[varied]
        if mine.empty or nodes[cluster] < LEAST_NODES:
            continue
        numbers = pd.factorize(keys)[0]
        seconds = samples[samples["cluster"] == cluster].pivot_table(
            index=["image", "turn"], columns="node", values="seconds"
        )
        one = slope(
            mine["seconds"].to_numpy(float),
            numbers,
            mine[feature].to_numpy(float),
            (node_error(seconds.to_numpy(float)), nodes[cluster] - 1),
        )
        if one:
            found[str(cluster)] = len(mine), one
    return found


def _best(found: _Slopes) -> tuple[str, int, Slope]:
    cluster = max(found, key=lambda name: (found[name][0], name))
    return cluster, *found[cluster]


def _others(found: _Slopes, shown: str, scale: float, unit: str, digits: int) -> str:
    rest = [
        f"{name}: "
        + Slope(s.value * scale, s.low * scale, s.high * scale, s.freedom).text(digits)
        + f" {unit}"
        for name, (_, s) in found.items()
        if name != shown
    ]
    return f"Other clusters: {'; '.join(rest)}." if rest else ""


def _extremes(trials: pd.DataFrame) -> pd.DataFrame:
    """Return by size the median seconds of the fewest and of the most layers."""
    rows = []
    for gb, mine in trials[trials["gb"].notna()].groupby("gb"):
        few, many = mine["layers"].min(), mine["layers"].max()
        if few < many:
            at = mine.groupby("layers")["seconds"].median()
            rows.append((gb, int(few), int(many), at[many] / at[few]))
    return pd.DataFrame(rows, columns=["gb", "few", "many", "factor"])


def _layer_factors(trials: pd.DataFrame) -> list[float]:
    return [float(factor) for factor in _extremes(trials)["factor"]]


def _factor_text(trials: pd.DataFrame) -> str:
    found = _extremes(trials)
    if found.empty:
        return ""
    shown = found.iloc[[0, -1]] if len(found) > 1 else found
    return (
        "; ".join(
            f"{row.gb * 1000:.0f} MB: {row.many} layers take {row.factor:.3g} times as long as "
            f"{row.few}"
            for row in shown.itertuples()
        )
        + "."
    )


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
    levels = sorted(set(cold[attribute]) - {""}, key=str)
    if len(levels) < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(contrast, question, nothing)
    found: list[tuple[str, Effect]] = []
    together = False
    for _, mine in cold.groupby(_held(cold, attribute)):
        together = together or len(set(mine[attribute])) > 1
        present = [level for level in levels if level in set(mine[attribute])]
        for level in present[1:]:
            pair = mine[mine[attribute].isin([present[0], level])]
            effect = between_clusters(pair, attribute, level)
            if effect:
                found.append((f"{level} against {present[0]}", effect))
    if not found:
        if together:
            return cannot_tell(contrast, question, None, "too few nodes with valid cells")
        return not_varied(contrast, question, "no two clusters differ in that alone")
    name, effect = max(found, key=lambda one: (one[1].answered, one[1].trials))
    effect = effect.at(1 - (1 - LEVEL) / len(found))
    level, _, base = name.partition(" against ")
    rest = "; ".join(f"{other}: {e.percent()}" for other, e in found if other != name)
    return of_effect(
        contrast, question, effect, slower=f"{base} is faster.", faster=f"{level} is faster.",
        detail=f"{name}. {rest}".strip(),
    )  # fmt: skip


def _held(samples: pd.DataFrame, attribute: str) -> list[str]:
    """Return what else must be equal; what is unknown of some clusters cannot be held."""
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
    samples: pd.DataFrame,
) -> tuple[pd.Series, pd.Series, pd.Series, int] | None:
    """Return by cluster: mean log median over shared images, its error by nodes, nodes; images."""
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
        logs = np.log(seconds.median(axis=1)).groupby(level=0).mean()
        y[cluster], counts[cluster] = logs.mean(), seconds.shape[1]
        errors[cluster] = node_error(seconds.to_numpy(float))
    return pd.Series(y), pd.Series(errors), pd.Series(counts), len(shared)


def cluster_size(samples: pd.DataFrame) -> Card:
    """Tell how pull time changes when the cluster doubles; each cluster is one observation."""
    question = "Does a pull take longer on a larger cluster?"
    cold = samples[~samples["warm"]]
    if cold["nodes"].nunique() < 2:  # noqa: PLR2004 (a comparison)
        return not_varied(Contrast.CLUSTER_SIZE, question, "all clusters have one size")
    found: list[tuple[str, Effect]] = []
    for _, mine in cold.groupby(_held(cold, "nodes")):
        for pulled in _comparable(mine):
            effect = _per_doubling(pulled)
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


def _per_doubling(samples: pd.DataFrame) -> Effect | None:
    table = _cluster_means(samples)
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


def streaming(samples: pd.DataFrame) -> Card:
    """Compare image streaming with plain pulls."""
    named = samples.assign(streaming=np.where(samples["streaming"], "streaming", "plain pulls"))
    return cluster_contrast(
        named, "streaming", Contrast.STREAMING, "Does image streaming shorten pulls?",
        nothing="no event tells that an image was streamed"
        if not samples["streaming"].any()
        else "every cluster streamed its images",
    )  # fmt: skip


def machine(samples: pd.DataFrame) -> Card:
    """Compare machine types."""
    return cluster_contrast(
        samples, "machine_type", Contrast.MACHINE, "Does the machine type matter?",
        nothing="all nodes are of one machine type, or it is unknown",
    )  # fmt: skip


CONTRASTS: dict[Contrast, Callable[[pd.DataFrame], Card]] = {
    Contrast.SIZE: size,
    Contrast.LAYERS: layers,
    Contrast.CLUSTER_SIZE: cluster_size,
    Contrast.REGISTRY: registry,
    Contrast.COMPRESSION: compression,
    Contrast.FILES: files,
    Contrast.UPGRADE: upgrade,
    Contrast.MACHINE: machine,
    Contrast.DISK: disk,
    Contrast.STREAMING: streaming,
    Contrast.ZONE: zone,
}
