"""The timestamps of a trial on its slowest node, from the records of a run. Pure.

wall_time.py assigns the time between them to parts. Only the last node to end matters, since the
trial does not wait for the others.

A node's timestamps are by its own clock, which may be off. The time between two of them is right;
where they are is known from the runner's clock: after the pod was bound, and before the runner saw
it end. So they are moved together, by the offset that the events show (evidence.jsonl), and then as
far as these limits require. Timestamps that do not fit between the limits are unknown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schema.evidence_records import EvidenceRecord
from schema.run_records import CellRecord, Status, TrialPod, TrialRecord

BEFORE_PULL = "before pull"
"""From the binding of the pod to the start of its pull."""
RUNNING = "running"
"""From the start of the container to its end."""


CellKey = tuple[int, int, str]
"""Trial, attempt and node."""

Offsets = Mapping[tuple[int, str], float]
"""By attempt and reporter of events: the runner's clock less its own in seconds, if it is off."""

_COARSE_S = 1.0
"""By so much, timestamps may be outside their limits: a container's end is in whole seconds."""

_UNFINISHED = {Status.FAILED, Status.RETRIED, Status.ABORTED, Status.EVICTED}


@dataclass(frozen=True, slots=True)
class Moments:
    """A trial's timestamps on its last node, in seconds since 1970; None if unknown.

    Attributes:
        image: as the events name it.
        staged_s: the Job was created; in a foreign recording, its first pod was.
        created_s: all pods existed.
        removal_s: start and end of removing images from the nodes; None if nothing was removed.
        released_s: the runner began to bind the pods; None in a foreign recording.
        ended_s: the container ended.
        known_s: the runner observed the end; in a foreign recording, the Job was complete.
        reading_s: seconds for which the container read its image before the study's command.
        complete_s: the Job was complete; the runner waits for that only after the last trial.
        failed: the pull failed or never ended: time after its start belongs to the pull.
        lost: the node was lost: time after its last event is the wait for the control plane to
            notice.
    """

    trial: int
    attempt: int
    image: str
    node: str
    staged_s: float | None = None
    created_s: float | None = None
    removal_s: tuple[float, float] | None = None
    released_s: float | None = None
    scheduled_s: float | None = None
    pulling_s: float | None = None
    pulled_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    known_s: float | None = None
    reading_s: float = 0.0
    complete_s: float | None = None
    failed: bool = False
    lost: bool = False

    @property
    def path(self) -> list[tuple[str, float | None]]:
        """From release to end: each timestamp with the part of the time that leads to it."""
        return [
            ("runner", self.released_s),
            ("control plane", self.scheduled_s),
            (BEFORE_PULL, self.pulling_s),
            ("pull", self.pulled_s),
            ("start", self.started_s),
            (RUNNING, self.ended_s),
            ("control plane", self.known_s),
        ]


def clock_offsets(evidence: Iterable[EvidenceRecord]) -> dict[tuple[int, str], float]:
    """Return the offsets of clocks that are off; the last assessment of an attempt counts."""
    return {
        (one.attempt, reporter): seconds
        for one in {one.attempt: one for one in evidence}.values()
        for reporter, seconds in one.clock_offsets_s.items()
    }


def scheduler_offsets(offsets: Offsets, cells: Iterable[CellRecord]) -> dict[int, float]:
    """Return the offset of the scheduler's clock by attempt: it reports, and is no node."""
    nodes = {cell.node for cell in cells}
    return {attempt: seconds for (attempt, name), seconds in offsets.items() if name not in nodes}


def begin_of(moments: Moments) -> float:
    """Return when a trial starts: its release, since it may be staged long before its turn."""
    at = moments.released_s
    if at is None:
        known = (moments.staged_s, moments.scheduled_s, moments.pulling_s, moments.pulled_s)
        at = min((k for k in known if k is not None), default=moments.known_s or 0.0)
    return at


def moments_of(
    trials: Sequence[TrialRecord],
    cells: Sequence[CellRecord],
    *,
    speed: float,
    own_s: float,
    offsets: Offsets,
) -> list[Moments]:
    """Return the timestamps of every released trial by the runner's clock, in their order."""
    by_trial: dict[tuple[int, int], dict[str, CellRecord]] = defaultdict(dict)
    for cell in cells:  # if a cell was judged again, the last line counts
        by_trial[cell.trial, cell.attempt][cell.node] = cell
    ends = container_ends(trials, cells, speed=speed, own_s=own_s, offsets=offsets)
    schedulers = scheduler_offsets(offsets, cells)
    found = []
    for trial in trials:
        if trial.released_at is not None:
            last = _last_cell(trial, by_trial[trial.trial, trial.attempt], offsets)
            off_s = schedulers.get(trial.attempt, 0.0)
            found.append(_moments(trial, last, ends, offsets, scheduler_off_s=off_s))
    return sorted(found, key=begin_of)


def _last_cell(
    trial: TrialRecord, cells: Mapping[str, CellRecord], offsets: Offsets
) -> CellRecord | None:
    """Return the cell that the runner waited for: its pod was seen to end last, or never."""

    def how_late(cell: CellRecord) -> tuple[float, ...]:
        p = cell.phases
        offset_s = offsets.get((cell.attempt, cell.node), 0.0)
        steps = (p.finished_at, p.started_at, p.pulled_at, p.pulling_at)
        moments = [at.timestamp() + offset_s if at else 0.0 for at in steps]
        return (*moments, _seconds(p.scheduled_at) or 0.0)

    seen = [(pod.over_seen, pod.node) for pod in trial.pods if pod.over_seen]
    if trial.last_finished_at is None:
        ended = {node for _, node in seen}
        open_cells = [cell for node, cell in cells.items() if node not in ended]
        return max(open_cells or cells.values(), key=how_late, default=None)
    if seen:
        return cells.get(max(seen)[1])
    return max(cells.values(), key=how_late, default=None)


def _moments(
    trial: TrialRecord,
    cell: CellRecord | None,
    ends: Mapping[CellKey, float],
    offsets: Offsets,
    *,
    scheduler_off_s: float,
) -> Moments:
    removing, removed = _seconds(trial.removal_begun_at), _seconds(trial.removal_ended_at)
    known = Moments(
        trial=trial.trial,
        attempt=trial.attempt,
        image=trial.reference,
        node=cell.node if cell else "",
        staged_s=_seconds(trial.staged_at),
        created_s=_seconds(trial.all_created_at),
        removal_s=None if removing is None or removed is None else (removing, removed),
        released_s=_seconds(trial.released_at),
        known_s=_seconds(trial.last_finished_at),
    )
    if cell is None:
        return known
    p = cell.phases
    ended = ends.get((cell.trial, cell.attempt, cell.node))
    pulled, started = _seconds(p.pulled_at), _seconds(p.started_at)
    pulling = _seconds(p.pulling_at)
    if pulling is None and pulled is not None:  # the event is missing, or nothing was pulled
        wait = 0.0 if cell.status is Status.CACHED else cell.pull_and_wait_s
        pulling = None if wait is None else pulled - wait
    bound = [pod.bound_seen for pod in trial.pods if pod.node == cell.node and pod.bound_seen]
    scheduled = _seconds(p.scheduled_at)
    if scheduled is not None:
        seen = _seconds(min(bound, default=None))
        scheduled = _within(scheduled + scheduler_off_s, known.released_s, seen)
    node = _placed(
        (pulling, pulled, started, ended),
        offsets.get((cell.attempt, cell.node), 0.0),
        known.released_s if scheduled is None else scheduled,
        known.known_s,
    )
    return replace(
        known,
        scheduled_s=scheduled,
        pulling_s=node[0],
        pulled_s=node[1],
        started_s=node[2],
        ended_s=node[3],
        reading_s=cell.reading_s or 0.0,
        complete_s=_seconds(p.job_complete_at),
        failed=cell.status in _UNFINISHED,
        lost=cell.status is Status.NODE_LOST,
    )


def _within(at: float, earliest: float | None, latest: float | None) -> float:
    """Return the nearest time between two limits, either of which may be unknown."""
    at = at if latest is None else min(at, latest)
    return at if earliest is None else max(at, earliest)


def _placed(
    steps: tuple[float | None, float | None, float | None, float | None],
    offset_s: float,
    earliest: float | None,
    latest: float | None,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Move a node's timestamps together between two limits; all None if they do not fit."""
    known = [step for step in steps if step is not None]
    if not known:
        return steps
    first, last = min(known) + offset_s, max(known) + offset_s
    shift = offset_s
    if earliest is not None and first < earliest:
        shift += earliest - first
    elif latest is not None and last > latest:
        shift += latest - last
    too_early = earliest is not None and min(known) + shift < earliest - _COARSE_S
    too_late = latest is not None and max(known) + shift > latest + _COARSE_S
    if too_early or too_late:
        return None, None, None, None
    pulling, pulled, started, ended = (None if step is None else step + shift for step in steps)
    return pulling, pulled, started, None if ended is None else _within(ended, None, latest)


def container_ends(
    trials: Sequence[TrialRecord],
    cells: Iterable[CellRecord],
    *,
    speed: float,
    own_s: float,
    offsets: Offsets,
) -> dict[CellKey, float]:
    """Return when each container ended by its node's clock; cells without an end are left out.

    The kubelet reports whole seconds, truncated. Within that second a container is assumed to end
    when its program does, after its reading and `own_s`, so that settling is only what is proved.
    If nodes run faster than the clock, a second is too coarse for that; then the delay until the
    runner observed the end is taken from the fastest pod of the run.
    """
    known = {
        (trial.trial, trial.attempt, pod.node): _on_nodes_clock(trial, pod, offsets)
        for trial in trials
        for pod in trial.pods
        if pod.over_seen
    }
    delay_s = _least_delay(trials, offsets) if speed != 1 else None
    ends = {}
    for cell in cells:
        finished, started = cell.phases.finished_at, _seconds(cell.phases.started_at)
        if finished is None or started is None:
            continue
        key = (cell.trial, cell.attempt, cell.node)
        begin = finished.timestamp()
        end = max(begin, started + (own_s + (cell.reading_s or 0.0)) / speed)
        if delay_s is not None and key in known:
            end = max(end, known[key] - delay_s)
        ends[key] = min(end, begin + 1)
    return ends


def _least_delay(trials: Sequence[TrialRecord], offsets: Offsets) -> float:
    """Return the least delay in seconds until the runner observes a container's end.

    The end is within the second that the kubelet reports, so the delay is at most the time since
    the start of that second; of many pods, some ended just then. At least a microsecond. A pod that
    was seen to end before it did, by a clock that is ahead, says nothing.
    """
    passed = [
        _on_nodes_clock(trial, pod, offsets) - pod.finished_at.timestamp()
        for trial in trials
        for pod in trial.pods
        if pod.over_seen and pod.finished_at
    ]
    return max(min((one for one in passed if one >= 0), default=0.0), 1e-6)


def _on_nodes_clock(trial: TrialRecord, pod: TrialPod, offsets: Offsets) -> float:
    """Return when the runner saw that a pod was over, by the clock of the pod's node."""
    assert pod.over_seen is not None  # noqa: S101 (of pods that were seen to end)
    return pod.over_seen.timestamp() - offsets.get((trial.attempt, pod.node), 0.0)


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at else None
