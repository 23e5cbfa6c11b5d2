"""A run as a grid of characters, image by node: of the ledger, and of a run that goes on. Pure.

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
"""What a cell can be before the ledger has judged it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How a cell of some status is drawn."""

    sign: str
    plain: str
    """For terminals without Unicode."""
    colour: str
    meaning: str


MARKS: Mapping[str, Mark] = {
    Status.FAILED: Mark("f", "f", "red", "failed"),
    Status.EVICTED: Mark("e", "e", "red", "evicted"),
    Status.NODE_LOST: Mark("l", "l", "red", "node-lost"),
    Status.DISK_PRESSURE: Mark("d", "d", "red", "disk-pressure"),
    PROBLEM: Mark("!", "!", "red", "a problem"),
    Status.RETRIED: Mark("t", "t", "yellow", "retried"),
    Status.MISSING_EVENTS: Mark("m", "m", "yellow", "missing-events"),
    Status.CACHED: Mark("c", "c", "yellow", "cached"),
    Status.REPEATED: Mark("r", "r", "yellow", "repeated"),
    Status.WARM_LAYERS: Mark("w", "w", "yellow", "warm-layers"),
    Status.ABORTED: Mark("a", "a", "magenta", "aborted"),
    "": Mark("·", ".", "dim", "not yet"),
    STAGED: Mark("·", ".", "dim", "waits"),
    PULLING: Mark("▒", "~", "cyan", "pulls"),
    PULLED: Mark("▓", "=", "blue", "pulled"),
    ENDED: Mark("█", "#", "green", "ended"),
    Status.VALID: Mark("█", "#", "green", "valid"),
}
"""The worst first: a column of several cells shows the first that it has."""

_RANK = {status: rank for rank, status in enumerate(MARKS)}


def columns(nodes: int, width: int) -> int:
    """How many nodes a column stands for, so that all fit into a width."""
    return max(1, -(-nodes // max(width, 1)))


def row(statuses: Sequence[str], per_column: int, *, plain: bool = False) -> Text:
    """One image's cells as signs, in the order of the nodes."""
    text = Text()
    for start in range(0, len(statuses), per_column):
        mark = MARKS[min(statuses[start : start + per_column], key=_RANK.__getitem__)]
        text.append(mark.plain if plain else mark.sign, style=mark.colour)
    return text


def legend(statuses: Sequence[str], per_column: int, *, plain: bool = False) -> str:
    """What the signs in use mean."""
    used = [mark for status, mark in MARKS.items() if status in set(statuses)]
    signs = dict.fromkeys(f"{mark.plain if plain else mark.sign} {mark.meaning}" for mark in used)
    several = f"; a column is {per_column} nodes and shows the worst" if per_column > 1 else ""
    return ", ".join(signs) + several


def short_name(image: PlannedImage) -> str:
    """An image in few characters: layers and size where its tag says so, else the tag."""
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


def reasons(cells: Sequence[CellRecord]) -> list[Reason]:
    """Excluded cells counted by status and failure, the most frequent first."""
    excluded = [cell for cell in cells if cell.status is not Status.VALID]
    kinds = [(cell.status, cell_failure(cell) or "") for cell in excluded]
    first = dict(zip(reversed(kinds), reversed(excluded), strict=True))
    return [
        Reason(status, number, str(failure), first[status, failure].reason)
        for (status, failure), number in Counter(kinds).most_common()
    ]
