"""A card: one question, its verdict in at most eight words, and what that rests on. Pure."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a figure alone needs no statistics
    from analysis.ask.effects import Effect

EQUAL_WITHIN = 0.05
"""An effect whose interval lies within ±5 % is called no difference."""


@dataclass(frozen=True)
class Card:
    """The answer to one question.

    Attributes:
        contrast: what varies: a schema.study.Contrast, or a name of its own.
        verdict: the answer in at most eight words.
        effect: the estimate with its interval; the observed difference if it has none.
        basis: what it rests on: trials, nodes, clusters.
        limits: what it cannot exclude, or why it is not answered.
        detail: more numbers.
        answered: whether the data answer the question.
        varied: whether the data vary what the question asks about.
        provenance: what was not measured; empty for measured data.
    """

    contrast: str
    question: str
    verdict: str
    effect: str = ""
    basis: str = ""
    limits: str = ""
    detail: str = ""
    answered: bool = True
    varied: bool = True
    provenance: str = ""


def not_varied(contrast: str, question: str, why: str) -> Card:
    """Return the card of a question that the data do not vary anything for."""
    return Card(contrast, question, "Not varied here.", limits=why, answered=False, varied=False)


def cannot_tell(
    contrast: str, question: str, effect: "Effect | None", why: str = "", detail: str = ""
) -> Card:
    """Return the card of a difference without an interval: what was observed, and why."""
    reason = why or (effect.why if effect else "")
    seen = f"Observed: {effect.percent()}." if effect and math.isfinite(effect.value) else ""
    basis = effect.basis() if effect else ""
    return Card(
        contrast, question, f"Cannot tell: {reason}.", seen, basis, _MISSING.get(reason, ""),
        detail, answered=False,
    )  # fmt: skip


_MISSING = {
    "one cluster each": "Two clusters also differ by day, place and hardware; only more clusters "
    "of each kind tell these apart.",
    "one trial each": "Two trials also differ by their moment; only repetitions tell that apart.",
}


def of_effect(
    contrast: str, question: str, effect: "Effect", *, slower: str, faster: str, detail: str = ""
) -> Card:
    """Return the card of an effect with its interval, in the words for slower and faster."""
    if not effect.answered:
        return cannot_tell(contrast, question, effect, detail=detail)
    low, high = effect.low, effect.high
    worst = max(abs(low - 1), abs(high - 1))
    if effect.clear:
        verdict = slower if effect.value > 1 else faster
        least, most = sorted((abs(low - 1), abs(high - 1)))
        limits = f"Not excluded: an effect of only {least:.1%}, or of {most:.1%}.".replace(
            "%", " %"
        )
    elif worst <= EQUAL_WITHIN:
        verdict = "No difference above 5 %."
        limits = f"Not excluded: a difference of up to {worst * 100:.1f} %."
    else:
        verdict = "No difference found."
        limits = f"Not excluded: {signed_percent(low)} to {signed_percent(high)}."
    if effect.clusters == 1:
        limits += " Measured on one cluster; another may differ."
    return Card(contrast, question, verdict, effect.percent(), effect.basis(), limits, detail)


def signed_percent(ratio: float) -> str:
    """Return a ratio as a signed change in per cent."""
    return f"{(ratio - 1) * 100:+.0f} %".replace("-", "\u2212")


def byte_size(value: float | None) -> str:
    """Return bytes as text with a decimal unit; a dash for None."""
    if value is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"
