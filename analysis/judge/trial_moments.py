"""The timestamps of a trial on its slowest node, from the records of a run. Pure.

wall_time.py assigns the time between them to parts. Only the last node to end matters, since the
trial does not wait for the others.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schema.run_records import CellRecord, Status, TrialRecord

BEFORE_PULL = "before pull"
"""From the binding of the pod to the start of its pull."""
RUNNING = "running"
"""From the start of the container to its end."""


CellKey = tuple[int, int, str]
"""Trial, attempt and node."""

_UNFINISHED = {Status.FAILED, Status.RETRIED, Status.ABORTED, Status.EVICTED}


@dataclass(frozen=True, slots=True)
class Moments:
    """A trial's timestamps on its last node, in seconds since 1970; None if unknown.

    Attributes:
        image: as the events name it.
        staged_s: the Job was created; in a foreign recording, its first pod was.
        created_s: all pods existed.
        removal_s: start and end of removing images from the nodes; None if nothing was removed.
        released_s: the scheduling gates were removed; None in a foreign recording.
        ended_s: the container ended.
        known_s: the runner observed the end; in a foreign recording, the Job was complete.
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


def begin_of(moments: Moments) -> float:
    """Return when a trial starts: its release, since it may be staged long before its turn."""
    at = moments.released_s
    if at is None:
        known = (moments.staged_s, moments.scheduled_s, moments.pulling_s, moments.pulled_s)
        at = min((k for k in known if k is not None), default=moments.known_s or 0.0)
    return at


def moments_of(
    trials: Sequence[TrialRecord], cells: Sequence[CellRecord], *, speed: float, own_s: float
) -> list[Moments]:
    """Return the timestamps of every released trial, in order of their start."""
    by_trial: dict[tuple[int, int], dict[str, CellRecord]] = defaultdict(dict)
    for cell in cells:  # if a cell was judged again, the last line counts
        by_trial[cell.trial, cell.attempt][cell.node] = cell
    ends = container_ends(trials, cells, speed=speed, own_s=own_s)
    found = [
        _moments(trial, _last_cell(trial, by_trial[trial.trial, trial.attempt]), ends)
        for trial in trials
        if trial.released_at is not None
    ]
    return sorted(found, key=begin_of)


def _last_cell(trial: TrialRecord, cells: Mapping[str, CellRecord]) -> CellRecord | None:
    """Return the cell that the runner waited for: its pod was seen to end last, or never."""
    seen = [(pod.over_seen, pod.node) for pod in trial.pods if pod.over_seen]
    if trial.last_finished_at is None:
        ended = {node for _, node in seen}
        open_cells = [cell for node, cell in cells.items() if node not in ended]
        return max(open_cells or cells.values(), key=_how_late, default=None)
    if seen:
        return cells.get(max(seen)[1])
    return max(cells.values(), key=_how_late, default=None)


def _how_late(cell: CellRecord) -> tuple[float, ...]:
    p = cell.phases
    moments = (p.finished_at, p.started_at, p.pulled_at, p.pulling_at, p.scheduled_at)
    return tuple(_seconds(moment) or 0.0 for moment in moments)


def _moments(trial: TrialRecord, cell: CellRecord | None, ends: Mapping[CellKey, float]) -> Moments:
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
    if ended is not None and known.known_s is not None:
        ended = min(ended, known.known_s)  # a node's clock may be ahead
    pulled, started = _seconds(p.pulled_at), _seconds(p.started_at)
    pulling = _seconds(p.pulling_at)
    if pulling is None and pulled is not None:  # the event is missing, or nothing was pulled
        wait = 0.0 if cell.status is Status.CACHED else cell.pull_and_wait_s
        pulling = None if wait is None else pulled - wait
    return replace(
        known,
        scheduled_s=_seconds(p.scheduled_at),
        pulling_s=pulling,
        pulled_s=pulled,
        started_s=started,
        ended_s=ended,
        complete_s=_seconds(p.job_complete_at),
        failed=cell.status in _UNFINISHED,
        lost=cell.status is Status.NODE_LOST,
    )


def container_ends(
    trials: Sequence[TrialRecord], cells: Iterable[CellRecord], *, speed: float, own_s: float
) -> dict[CellKey, float]:
    """Return when each container ended, in seconds since 1970; cells without an end are left out.

    The kubelet reports whole seconds, truncated. Within that second a container is assumed to end
    when its program does, `own_s` after its start, so that settling is only what is proved. If
    nodes run faster than the clock, a second is too coarse for that; then the delay until the
    runner observed the end is taken from the fastest pod of the run.
    """
    known = {
        (trial.trial, trial.attempt, pod.node): pod.over_seen.timestamp()
        for trial in trials
        for pod in trial.pods
        if pod.over_seen
    }
    delay_s = _least_delay(trials) if speed != 1 else None
    ends = {}
    for cell in cells:
        finished, started = cell.phases.finished_at, _seconds(cell.phases.started_at)
        if finished is None or started is None:
            continue
        key = (cell.trial, cell.attempt, cell.node)
        begin = finished.timestamp()
        end = max(begin, started + own_s / speed)
        if delay_s is not None and key in known:
            end = max(end, known[key] - delay_s)
        ends[key] = min(end, begin + 1)
    return ends


def _least_delay(trials: Sequence[TrialRecord]) -> float:
    """Return the least delay in seconds until the runner observes a container's end.

    The end is within the second that the kubelet reports, so the delay is at most the time since
    the start of that second; of many pods, some ended just then. At least a microsecond.
    """
    passed = [
        (pod.over_seen - pod.finished_at).total_seconds()
        for trial in trials
        for pod in trial.pods
        if pod.over_seen and pod.finished_at
    ]
    return max(min(passed, default=0.0), 1e-6)


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at else None
