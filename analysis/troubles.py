"""When nodes were short of disk or not ready, from their events. Pure."""

from collections import defaultdict
from collections.abc import Iterable

PRESSURE_LASTS_S = 300
"""Disk pressure without a recorded end counts for the kubelet's default of
evictionPressureTransitionPeriod, 5 minutes."""

PRESSURE = frozenset(
    {"NodeHasDiskPressure", "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed"}
)
LOSS = frozenset({"NodeNotReady", "RemovingNode", "NodeShutdown"})
ENDS = frozenset({"NodeHasNoDiskPressure", "NodeReady"})

_OPEN = 2**62

Span = tuple[int, str, int, int, str, bool]
"""rec, node, first and last nanosecond, the event's reason, and whether the node was lost."""


def trouble_spans(events: Iterable[tuple[int, str, int, str]]) -> list[Span]:
    """Spans of trouble from (rec, node, at_ns, reason), in the order of time within a node.

    Pressure ends with NodeHasNoDiskPressure, or after its usual time where that is not recorded; a
    lost node is lost until it is ready again.
    """
    open_spans: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
    spans: list[Span] = []
    for rec, node, at, reason in events:
        if reason not in ENDS:
            open_spans[rec, node].append((at, reason))
            continue
        over = PRESSURE if reason == "NodeHasNoDiskPressure" else LOSS
        mine = open_spans[rec, node]
        spans += [(rec, node, begin, at, why, why in LOSS) for begin, why in mine if why in over]
        mine[:] = [(begin, why) for begin, why in mine if why not in over]
    for (rec, node), mine in open_spans.items():
        for begin, why in mine:
            end = _OPEN if why in LOSS else begin + PRESSURE_LASTS_S * 10**9
            spans.append((rec, node, begin, end, why, why in LOSS))
    return spans
