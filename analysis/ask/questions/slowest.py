"""The slowest nodes: how far the tail of pull times reaches, who makes it, what it costs. Pure.

A Job of one pod a node starts when the slowest node has pulled, so the tail is a result of its own.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.ask.effects import LEAST_NODES
from analysis.ask.questions.cards import Card, not_varied
from analysis.ask.questions.cluster_contrasts import trend
from analysis.frames import Frames
from schema.run_records import Status

SLOW = 1.25
"""Times its cluster's median from which a node counts as slow, if the others vary much less."""
_CLEAR = 4.0

_ALONE = 1.5
"""Times its trial's median from which a single pull of an ordinary node is named."""

BIASED, LEAST_EXCLUDED = 1.25, 5
"""Excluded over valid pull times, and excluded pulls, from which exclusion counts as biased."""

_UNTIMED = tuple(
    status.value
    for status in (Status.FAILED, Status.EVICTED, Status.DISK_PRESSURE, Status.NODE_LOST)
)
"""Cells that may have been the slowest and have no valid duration."""

QUANTILES = {"p99": 0.99, "p999": 0.999}
"""Quantiles over pulls; each needs so many pulls that one of them lies beyond it."""


def relative_times(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the cold pulls with `relative`: seconds over the median of their trial.

    Clusters with fewer than LEAST_NODES nodes are left out.
    """
    cold = samples[~samples["warm"]]
    cold = cold[cold.groupby("cluster")["node"].transform("nunique") >= LEAST_NODES]
    median = cold.groupby(["cluster", "image", "repetition"])["seconds"].transform("median")
    return cold.assign(relative=cold["seconds"] / median)


def tails(samples: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cluster: how far its slowest pulls are from the median of their trial.

    Only trials that half of the nodes pulled count, since others lack their slowest pulls.

    Columns: cluster, nodes, pulls, trials; slowest (geometric mean over trials of maximum /
    median), slowest_least and slowest_most (over trials); p99 and p999 over all pulls (NaN if fewer
    than 100 or 1,000); waited_s (seconds that a node waited on average for the slowest one, summed
    over trials).
    """
    rows = []
    every = relative_times(samples)
    pulled = every.groupby(["cluster", "image", "repetition"])["node"].transform("nunique")
    for cluster, mine in every[pulled >= np.maximum(LEAST_NODES, every["nodes"] / 2)].groupby(
        "cluster"
    ):
        trials = mine.groupby(["image", "repetition"])
        most = trials["relative"].max()
        rows.append(
            {
                "cluster": str(cluster),
                "nodes": int(mine["nodes"].iloc[0]),
                "pulls": len(mine),
                "trials": len(most),
                "slowest": float(np.exp(np.log(most).mean())),
                "slowest_least": float(most.min()),
                "slowest_most": float(most.max()),
                **{name: _quantile(mine["relative"], q) for name, q in QUANTILES.items()},
                "waited_s": float((trials["seconds"].max() - trials["seconds"].mean()).sum()),
            }
        )
    names = ["cluster", "nodes", "pulls", "trials", "slowest", "slowest_least", "slowest_most",
             *QUANTILES, "waited_s"]  # fmt: skip
    return pd.DataFrame(rows, columns=names).sort_values("nodes", ignore_index=True)


def _quantile(values: pd.Series, q: float) -> float:
    return float(values.quantile(q)) if len(values) * (1 - q) >= 1 - 1e-9 else float("nan")


def slowest(frames: Frames, samples: pd.DataFrame) -> Card:
    """Tell how much longer the slowest node takes, by cluster size, and what that costs."""
    question = "How much longer does the slowest node take?"
    found = tails(samples)
    if found.empty:
        return not_varied("slowest", question, "no trial has valid pulls of half of its nodes")
    largest = found.iloc[-1]
    texts = [
        f"{row.cluster}: {row.slowest:.2f} times ({row.slowest_least:.2f} to "
        f"{row.slowest_most:.2f} over {row.trials} trials){_quantiles(row)}"
        for row in found.itertuples()
    ]
    cost = [text for row in found.itertuples() if (text := _cost(frames, row))]
    growth = _growth(samples)
    return Card(
        "slowest",
        question,
        f"{largest.slowest:.2f} times the median, on {largest.nodes} nodes.",
        f"Slowest pull of a trial over its median. {'; '.join(texts)}.{growth}",
        f"{int(found['pulls'].sum())} pulls, {int(found['trials'].sum())} trials",
        _exclusions(frames),
        f"Waiting for the slowest node: {'; '.join(cost)}." if cost else "",
    )


def _quantiles(row: Any) -> str:
    known = {name: getattr(row, name) for name in QUANTILES}
    shown = {"p99": "99 %", "p999": "99.9 %"}
    texts = [
        f"{shown[name]} of its pulls take at most {value:.2f} times"
        for name, value in known.items()
        if np.isfinite(value)
    ]
    return "".join(f", {text}" for text in texts)


def _growth(samples: pd.DataFrame) -> str:
    cold = samples[~samples["warm"]]
    if cold["nodes"].nunique() < 2:  # noqa: PLR2004 (a trend)
        return ""
    effect = trend(cold, tail=True)
    if effect is None:
        return ""
    why = f" ({effect.why})" if effect.why else ""
    return f" With each doubling of the nodes the slowest moves by {effect.percent()}{why}."


def _cost(frames: Frames, row: Any) -> str:
    cluster, waited = row.cluster, row.waited_s
    trials = frames.trials[frames.trials["cluster"] == cluster]
    total = float(trials["total_s"].sum())
    if not total:
        return ""
    usd = float(trials["usd"].sum(min_count=1)) * waited / total
    price = f", {usd:.2f} USD" if np.isfinite(usd) else ""
    share = f"{waited / total * 100:.1f} % of all trials"
    return f"{cluster} {waited:.0f} s a node, {share}{price}"


def _exclusions(frames: Frames) -> str:
    """Say whether slow pulls are missing because they were excluded."""
    clusters = frames.clusters["cluster"]
    ratio, count = excluded_ratio(frames.pulls[frames.pulls["cluster"].isin(clusters)])
    texts = []
    if count >= LEAST_EXCLUDED and not 1 / BIASED < ratio < BIASED:
        texts.append(
            f"Exclusion depends on the outcome: {count} excluded pulls took {ratio:.2f} times as "
            "long as valid ones of the same images."
        )
    cells = frames.cells[frames.cells["cluster"].isin(clusters)]
    counts = {status: int((cells["status"] == status).sum()) for status in _UNTIMED}
    if untimed := sum(counts.values()):
        cell = "cell has" if untimed == 1 else "cells have"
        which = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        texts.append(f"{untimed} {cell} no valid duration ({which}) and may have been slower.")
    return " ".join(texts)


def slow_nodes(
    samples: pd.DataFrame,
) -> tuple[list[tuple[float, str, str]], list[tuple[float, float, str, int]]]:
    """Return slow nodes as (factor, node, cluster), slowest first, and the span of each cluster.

    The factor is the mean over a node's pulls of pull / median of the trial. A span is (least,
    most, cluster, nodes); clusters with too few nodes have none.
    """
    found, spans = [], []
    for cluster, mine in relative_times(samples).groupby("cluster"):
        nodes = np.log(mine["relative"]).groupby(mine["node"]).mean()
        away = nodes - nodes.median()
        noise = 1.4826 * float(away.abs().median())
        slow = away[(away > np.log(SLOW)) & (away > _CLEAR * noise)]
        found += [(float(np.exp(value)), str(node), str(cluster)) for node, value in slow.items()]
        span = np.exp([away.min(), away.max()])
        spans.append((float(span[0]), float(span[1]), str(cluster), len(nodes)))
    return sorted(found, reverse=True), spans


def nodes(samples: pd.DataFrame) -> Card:
    """Name nodes that are slower than the others in all their pulls, and single slow pulls."""
    question = "Are some nodes slower than the others?"
    found, spans = slow_nodes(samples)
    if not spans:
        return not_varied("nodes", question, "too few nodes have valid cells")
    low, high, where, count = max(spans, key=lambda span: span[1] / span[0])
    effect = f"Nodes' pulls take {low:.2f} to {high:.2f} times their cluster's median on {where}."
    basis = f"{count} nodes on {where}"
    relative = relative_times(samples)
    evidence = [_evidence(relative, *each) for each in found[:5]]
    single = _single_pulls(relative, {node for _, node, _ in found})
    detail = " ".join([f"{'; '.join(evidence)}." if evidence else "", single]).strip()
    if not found:
        split = high / low > SLOW**2
        verdict = "Yes, nodes differ widely." if split else "No node stands out."
    else:
        more = len(found)
        verdict = "Yes: one node is slow." if more == 1 else f"Yes: {more} nodes are slow."
    return Card("nodes", question, verdict, effect, basis, detail=detail)


def _evidence(relative: pd.DataFrame, factor: float, node: str, cluster: str) -> str:
    """Return what shows that a node is slow: factor, trials in which it was last, its cost."""
    mine = relative[relative["cluster"] == cluster]
    trials = mine.groupby(["image", "repetition"])
    last = mine.loc[trials["seconds"].idxmax(), "node"] == node
    chance = stats.binomtest(int(last.sum()), len(last), 1 / mine["node"].nunique()).pvalue
    without = mine[mine["node"] != node].groupby(["image", "repetition"])["seconds"].max()
    cost = float((trials["seconds"].max() - without).sum())
    return (
        f"{node} ({cluster}) {factor:.2f} times, the slowest in {int(last.sum())} of {len(last)} "
        f"trials (by chance: p = {chance:.2g}), which lengthened them by {cost:.1f} s"
    )


def _single_pulls(relative: pd.DataFrame, slow: set[str]) -> str:
    alone = relative[(relative["relative"] >= _ALONE) & ~relative["node"].isin(slow)]
    if alone.empty:
        return ""
    worst = alone.sort_values("relative", ascending=False)
    shown = "; ".join(
        f"{row.node} ({row.cluster}) {row.relative:.2f} times for {row.image.rpartition('/')[2]}"
        for row in worst.head(3).itertuples()
    )
    return f"Single pulls of {_ALONE:g} times their trial's median or more: {len(alone)}: {shown}."


def excluded_ratio(pulls: pd.DataFrame) -> tuple[float, int]:
    """Return median excluded / median valid pull time over images with both, and how many pulls.

    (1, 0) if no image has both.
    """
    done = pulls[(pulls["outcome"] == "pulled") & (pulls["pull_s"] > 0)]
    valid = done["status"] == "valid"
    medians = [
        side.groupby("image", observed=True)["pull_s"].median()
        for side in (done[~valid], done[valid])
    ]
    ratios = (medians[0] / medians[1]).dropna()
    if ratios.empty:
        return 1.0, 0
    return float(np.exp(np.log(ratios).mean())), int((~valid).sum())
