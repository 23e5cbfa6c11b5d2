"""Bytes that a pull moved, from the counters of its node's kubelet around the trial. Pure.

A kubelet updates its counters about every ten seconds, and trials follow each other at once, so two
readings enclose one pull only approximately. They are used if they cover the pull and little else;
otherwise the bytes are None. Received bytes far below the image's compressed bytes are also None:
that counter belongs to an interface that pulls do not use.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from schema.run_records import CellRecord, NodeStatsRecord

SLACK = 0.1
"""Share of a pull that the readings may miss, and of its time that other pulls may overlap."""

_LEAST_RECEIVED = 0.5
"""Least share of the compressed bytes that the counter must have received."""

Key = tuple[int, int, str]
"""Trial, attempt, node."""

_Span = tuple[datetime, datetime]


def moved_bytes(
    stats: Iterable[NodeStatsRecord], cells: Sequence[CellRecord]
) -> dict[Key, dict[str, int | None]]:
    """Return by (trial, attempt, node) the bytes of its pull.

    Keys of each entry: received_bytes (network), written_bytes (disk), disk_bytes (growth of the
    image disk); None where the counters do not show it. Cells without usable readings are absent.
    """
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
    """Return whether the time between two readings covers one pull and hardly any other."""
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
    """Return the growth; None also if the counter was reset in between."""
    return after - before if before is not None and after is not None and after >= before else None


def _on_disk(stats: NodeStatsRecord) -> int | None:
    images = stats.image_disk_used_bytes
    return images if images is not None else stats.disk_used_bytes
