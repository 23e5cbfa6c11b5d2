"""Where a pull's time goes, by containerd's own spans: fetching and unpacking. Pure.

Both are wall time within the span of the kubelet's call of PullImage. `unpack_s` is the time in
which at least one layer was being unpacked, whatever was fetched meanwhile. `fetch_s` is all other
time of the call: requests, receiving and storing, and containerd's own work between and after them,
some 10 to 100 ms. So no moment counts twice, and the sum, which is the call's duration by
containerd's clock, can be compared with the kubelet's duration of the pull. `overlap_s` is the part
of `unpack_s` in which a request ran or a layer was fetched too.

containerd opens the span of a layer's unpacking before the layer is there, so unpacking begins at
the end of the layer's own fetching, if that is later. Where several layers are unpacked at once
the span ends with the layer's commit, which waits for the layers below it: `unpack_s` then holds
that waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schema.run_records import SpanKind, SpanRecord

TOLERANCE = 0.05
"""Part of the kubelet's duration by which the spans' sum may differ from it without a mark."""
LEAST_S = 0.1
"""Of the same, in seconds: the kubelet's call and its answer take time too."""
_EVENTS = timedelta(seconds=1)
"""By which a call may begin before the event Pulling, or after Pulled, both by the node's clock."""

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PullSpans:
    """One pull, in seconds."""

    fetch_s: float
    unpack_s: float
    overlap_s: float
    layers: int
    """Whose unpacking has a span."""

    @property
    def sum_s(self) -> float:
        """The whole call of PullImage."""
        return self.fetch_s + self.unpack_s


class SpanIndex:
    """The spans of a run's pulls by node and image."""

    def __init__(self, spans: Iterable[SpanRecord]) -> None:
        self._pulls: dict[tuple[str, str], list[SpanRecord]] = {}
        self._parts: dict[tuple[str, str], list[SpanRecord]] = {}
        for span in spans:
            if span.kind is SpanKind.PULL:
                digest = span.image.rpartition("@")[2]
                self._pulls.setdefault((span.node, digest), []).append(span)
            else:
                self._parts.setdefault((span.node, span.trace), []).append(span)

    def find(
        self, node: str, reference: str, pulling_at: datetime | None, pulled_at: datetime | None
    ) -> PullSpans | None:
        """Return the pull of an image on a node between two events; None without its spans."""
        if pulling_at is None or pulled_at is None:
            return None
        begin, end = pulling_at - _EVENTS, pulled_at + _EVENTS
        pulls = (
            pull
            for pull in self._pulls.get((node, reference.rpartition("@")[2]), ())
            if begin.timestamp() <= pull.begin_ns / 1e9 <= end.timestamp()
        )
        pull = max(pulls, key=lambda each: each.end_ns - each.begin_ns, default=None)
        parts = self._parts.get((node, pull.trace), ()) if pull else ()
        if pull is None or not any(part.kind is SpanKind.UNPACK for part in parts):
            return None
        return spans_of(pull, parts)


def spans_of(pull: SpanRecord, parts: Sequence[SpanRecord]) -> PullSpans:
    """Return the seconds of a pull from the spans of its trace."""
    fetches = [(each.begin_ns, each.end_ns) for each in parts if each.kind is SpanKind.FETCH]
    fetched = {each.layer: each.end_ns for each in parts if each.kind is SpanKind.FETCH}
    unpacks = [
        (max(each.begin_ns, fetched.get(each.layer, 0)), each.end_ns)
        for each in parts
        if each.kind is SpanKind.UNPACK
    ]
    bounds = (pull.begin_ns, pull.end_ns)
    either = _length(_union([*fetches, *unpacks], bounds))
    fetching, unpacking = (_length(_union(some, bounds)) for some in (fetches, unpacks))
    return PullSpans(
        fetch_s=(pull.end_ns - pull.begin_ns - unpacking) / 1e9,
        unpack_s=unpacking / 1e9,
        overlap_s=(fetching + unpacking - either) / 1e9,
        layers=len(unpacks),
    )


def span_columns(spans: PullSpans | None, layers: int) -> Mapping[str, float]:
    """Return the columns of a cell; none without the spans of all its image's layers."""
    if spans is None or spans.layers < layers:
        return {}
    return {
        "fetch_s": spans.fetch_s, "unpack_s": spans.unpack_s, "overlap_s": spans.overlap_s
    }  # fmt: skip


def span_doubts(spans: PullSpans | None, layers: int, pull_s: float | None) -> Iterable[str]:
    """Yield a sentence if the spans contradict the manifest or the kubelet's duration."""
    if spans is None or pull_s is None:
        return
    if spans.layers < layers:
        yield f"containerd's spans show the unpacking of {spans.layers} of {layers} layers"
    elif abs(spans.sum_s - pull_s) > max(LEAST_S, TOLERANCE * pull_s):
        yield (
            f"by containerd's spans the pull took {spans.sum_s:.2f} s, and {pull_s:.2f} s by the "
            "kubelet"
        )


def _union(intervals: Iterable[Interval], bounds: Interval) -> list[Interval]:
    """Return intervals that do not overlap, within bounds."""
    union: list[Interval] = []
    for begin, end in sorted(intervals):
        begin, end = max(begin, bounds[0]), min(end, bounds[1])  # noqa: PLW2901
        if begin >= end:
            continue
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((begin, end))
    return union


def _length(intervals: Iterable[Interval]) -> int:
    return sum(end - begin for begin, end in intervals)
