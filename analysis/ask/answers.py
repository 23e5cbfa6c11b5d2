"""The cards of a report: for each contrast, what limits a pull, and where the time went. Pure.

Cards compare data of one kind only, never a rehearsal with a measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.ask.effects import signed
from analysis.ask.questions.cards import Card, not_varied
from analysis.ask.questions.claims import CLAIM, claims
from analysis.ask.questions.contrasts import CONTRASTS
from analysis.ask.questions.limit import limit
from analysis.ask.questions.readiness import readiness, readiness_of
from analysis.ask.questions.slowest import nodes, slowest
from analysis.ask.samples import no_samples, samples_of, starts_of, trial_order
from analysis.frames import Frames
from analysis.judge.wall_time import PARTS
from schema.run_records import Status
from schema.study import Contrast

_ORDERED = 0.6
"""Rank correlation of order and property from which a card says so."""


def all_cards(frames: Frames, samples: pd.DataFrame | None = None) -> list[Card]:
    """Return the cards of each kind of data; those not varied come last.

    Args:
        frames: what was recorded.
        samples: samples_of(frames), where the caller has them.
    """
    samples = samples_of(frames) if samples is None else samples
    cards = []
    for kind, clusters in frames.clusters.groupby("kind", sort=True):
        mine = replace(
            frames,
            clusters=clusters,
            trials=_of(frames.trials, clusters),
        )
        marks = sorted(set(clusters["provenance"]) - {"measured"})
        found = kind_cards(mine, samples[samples["kind"] == kind])
        cards += [replace(card, provenance="; ".join(marks)) for card in found]
    return cards


def _of(rows: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["cluster"].isin(clusters["cluster"])]


def kind_cards(frames: Frames, samples: pd.DataFrame) -> list[Card]:
    """Return the cards of data of one kind, the most important first."""
    named = {name for contrasts in frames.clusters["contrasts"] for name in contrasts}
    asked = [
        ask(starts_of(frames) if contrast is Contrast.PRELOADED else samples)
        for contrast, ask in CONTRASTS.items()
    ]
    cards = [_with_order(card, frames) for card in asked]
    cards = [_with_price(card, frames) for card in cards]
    if samples.empty:
        why = no_samples(replace(frames, cells=_of(frames.cells, frames.clusters)))
        short = "no duration by the kubelet" if why.startswith("none") else "no valid cell"
        cards = [replace(card, limits=short) for card in cards]
    rest: list[Callable[[], Card]] = [
        lambda: limit(samples, frames.clusters),
        lambda: slowest(frames, samples),
        lambda: nodes(samples),
        lambda: readiness(readiness_of(frames)),
        lambda: not_pulling(frames),
    ]
    cards += [ask() for ask in rest]
    cards += before_pulls(frames)
    cards += claims(samples)
    cards = [
        replace(card, varied=True, verdict="Cannot tell: it was not varied.")
        if card.contrast in named and not card.varied
        else card
        for card in cards
    ]
    return sorted(cards, key=lambda c: (not c.varied, c.contrast not in named, not c.answered))


def _with_order(card: Card, frames: Frames) -> Card:
    """Say on a card of size or layers if these went with the order of the trials."""
    column = {Contrast.SIZE: "unpacked_bytes", Contrast.LAYERS: "layers"}.get(card.contrast)  # type: ignore[call-overload]
    if column is None or not card.varied:
        return card
    ordered = [
        c for c in frames.clusters["cluster"] if abs(trial_order(frames, c, column)) > _ORDERED
    ]
    if not ordered:
        return card
    text = f" On {', '.join(ordered)} the order of the trials went with it: time may be a cause."
    return replace(card, limits=card.limits + text)


def before_pulls(frames: Frames) -> list[Card]:
    """Tell what MiniClusters do on a node before their pull; no card without MiniClusters."""
    cells = frames.cells[frames.cells["init_s"].notna() & (frames.cells["status"] == Status.VALID)]
    cells = cells[cells["cluster"].isin(frames.clusters["cluster"])]
    if cells.empty:
        return []
    begun = cells.groupby(["cluster", "trial"], observed=True)["pulling_at"]
    speeds = frames.clusters.set_index("cluster")["speed"]
    spread = begun.agg(lambda at: (at.max() - at.min()).total_seconds())
    spread *= speeds.reindex(spread.index.get_level_values("cluster")).to_numpy()
    low, middle, high = cells["init_s"].quantile([0.05, 0.5, 0.95])
    return [
        Card(
            "minicluster",
            "What does a MiniCluster do before its pull?",
            f"It copies Flux for {middle:.1f} s.",
            f"5 to 95 % of the cells: {low:.1f} to {high:.1f} s",
            f"{len(cells)} cells of {len(spread)} trials",
            "The copy writes to the disk that the pull unpacks to.",
            f"The pulls of a trial begin within {spread.median():.1f} s (median): they are not "
            "released together, as the pods are.",
        )
    ]


_NAMED_FROM = 0.005
"""A smaller share of the time is not named."""


def not_pulling(frames: Frames) -> Card:
    """Tell how much of the time is not pulling, on the path of each trial's slowest node."""
    question = "How much of the total time is not pulling?"
    sums = frames.trials.groupby("cluster")[["total_s", *PARTS]].sum()
    sums = sums[(sums["total_s"] > 0) & (sums["pull"] > 0)]
    if sums.empty:
        return not_varied("not-pulling", question, "no trial has both a start and an end")
    shares = 1 - sums["pull"] / sums["total_s"]
    low, high = (f"{value * 100:.0f}" for value in (shares.min(), shares.max()))
    span = low if low == high else f"{low} to {high}"
    total = sums.sum()
    parts = [(total[p] / total["total_s"], p) for p in PARTS if p != "pull"]
    text = ", ".join(
        f"{name} {share * 100:.1f} %" for share, name in sorted(parts, reverse=True)
        if share >= _NAMED_FROM
    )  # fmt: skip
    trials = int(frames.trials["cluster"].isin(sums.index).sum())
    return Card(
        "not-pulling",
        question,
        f"{span} % is not pulling.",
        f"Of all trials: {text}." if text else "",
        f"{trials} trial{'s' * (trials != 1)}, each on the path of its slowest node",
        "A slow node lengthens the pull on this path, so it makes the share smaller.",
        _growth(frames),
    )


def _growth(frames: Frames) -> str:
    """Describe what grows from the smallest to the largest cluster of one study."""
    firsts = frames.trials[frames.trials["pull"] > 0].drop_duplicates(["cluster", "image"])
    firsts = firsts.merge(
        frames.clusters[["cluster", "study", "machine_type", "nodes"]], on="cluster"
    )
    groups = [g for _, g in firsts.groupby(["study", "machine_type"]) if len(set(g["nodes"])) > 1]
    if not groups:
        return ""
    group = max(groups, key=lambda g: g["nodes"].nunique())
    sides = [group[group["nodes"] == end(group["nodes"])] for end in (min, max)]
    few, many = (
        side.assign(key=side["image"].str.replace("@.*", "", regex=True))
        .drop_duplicates("key").set_index("key")[["total_s", *PARTS]]
        for side in sides
    )  # fmt: skip
    shared = few.index.intersection(many.index)
    if shared.empty:
        return ""
    more = (many.loc[shared] - few.loc[shared]).sum()
    named = sorted(((more[p], p) for p in PARTS), key=lambda pair: -abs(pair[0]))
    text = ", ".join(f"{p} {signed(s)} s" for s, p in named if abs(s) >= 0.5)  # noqa: PLR2004
    small, large = (int(side["nodes"].iloc[0]) for side in sides)
    return (
        f"From {small} to {large} nodes (one cluster each), the time of the same "
        f"{len(shared)} images changes by {signed(more['total_s'])} s"
        + (f": {text}." if text else ".")
    )


def _with_price(card: Card, frames: Frames) -> Card:
    """Add time and price of the same images to the cards of machines and of streaming."""
    column = {Contrast.MACHINE: "machine_type", Contrast.STREAMING: "streaming"}.get(card.contrast)  # type: ignore[call-overload]
    if column is None:
        return card
    pairs = [
        (one, other)
        for _, same in frames.clusters.groupby("nodes")
        for one, other in _pairs(same, column)
    ]
    texts = [text for pair in pairs[:3] if (text := _jobs(frames, *pair, column))]
    return replace(card, detail=" ".join([card.detail, *texts]).strip()) if texts else card


def _pairs(clusters: pd.DataFrame, column: str) -> list[tuple[pd.Series, pd.Series]]:
    rows = [row for _, row in clusters.sort_values(column).iterrows() if row[column] != ""]
    return [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :] if a[column] != b[column]]


def _jobs(frames: Frames, one: pd.Series, other: pd.Series, column: str) -> str:
    """Compare two clusters by the whole trials of the images that both pulled, without gaps."""
    sides = []
    for cluster in (one, other):
        mine = frames.trials[(frames.trials["cluster"] == cluster["cluster"])]
        mine = mine[mine["pull"] > 0].assign(key=mine["image"].str.replace("@.*", "", regex=True))
        mine = mine.drop_duplicates("key").set_index("key")
        rate = mine["usd"].sum(min_count=1) / mine["total_s"].sum() if len(mine) else np.nan
        sides.append((mine["total_s"] - mine["runner"], rate))
    (a, rate_a), (b, rate_b) = sides
    shared = a.index.intersection(b.index)
    if shared.empty:
        return ""
    slow, fast = a[shared].sum(), b[shared].sum()
    names = [f"{c['cluster']} ({c[column]})" for c in (one, other)]
    text = (
        f"Whole trials of the same {len(shared)} images, observed, one cluster each: "
        f"{slow:.0f} s on {names[0]}, {fast:.0f} s on {names[1]}"
    )
    if np.isfinite(rate_a) and np.isfinite(rate_b):
        usd = slow * rate_a, fast * rate_b
        text += f"; {usd[0]:.2f} and {usd[1]:.2f} USD, {usd[1] / usd[0]:.3g} times"
    return text + "."


def untold(cards: Sequence[Card]) -> str:
    """Return the questions and published claims that nothing was varied for, a sentence each."""
    rest = [card for card in cards if not card.varied]
    names = [f"{c.contrast} ({c.limits})" for c in rest if not c.contrast.startswith(CLAIM)]
    published = [
        f"{c.contrast.removeprefix(CLAIM)} ({c.limits})"
        for c in rest
        if c.contrast.startswith(CLAIM)
    ]
    texts = [
        f"{head}: {'; '.join(dict.fromkeys(found))}."
        for head, found in (
            ("Not varied here", names),
            ("Published claims not tested here, and the study that tests them", published),
        )
        if found
    ]
    return " ".join(texts)
