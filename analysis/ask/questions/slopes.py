"""Cards of size and layers: seconds per GB and per layer within a cluster, all else equal. Pure."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.ask.effects import LEAST_NODES, Slope, node_error, slope
from analysis.ask.questions.cards import Card, byte_size, cannot_tell, not_varied
from analysis.ask.samples import key_of, trials_of
from schema.study import Contrast


def size(samples: pd.DataFrame) -> Card:
    """Seconds that a GB adds, between images with equal layers."""
    question = "How much does the size cost?"
    cold = samples[~samples["warm"]]
    feature, name = ("gb", "unpacked") if cold["gb"].notna().all() else ("wire_gb", "compressed")
    found = slopes_by_cluster(cold, feature, ["layers"])
    if cold.empty or cold[feature].nunique() < 2:  # noqa: PLR2004 (a slope)
        return not_varied(Contrast.SIZE, question, "all images have one size, or none is known")
    if not found:
        return cannot_tell(Contrast.SIZE, question, None, "too few trials")
    cluster, trials, best = best_slope(found)
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
    found = slopes_by_cluster(cold, "layers", ["size", "what"])
    if not found:
        return cannot_tell(Contrast.LAYERS, question, None, "one trial each")
    cluster, trials, best = best_slope(found)
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
"""From this factor between most and fewest layers on, layers matter for small images."""

Slopes = dict[str, tuple[int, Slope]]


def comparable_trials(
    samples: pd.DataFrame, feature: str, held: Sequence[str]
) -> Iterator[tuple[str, pd.DataFrame, NDArray[np.intp]]]:
    """Yield for each cluster its trials that differ in a feature alone, and the group of each."""
    constant = [n for n in ("repository", "compression", "files", "version") if n != feature]
    if samples.empty:
        return
    nodes = samples.groupby("cluster")["node"].nunique()
    for cluster, every in trials_of(samples[samples[feature].notna()]).groupby("cluster"):
        keys = key_of(every, [*held, *constant])
        varied = keys.map(every.groupby(keys)[feature].nunique()) > 1
        if varied.any() and nodes[cluster] >= LEAST_NODES:
            yield str(cluster), every[varied], pd.factorize(keys[varied])[0]


def slopes_by_cluster(samples: pd.DataFrame, feature: str, held: Sequence[str]) -> Slopes:
    """Return by cluster the number of trials used and the slope over a feature, all else held."""
    found: Slopes = {}
    for cluster, mine, numbers in comparable_trials(samples, feature, held):
        seconds = samples[samples["cluster"] == cluster].pivot_table(
            index=["image", "turn"], columns="node", values="seconds"
        )
        one = slope(
            mine["seconds"].to_numpy(float),
            numbers,
            mine[feature].to_numpy(float),
            (node_error(seconds.to_numpy(float)), seconds.shape[1] - 1),
        )
        if one:
            found[cluster] = len(mine), one
    return found


def best_slope(found: Slopes) -> tuple[str, int, Slope]:
    """Return cluster, trials and slope of the cluster with most trials."""
    cluster = max(found, key=lambda name: (found[name][0], name))
    return cluster, *found[cluster]


def _others(found: Slopes, shown: str, scale: float, unit: str, digits: int) -> str:
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
            f"{byte_size(1e9 * row.gb)}: {row.many} layers take {row.factor:.3g} times as long as "
            f"{row.few}"
            for row in shown.itertuples()
        )
        + "."
    )
