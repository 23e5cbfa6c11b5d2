"""What limits a pull: from contrasts, else from roofs measured on the nodes, else only rates. Pure.

A contrast changes one part of a pull and shows whether the pull changes. A roof is the rate that a
node reached in one part alone: a pull above it refutes it, a pull near it may be limited by that
part, and a pull far below it is not.
"""

import pandas as pd

from analysis.ask.questions.cards import Card
from analysis.ask.questions.cluster_contrasts import disk
from analysis.ask.questions.contrasts import compression
from analysis.ask.samples import trials_of

NEAR = 0.8
"""Share of a roof from which a pull is near it."""
ABOVE = 1.05
"""Share from which a pull is above it: 5 % for the error of both rates."""

_PARTS = {
    "unpack_bytes_per_s": ("unpacking one layer", "Unpacking", "gb"),
    "write_bytes_per_s": ("writing to the disk", "The disk", "gb"),
    "receive_bytes_per_s": ("one blob from the registry", "The network", "wire_gb"),
}
"""Field of RoofRecord: what was measured, the part of a pull, and its bytes in the samples."""

_QUESTION = "What limits a pull: network, unpacking or disk?"


def limit(samples: pd.DataFrame, clusters: pd.DataFrame) -> Card:
    """Tell what limits a pull.

    Args:
        samples: pulls (samples.samples_of).
        clusters: Frames.clusters.
    """
    trials = trials_of(samples[~samples["warm"]]) if len(samples) else samples
    rates = _rates(trials)
    of_compression, of_disk = compression(samples), disk(samples)
    answered = []
    if of_compression.answered:
        faster = "faster" in of_compression.verdict
        plain = "none" in of_compression.verdict
        if of_compression.verdict.startswith("No difference above"):
            answered.append("Not what compression changes.")
        elif plain:
            answered.append("Unpacking." if faster else "The network.")
    if of_disk.answered and not of_disk.verdict.startswith("No"):
        answered.append("The disk.")
    shares = roof_shares(trials, clusters)
    roofs = _texts(shares) or _notes(clusters)
    if answered:
        known = [card for card in (of_compression, of_disk) if card.answered]
        detail = " ".join([*(card.detail for card in known), roofs]).strip()
        effects = "; ".join(card.effect for card in known)
        return Card(
            "limit", _QUESTION, " ".join(answered), effects, of_compression.basis, rates, detail
        )
    if len(shares):
        near = sorted({_PARTS[part][1] for part in shares[shares["near"]]["part"]})
        verdict = f"{near[0]}, by its measured roof." if len(near) == 1 else (
            "Cannot tell: several roofs are near." if near else "None of the measured parts."
        )  # fmt: skip
        where = ", ".join(sorted(set(shares["cluster"])))
        return Card(
            "limit", _QUESTION, verdict, roofs, f"roofs of {where}", rates,
            "Near a roof a pull is not much faster without a change of that part; whether such a "
            "change helps is what contrasts tell (compression, type of disk).",
            answered=len(near) < 2,  # noqa: PLR2004 (an answer is one part, or none of them)
        )  # fmt: skip
    return Card(
        "limit", _QUESTION, "Cannot tell: nothing isolates a limit.", rates,
        limits="Contrasts that would tell: compression, type of disk.", detail=roofs,
        answered=False,
    )  # fmt: skip


def roof_shares(trials: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    """Return cluster, part, roof (MB/s, median of its nodes), share of it, refuted, near.

    The share is that of the fastest trial, by its median pull.
    """
    rows = []
    for cluster, roofs in zip(clusters["cluster"], clusters["roofs"], strict=True):
        mine = trials[trials["cluster"] == cluster] if len(trials) else trials
        for part, (_, _, column) in _PARTS.items():
            known = [rate for roof in roofs if (rate := getattr(roof, part))]
            if not known or mine.empty or not mine[column].notna().any():
                continue
            roof = float(pd.Series(known).median())
            share = float((1e9 * mine[column] / mine["seconds"]).max()) / roof
            rows.append((cluster, part, roof / 1e6, share, share > ABOVE, NEAR <= share <= ABOVE))
    return pd.DataFrame(rows, columns=["cluster", "part", "roof", "share", "refuted", "near"])


def _texts(shares: pd.DataFrame) -> str:
    texts = [
        f"{_PARTS[row.part][0]} {row.roof:.3g} MB/s on {row.cluster}: pulls reach "
        f"{row.share * 100:.0f} %"
        + (", so it is no roof of a pull (refuted)" if row.refuted else "")
        for row in shares.itertuples()
    ]
    return f"Roofs measured on the nodes: {'; '.join(texts)}." if texts else ""


def _notes(clusters: pd.DataFrame) -> str:
    """Return why nodes that should have measured their roofs have none."""
    notes = sorted({roof.note for roofs in clusters["roofs"] for roof in roofs if roof.note})
    return f"No roof was measured: {'; '.join(notes)}." if notes else ""


def _rates(trials: pd.DataFrame) -> str:
    texts = []
    for column, what in (("gb", "unpacked"), ("wire_gb", "received")):
        rates = 1000 * trials[column] / trials["seconds"] if len(trials) else pd.Series([])
        rates = rates.dropna()
        if len(rates):
            low, high = rates.min(), rates.max()
            span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
            texts.append(f"{what} {span} MB/s")
    return f"Rates by trial: {', '.join(texts)}." if texts else ""
