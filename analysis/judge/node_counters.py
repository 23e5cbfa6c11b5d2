"""What a pull moved, from what its node's kubelet counted before and after the trial. Pure.

A kubelet renews its figures every ten seconds or so, and trials follow each other at once, so two
figures enclose one pull only nearly. They count where they cover it and little else; what they do
not tell is None. Also None is a count of bytes received that the image's compressed bytes exceed by
far: the counter is then of another interface than the one that pulls go through.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from schema.run_records import CellRecord, NodeStatsRecord

SLACK = 0.1
"""Share of a pull that figures may miss, and of its time that they may take from other pulls."""

_LEAST_RECEIVED = 0.5
"""Of the compressed bytes that a pull must fetch."""

Key = tuple[int, int, str]
"""Trial, attempt, node."""

_Span = tuple[datetime, datetime]


def moved_bytes(
    stats: Iterable[NodeStatsRecord], cells: Sequence[CellRecord]
) -> dict[Key, dict[str, int | None]]:
    """By trial, attempt and node: bytes received, bytes written, and bytes that stayed on disk."""
    figures: dict[Key, dict[str, NodeStatsRecord]] = defaultdict(dict)
    for one in stats:
        figures[one.trial, one.attempt, one.node][one.moment] = one
    pulls: dict[tuple[int, str], list[_Span]] = defaultdict(list)
    for cell in cells:
        if span := _pull(cell):
            pulls[cell.attempt, cell.node].append(span)
    found = {}
    for cell in cells:
        key = (cell.trial, cell.attempt, cell.node)
        pair = figures.get(key, {})
        own = _pull(cell)
        if own and pair.keys() >= {"before", "after"}:
            before, after = pair["before"], pair["after"]
            others = [span for span in pulls[cell.attempt, cell.node] if span != own]
            if _encloses((before.at, after.at), own, others):
                found[key] = _growth(before, after, cell)
    return found


def _pull(cell: CellRecord) -> _Span | None:
    begin, end = cell.phases.pulling_at, cell.phases.pulled_at
    return (begin, end) if begin and end and end > begin else None


def _encloses(window: _Span, own: _Span, others: Iterable[_Span]) -> bool:
    """Whether the time between two figures holds one pull, and hardly anything of another."""
    took = _seconds(own)
    foreign = sum(_seconds(_common(window, other)) for other in others)
    return _seconds(_common(window, own)) >= (1 - SLACK) * took and foreign <= SLACK * took


def _common(a: _Span, b: _Span) -> _Span:
    begin = max(a[0], b[0])
    return begin, max(begin, min(a[1], b[1]))


def _seconds(span: _Span) -> float:
    return (span[1] - span[0]).total_seconds()


def _growth(
    before: NodeStatsRecord, after: NodeStatsRecord, cell: CellRecord
) -> dict[str, int | None]:
    received = _more(before.received_bytes, after.received_bytes)
    must_fetch = (cell.image_bytes or 0) - cell.warm_bytes
    if received is not None and received < _LEAST_RECEIVED * must_fetch:
        received = None
    return {
        "received_bytes": received,
        "written_bytes": _more(before.written_bytes, after.written_bytes),
        "disk_bytes": _more(_on_disk(before), _on_disk(after)),
    }


def _more(before: int | None, after: int | None) -> int | None:
    """None also where a counter began anew in between."""
    return after - before if before is not None and after is not None and after >= before else None


def _on_disk(stats: NodeStatsRecord) -> int | None:
    images = stats.image_disk_used_bytes
    return images if images is not None else stats.disk_used_bytes
