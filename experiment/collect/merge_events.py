"""A run's events as evidence: the sources merged and reconciled, and clock offsets. Pure.

An event from several sources is one event; of its updates the latest counts. What an event means
for a cell is decided in experiment.collect.status_rules.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from pydantic import ValidationError

from schema.events import REASONS, KubeEvent, parse_event
from schema.evidence_records import CLOCK_OFF_S, SourceCount
from schema.run_records import EventRecord, GapRecord, Source, TrialRecord


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event, its latest update, and the sources that saw it."""

    event: KubeEvent
    sources: tuple[Source, ...]
    seen_at: datetime | None = None
    """When the watch first saw it, by the runner's clock; None if it came in a list, or never."""


def merge_events(records: Iterable[EventRecord]) -> list[SeenEvent]:
    """Merge the sources on the event's uid; keep the latest update of each event.

    Its count is the highest that any source has: GKE's own log has none. Records that are not
    events are ignored.
    """
    latest: dict[str, KubeEvent] = {}
    sources: dict[str, set[Source]] = defaultdict(set)
    seen_at: dict[str, datetime] = {}
    counts: dict[str, int] = {}
    for record in records:
        event = _parsed(record)
        if event is None:
            continue
        uid = event.metadata.uid
        sources[uid].add(record.source)
        if record.source is Source.WATCH and not record.listed:
            seen_at[uid] = min(record.received_at, seen_at.get(uid, record.received_at))
        known = latest.get(uid)
        if known is None or _version(event) > _version(known):
            latest[uid] = event
        if event.count:
            counts[uid] = max(event.count, counts.get(uid, 0))
    return [
        SeenEvent(
            event.model_copy(update={"count": counts.get(uid)}),
            tuple(sorted(sources[uid])),
            seen_at.get(uid),
        )
        for uid, event in latest.items()
    ]


def _parsed(record: EventRecord) -> KubeEvent | None:
    try:
        event = parse_event(record.event)
    except ValidationError:
        return None
    return event if event.metadata.uid else None


def _version(event: KubeEvent) -> tuple[int, int]:
    """Return a key to sort an event's updates: a source may omit version or count."""
    version = event.metadata.resourceVersion
    return int(version) if version.isdigit() else 0, event.count or 1


def clock_differences(events: Iterable[SeenEvent], pods: Collection[str]) -> dict[str, timedelta]:
    """Return for each reporter the runner's clock minus its own.

    An event's own time is by the reporter's clock, the time at which the watch saw it by the
    runner's; the median of their differences is the offset plus the delay of events.

    Args:
        events: of all sources, merged.
        pods: uids of the attempt's pods; other events may have been old when the watch started.
    """
    differences: dict[str, list[float]] = defaultdict(list)
    for seen in events:
        event = seen.event
        if (
            event.involved.uid in pods
            and event.node
            and event.at
            and seen.seen_at
            and (event.count or 1) == 1
        ):
            differences[event.node].append((seen.seen_at - event.at).total_seconds())
    return {node: timedelta(seconds=median(values)) for node, values in differences.items()}


@dataclass(frozen=True, slots=True)
class EventIndex:
    """Events by what they are about."""

    by_object: Mapping[str, Sequence[SeenEvent]]
    """By the object's uid."""
    by_node: Mapping[str, Sequence[SeenEvent]]
    """About nodes, by the node's name."""
    streaming: bool = False
    """Images are streamed: a pull ends before all its bytes are there."""
    differences: Mapping[str, timedelta] = field(default_factory=dict)
    """See `clock_differences`."""

    @property
    def offsets(self) -> dict[str, timedelta]:
        """Of the reporters whose clock is off: more than events are late."""
        off = timedelta(seconds=CLOCK_OFF_S)
        return {node: each for node, each in self.differences.items() if abs(each) > off}

    def on_runners_clock(self, seen: SeenEvent) -> datetime | None:
        """Return when an event last happened, by the runner's clock."""
        event = seen.event
        at = event.last_timestamp or event.at
        return at + self.differences.get(event.node, timedelta(0)) if at else None


def index_events(events: Sequence[SeenEvent], trials: Iterable[TrialRecord]) -> EventIndex:
    """Index events by what they are about; the trials' pods show how far clocks differ."""
    by_object: dict[str, list[SeenEvent]] = defaultdict(list)
    by_node: dict[str, list[SeenEvent]] = defaultdict(list)
    for seen in events:
        event = seen.event
        by_object[event.involved.uid].append(seen)
        if event.involved.kind == "Node":
            by_node[event.involved.name].append(seen)
    streaming = any(seen.event.reason == "ImageStreaming" for seen in events)
    pods = {pod.uid for trial in trials for pod in trial.pods}
    return EventIndex(by_object, by_node, streaming, clock_differences(events, pods))


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How far the sources of an attempt's events agree."""

    sources: dict[Source, SourceCount]
    seen_by_several: int
    seen_by_one: int
    seen_by_none: int


def reconcile(
    records: Iterable[EventRecord],
    trials: Iterable[TrialRecord],
    gaps: Iterable[GapRecord],
    *,
    exporter: bool,
) -> Reconciled:
    """Count what each source saw of the events about the pods of an attempt's trials.

    The exporter and the watch must have seen each event; GKE's native log is not on every cluster,
    so it counts only where it has any event.

    Args:
        records: of the run.
        trials: of the attempt.
        gaps: of the attempt.
        exporter: whether the cluster has one.
    """
    trials = list(trials)
    pods = {pod.uid for trial in trials for pod in trial.pods}
    seen: dict[str, set[Source]] = defaultdict(set)
    steps: set[tuple[str, str]] = set()
    updates: dict[Source, set[tuple[str, tuple[int, int]]]] = defaultdict(set)
    repeated: dict[Source, int] = defaultdict(int)
    for record in records:
        event = _parsed(record)
        if event is None or event.involved.uid not in pods:
            continue
        update = (event.metadata.uid, _version(event))
        repeated[record.source] += update in updates[record.source]
        updates[record.source].add(update)
        seen[event.metadata.uid].add(record.source)
        if not event.involved.is_init:
            steps.add((event.involved.uid, event.reason))
    held = {Source.WATCH, *updates, *({Source.EXPORTER} if exporter else set())}
    counts = {source: sum(source in by for by in seen.values()) for source in held}
    open_gaps = [gap for gap in gaps if not gap.recovered]
    return Reconciled(
        sources={
            source: SourceCount(
                seen=counts[source],
                lost=len(seen) - counts[source],
                repeated=repeated[source],
                gaps=sum(gap.source is source for gap in open_gaps),
            )
            for source in sorted(held)
        },
        seen_by_several=sum(len(by) > 1 for by in seen.values()),
        seen_by_one=sum(len(by) == 1 for by in seen.values()),
        seen_by_none=_never_seen(trials, steps),
    )


def _never_seen(trials: Iterable[TrialRecord], steps: set[tuple[str, str]]) -> int:
    """Count events that must exist, since a pod that succeeded went through every step."""
    return sum(
        (pod.uid, reason) not in steps
        for trial in trials
        for pod in trial.pods
        if pod.phase == "Succeeded"
        for reason in REASONS
    )
