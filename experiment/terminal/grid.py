"""A run as a grid of characters, image by node: of the ledger, and of a run in progress. Pure.

Where there are more nodes than columns, a column stands for several and shows the worst of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from experiment.errors import cell_failure
from schema.image_tag import find_tag
from schema.run_records import CellRecord, PlannedImage, Status

STAGED, PULLING, PULLED, ENDED, PROBLEM = "staged", "pulling", "pulled", "ended", "problem"
"""Statuses of a cell before the ledger has judged it."""


@dataclass(frozen=True, slots=True)
class Sign:
    """How the cells of a status are drawn."""

    sign: str
    plain: str
    """For terminals without Unicode."""
    colour: str
    meaning: str


SIGNS: Mapping[str, Sign] = {
    Status.FAILED: Sign("f", "f", "red", "failed"),
    Status.EVICTED: Sign("e", "e", "red", "evicted"),
    Status.NODE_LOST: Sign("l", "l", "red", "node-lost"),
    Status.DISK_PRESSURE: Sign("d", "d", "red", "disk-pressure"),
    PROBLEM: Sign("!", "!", "red", "problem"),
    Status.RETRIED: Sign("t", "t", "yellow", "retried"),
    Status.MISSING_EVENTS: Sign("m", "m", "yellow", "missing-events"),
    Status.CACHED: Sign("c", "c", "yellow", "cached"),
    Status.REPEATED: Sign("r", "r", "yellow", "repeated"),
    Status.WARM_LAYERS: Sign("w", "w", "yellow", "warm-layers"),
    Status.ABORTED: Sign("a", "a", "magenta", "aborted"),
    "": Sign("·", ".", "dim", "not started"),
    STAGED: Sign("·", ".", "dim", "waiting"),
    PULLING: Sign("▒", "~", "cyan", "pulling"),
    PULLED: Sign("▓", "=", "blue", "pulled"),
    ENDED: Sign("█", "#", "green", "ended"),
    Status.PRELOADED: Sign("█", "o", "blue", "preloaded"),
    Status.VALID: Sign("█", "#", "green", "valid"),
}
"""The worst first: a column of several cells shows the first that it has."""

_RANK = {status: rank for rank, status in enumerate(SIGNS)}


def columns(nodes: int, width: int) -> int:
    """Return how many nodes a column stands for, so that all fit into a width."""
    return max(1, -(-nodes // max(width, 1)))


def row(statuses: Sequence[str], per_column: int, *, plain: bool = False) -> Text:
    """Return one image's cells as signs, in the order of the nodes."""
    text = Text()
    for start in range(0, len(statuses), per_column):
        sign = SIGNS[min(statuses[start : start + per_column], key=_RANK.__getitem__)]
        text.append(sign.plain if plain else sign.sign, style=sign.colour)
    return text


def legend(statuses: Sequence[str], per_column: int, *, plain: bool = False) -> str:
    """Return what the signs in use mean."""
    used = [sign for status, sign in SIGNS.items() if status in set(statuses)]
    signs = dict.fromkeys(f"{sign.plain if plain else sign.sign} {sign.meaning}" for sign in used)
    several = f"; a column is {per_column} nodes and shows the worst" if per_column > 1 else ""
    return ", ".join(signs) + several


def short_name(image: PlannedImage) -> str:
    """Return an image in few characters: layers and size where its tag has them, else the tag."""
    claim = find_tag(image.tag)
    if claim is None:
        return image.tag[:28]
    rest = image.tag.rpartition("-bytes")[2]
    return f"{claim.layers:>3} x {claim.size_bytes / 1e6:>8.1f} MB{rest}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why cells are excluded."""

    status: Status
    cells: int
    failure: str
    """Its name in experiment.errors, empty if it has none."""
    example: str
    """The reason of the first of them, as the ledger has it."""


def verdict(cells: Sequence[CellRecord], planned: int, kind: str = "") -> str:
    """Return how many of the planned cells are valid, and how many preloaded if any is.

    Args:
        cells: judged ones.
        planned: number of cells.
        kind: what they are of, with a leading space.
    """
    counts = Counter(cell.status for cell in cells)
    found = f"{counts[Status.VALID]} of {planned} cells{kind} are valid"
    preloaded = counts[Status.PRELOADED]
    return f"{found}, {preloaded} preloaded" if preloaded else found


def reasons(cells: Sequence[CellRecord]) -> list[Reason]:
    """Count excluded cells by status and failure, the most frequent first."""
    excluded = [cell for cell in cells if not cell.status.intended]
    kinds = [(cell.status, cell_failure(cell) or "") for cell in excluded]
    first = dict(zip(reversed(kinds), reversed(excluded), strict=True))
    return [
        Reason(status, number, str(failure), first[status, failure].reason)
        for (status, failure), number in Counter(kinds).most_common()
    ]
