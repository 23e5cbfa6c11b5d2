"""Which cells of a recording count, and why the others do not. Pure.

For runs of this project the ledger has decided, with more evidence; these rules are for other
recordings. A cell is valid if there is evidence of exactly one real pull on that node, with start
and end; otherwise the first matching rule decides. `trouble_spans` derives from events when a node
was short of disk or not ready.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schema.run_records import Status

PRESSURE_LASTS_S = 300
"""Duration of disk pressure without a recorded end: the kubelet's default
evictionPressureTransitionPeriod, 5 minutes."""

PRESSURE = frozenset(
    {"NodeHasDiskPressure", "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed"}
)
LOSS = frozenset({"NodeNotReady", "RemovingNode", "NodeShutdown"})
ENDS = frozenset({"NodeHasNoDiskPressure", "NodeReady"})

TROUBLE = """
reason <> 'ImageGCFailed' AND (reason <> 'EvictionThresholdMet'
    OR NOT regexp_matches(message, 'reclaim (memory|pids?)'))
OR reason = 'ImageGCFailed' AND regexp_matches(message, 'free')
"""
"""Condition in SQL: of its reasons, those that report other trouble than of disk are left out.

An ImageGCFailed without bytes to free reports missing statistics
(pkg/kubelet/images/image_gc_manager.go); a threshold can be one of memory or processes.
"""

FASTEST_BYTES_PER_S = 12.5e9
"""No node receives more: 100 Gbit/s, the largest of Google's machines that pull images. A pull that
seems to was of an image that was there."""

_OPEN = 2**62

Span = tuple[int, str, int, int, str, bool]
"""rec, node, first and last nanosecond, the event's reason, and whether the node was lost."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was recorded about one image on one node.

    Attributes:
        pods: pods of the image that were bound to the node.
        pulling: number of `Pulling` events.
        pulled: number of `Pulled` events of a real pull (`Successfully pulled`).
        cached: number of `Pulled` events that found the image on the node.
        failed: failed pull attempts.
        failure: message of the first failed attempt.
        eviction: message of an eviction of one of the pods; empty if none.
        pressure: reason of a disk-pressure event on the node during the pull; empty if none.
        lost: reason of the loss of the node during the pull; empty if none.
        moved_nothing: whether the pull was quicker than any network and nothing was streamed.
        earlier: whether an earlier Job pulled this image on this node.
        elsewhere: pods of the image on other nodes.
    """

    pods: int = 0
    pulling: int = 0
    pulled: int = 0
    cached: int = 0
    failed: int = 0
    failure: str = ""
    eviction: str = ""
    pressure: str = ""
    lost: str = ""
    moved_nothing: bool = False
    earlier: bool = False
    elsewhere: int = 0


def judge(evidence: Evidence) -> tuple[Status, str]:
    """Return the status of a cell and why it is excluded; an empty reason if it is valid."""
    for status, rule in _RULES:
        reason = rule(evidence)
        if reason:
            return status, reason
    return Status.VALID, ""


def _evicted(cell: Evidence) -> str:
    return f"a pod was evicted: {cell.eviction}" if cell.eviction else ""


def _node_lost(cell: Evidence) -> str:
    return f"the node was not ready while it pulled ({cell.lost})" if cell.lost else ""


def _failed(cell: Evidence) -> str:
    return f"the pull failed: {cell.failure}" if cell.failed and not cell.pulled else ""


def _retried(cell: Evidence) -> str:
    return f"the pull failed first ({cell.failure})" if cell.failed else ""


def _repeated(cell: Evidence) -> str:
    if cell.pulled < 2:  # noqa: PLR2004 (more than once)
        return ""
    return f"pulled {cell.pulled} times on this node: its pods shared the disk and the network"


def _disk_pressure(cell: Evidence) -> str:
    return f"the node was short of disk while it pulled ({cell.pressure})" if cell.pressure else ""


def _cached(cell: Evidence) -> str:
    return "the image was already on the node" if cell.cached and not cell.pulled else ""


def _implausible(cell: Evidence) -> str:
    if not cell.moved_nothing:
        return ""
    return (
        "the pull was quicker than any node receives the image's bytes "
        f"({FASTEST_BYTES_PER_S / 1e9:g} GB/s): they were on the node"
    )


def _missing_events(cell: Evidence) -> str:
    if cell.pulled:
        return _unbalanced(cell)
    if cell.pulling:
        return "Pulling was recorded but no end of the pull"
    if cell.pods:
        return f"{cell.pods} pods were bound to this node but no event of a pull was recorded"
    return f"no pod of this image ran on this node ({cell.elsewhere} ran on others)"


def _unbalanced(cell: Evidence) -> str:
    if cell.pulling == 0:
        return "Pulled was recorded without Pulling"
    if cell.pulling > cell.pulled:
        return f"{cell.pulling} Pulling events were recorded but {cell.pulled} Pulled"
    return ""


def _warm(cell: Evidence) -> str:
    if not cell.earlier:
        return ""
    return "an earlier Job pulled this image here; it is not proved that its layers were removed"


_RULES: tuple[tuple[Status, Callable[[Evidence], str]], ...] = (
    (Status.EVICTED, _evicted),
    (Status.NODE_LOST, _node_lost),
    (Status.FAILED, _failed),
    (Status.RETRIED, _retried),
    (Status.REPEATED, _repeated),
    (Status.DISK_PRESSURE, _disk_pressure),
    (Status.CACHED, _cached),
    (Status.CACHED, _implausible),
    (Status.MISSING_EVENTS, _missing_events),
    (Status.WARM_LAYERS, _warm),
)


def trouble_spans(events: Iterable[tuple[int, str, int, int, str]]) -> list[Span]:
    """Return spans of trouble from (rec, node, at_ns, last_ns, reason), in order of time.

    An event that happened several times stands for its first and its last time, and trouble lasts
    from one to the other unless its end was recorded between them. Pressure ends with
    NodeHasNoDiskPressure, or after PRESSURE_LASTS_S if that is not recorded; a lost node is lost
    until it is ready again.
    """
    ends = []
    open_spans: dict[tuple[int, str], list[tuple[int, int, str]]] = defaultdict(list)
    for rec, node, at, last, reason in events:
        if reason in ENDS:
            ends += [(at, rec, node, reason), *([(last, rec, node, reason)] if last > at else [])]
        else:
            open_spans[rec, node].append((at, max(at, last), reason))
    spans: list[Span] = []
    for end, rec, node, reason in sorted(ends):
        over = PRESSURE if reason == "NodeHasNoDiskPressure" else LOSS
        still: list[tuple[int, int, str]] = []
        for begin, last, why in open_spans[rec, node]:
            if why not in over or begin > end:
                still.append((begin, last, why))
                continue
            spans.append((rec, node, begin, end, why, why in LOSS))
            if last > end:
                still.append((last, last, why))
        open_spans[rec, node] = still
    for (rec, node), mine in open_spans.items():
        for begin, last, why in mine:
            until = _OPEN if why in LOSS else last + PRESSURE_LASTS_S * 10**9
            spans.append((rec, node, begin, until, why, why in LOSS))
    return spans
