"""Formats numbers and names of images. Pure."""

import math
from collections import Counter
from collections.abc import Iterable

from analysis.ask.questions.cards import byte_size
from schema.image_tag import find_tag


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 trial`, `6 trials`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def seconds(value: float | None) -> str:
    """Return a duration in seconds as text; a dash for None or NaN."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004 (about three digits)


def short_name(tag: str) -> str:
    """Return `19 GB, 9 layers` for a tag that claims so, else the tag."""
    claim = find_tag(tag)
    if claim is None:
        return tag
    salt = f" {claim.salt}" if claim.salt else ""
    return f"{byte_size(claim.size_bytes)}, {counted(claim.layers, 'layer')}{salt}"


def short_names(tags: Iterable[str]) -> dict[str, str]:
    """Return the short name of each tag, or the tag itself if its short name is not unique."""
    distinct = set(tags)
    counts = Counter(short_name(tag) for tag in distinct)
    return {t: short_name(t) if counts[short_name(t)] == 1 else t for t in distinct}
