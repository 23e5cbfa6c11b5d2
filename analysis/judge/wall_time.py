"""Where the wall time of a run went: each second to one part, a trial at a time and for the run.

Pure, over the records of a run (`run_wall_time`) or the moments of foreign trials (`account`). A
trial's time lies on one path: that of its last node, since nobody waits for the others. From the
end of the trial before, the path leads over release, binding, pull and start to the end of the
container and the moment when the runner knew of it; what lies between two moments goes to one
part. It deliberately mends no evidence: where a moment is not known, its time is 'unexplained'.

Where simulated nodes run `speed` times faster than the clock, time on the node counts `speed` times
(schema.run_records); time of the control plane and of the runner counts as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from analysis.judge.trial_moments import (
    BEFORE_PULL,
    RUNNING,
    Moments,
    begin_of,
    moments_of,
    own_seconds,
)
from schema.run_records import CellRecord, Phase, PhaseRecord, RunRecord, TrialRecord

PARTS = (
    "preflight",
    "provision",
    "prepare",
    "removal",
    "control plane",
    "start",
    "pull",
    "container",
    "settling",
    "runner",
    "collect",
    "teardown",
    "unexplained",
)
"""What time goes to, in the order of a run.

removal: taking images from the nodes before a trial; control plane: making the Job's pods, binding
them, and telling the runner that one has ended or that a node is lost; start: the kubelet's work on
a pod before and after its pull; pull; container: its program's own time; settling: the container's
time beyond that, while the disk still works off the pull; runner: what the runner waited or did
itself; the others are the phases of those names.
"""

_MEASURE_PARTS = PARTS[3:10]
_ORDER = {phase: number for number, phase in enumerate(Phase)}

_JOBS = "Jobs complete"
"""The runner's name for its wait for the Job controller at the end of the phase measure."""

PAUSE_S = 60.0
"""In a foreign recording a longer gap between two trials is a pause of the people, not a cost."""


@dataclass(frozen=True, slots=True)
class TrialTime:
    """A trial's time, from the end of the one before to its own end."""

    trial: int
    attempt: int
    image: str
    node: str
    """The last one to end."""
    begin_s: float
    """Since the run began, by the clock."""
    shift_s: float
    """Added to a moment of this trial before its pull (seconds since 1970): where that lies in the
    time that the run stands for, since it began and without pauses between attempts."""
    total_s: float
    parts: Mapping[str, float]
    usd: float | None
    """Of the whole cluster for this time."""

    @property
    def tag(self) -> str:
        """The image's tag, or the last part of a name without one."""
        return self.image.partition("@")[0].rpartition("/")[2].rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class WallTime:
    """A run's time. `parts` has a number for each of PARTS, and they add up to `total_s`."""

    clock_s: float
    """By the clock, without pauses between the attempts at a run."""
    total_s: float
    """What that stands for; `clock_s` unless simulated nodes ran faster than the clock."""
    parts: Mapping[str, float]
    usd: float | None
    """Of the cluster, from the begin of provision to the end of teardown; None without a price."""
    trials: tuple[TrialTime, ...]

    @property
    def explained(self) -> float:
        """Share of the time of which it is known what it went to; 1 for no time at all."""
        return 1 - self.parts["unexplained"] / self.total_s if self.total_s else 1.0


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some time and its part; `factor` is how many seconds one of it stands for."""

    begin: float
    end: float
    part: str
    factor: float = 1.0


def run_wall_time(
    record: RunRecord,
    phases: Sequence[PhaseRecord],
    trials: Sequence[TrialRecord],
    cells: Sequence[CellRecord],
) -> WallTime:
    """Say where the time of a run of this project went.

    Args:
        record: the run.
        phases: all phases that ended, of every attempt.
        trials: all trials that ended, of every attempt.
        cells: the ledger, of every attempt; what it does not hold is unexplained.
    """
    rate = record.outputs.usd_per_hour if record.outputs else None
    spans = _spans(phases)
    own_s = own_seconds(record.study.command)
    moments = moments_of(trials, cells, speed=record.speed, own_s=own_s)
    stretches: list[_Stretch] = []
    times: list[TrialTime] = []
    zero = min([span.begin for span in spans] + [begin_of(m) for m in moments], default=0.0)
    for span in _with_lost_measure(spans, moments):
        before = stretches[-1].end if stretches else span.begin
        if stretches and not span.resumed:
            stretches.append(_Stretch(before, max(before, span.begin), "runner"))
        begin = span.begin if span.resumed else max(before, span.begin)
        if span.phase is not Phase.MEASURE:
            stretches.append(_Stretch(begin, max(begin, span.end), span.phase.value))
            continue
        mine = [m for m in moments if begin <= begin_of(m) <= span.end]
        at = begin
        for one, after in zip_longest(mine, mine[1:]):
            limit = span.end if after is None else min(span.end, max(at, _turn_of(after)))
            path = _slot(one, at, limit, speed=record.speed, own_s=own_s)
            shift = sum(_parts(stretches).values()) - at
            times.append(_trial_time(one, path, zero, shift_s=shift, rate=rate))
            stretches += path
            at = path[-1].end if path else at
        stretches += _rest(mine, at, span)
    paid = [s for s in stretches if s.part != Phase.PREFLIGHT.value]
    return _sum_up(stretches, times, _usd(paid, rate))


def account(
    turns: Iterable[Moments], *, usd_per_hour: float | None = None, own_s: float = 0.0
) -> WallTime:
    """Say where the time of a foreign recording went; its trials alone are known.

    Args:
        turns: the trials' moments.
        usd_per_hour: price of the cluster.
        own_s: how long the containers' own program takes, if that is known.
    """
    stretches: list[_Stretch] = []
    times: list[TrialTime] = []
    known = sorted((t for t in turns if t.known_s is not None), key=begin_of)
    for turn in known:
        end = turn.known_s or 0.0
        at = stretches[-1].end if stretches else begin_of(turn)
        if begin_of(turn) - at > PAUSE_S:
            at = begin_of(turn)
        path = _slot(turn, at, max(at, end), speed=1.0, own_s=own_s)
        zero = begin_of(known[0])
        times.append(_trial_time(turn, path, zero, shift_s=-zero, rate=usd_per_hour))
        stretches += path
    return _sum_up(stretches, times, _usd(stretches, usd_per_hour))


def lines(time: WallTime) -> list[str]:
    """The account as lines of text, for a terminal."""
    text = [f"{'part':14} {'seconds':>9}  share"]
    text += [
        f"{part:14} {seconds:9.1f}  {seconds / time.total_s:5.1%}"
        for part, seconds in time.parts.items()
        if seconds > 0
    ]
    text.append(f"{'together':14} {time.total_s:9.1f}  {time.explained:5.1%} explained")
    if abs(time.total_s - time.clock_s) > 1:
        text.append(
            f"By the clock it took {time.clock_s:.1f} s: simulated nodes ran faster than it, and "
            "their time stands for as many times more."
        )
    if time.usd is not None:
        text.append(f"The cluster cost about {time.usd:.2f} USD at list price.")
    if time.trials:
        text += ["", *_trial_lines(time.trials)]
    return text


def _trial_lines(trials: Sequence[TrialTime]) -> list[str]:
    head = "".join(f" {part:>13}" for part in _MEASURE_PARTS)
    rows = [f"{'trial':>5} {'total':>8}{head} {'unexplained':>12}  image"]
    for one in trials:
        values = "".join(f" {one.parts[part]:13.2f}" for part in _MEASURE_PARTS)
        unknown = one.parts["unexplained"]
        rows.append(f"{one.trial:5} {one.total_s:8.2f}{values} {unknown:12.2f}  {one.tag}")
    return rows


@dataclass(frozen=True, slots=True)
class _Span:
    """A phase's time; `resumed` where a pause of the people lies before it."""

    phase: Phase
    begin: float
    end: float
    resumed: bool
    waited_for_jobs: float | None = None
    """Until when the runner waited for Jobs to be complete; None if it did not say."""


def _spans(phases: Sequence[PhaseRecord]) -> list[_Span]:
    ordered = sorted(phases, key=lambda phase: (phase.started_at, _ORDER[phase.phase]))
    spans: list[_Span] = []
    for phase in ordered:
        resumed = bool(spans) and _ORDER[phase.phase] <= _ORDER[spans[-1].phase]
        begin, end = phase.started_at.timestamp(), phase.ended_at.timestamp()
        waits = [step.ended_at.timestamp() for step in phase.steps if step.name == _JOBS]
        spans.append(_Span(phase.phase, begin, end, resumed, max(waits, default=None)))
    return spans


def _with_lost_measure(spans: Sequence[_Span], moments: Sequence[Moments]) -> list[_Span]:
    """The phases, and one for trials without: a runner that was killed wrote none for its last."""
    measured = [span for span in spans if span.phase is Phase.MEASURE]
    lost = [m for m in moments if not any(s.begin <= begin_of(m) <= s.end for s in measured)]
    added = []
    for attempt in sorted({m.attempt for m in lost}):
        mine = [m for m in lost if m.attempt == attempt]
        ends = [s for m in mine for _, s in m.path if s is not None]
        begin = min(begin_of(m) for m in mine)
        added.append(_Span(Phase.MEASURE, begin, max([begin, *ends]), resumed=False))
    return sorted([*spans, *added], key=lambda span: (span.begin, _ORDER[span.phase]))


def _turn_of(moments: Moments) -> float:
    """When a trial's turn has come, whatever became of the one before."""
    return moments.removal_s[0] if moments.removal_s else begin_of(moments)


def _slot(
    moments: Moments, begin: float, limit: float, *, speed: float, own_s: float
) -> list[_Stretch]:
    """A trial's time from `begin` on until its end; of one that never ended until `limit`."""
    stretches = _until_release(moments, begin)
    at = stretches[-1].end if stretches else begin
    missed = False
    for step, moment in moments.path[1:]:
        if moment is None:
            missed = True
            continue
        end = min(max(at, moment), limit)
        part = _across(moments, step) if missed else step
        stretches += _stretch(at, end, part, speed=speed, own_s=own_s)
        at, missed = end, False
    if moments.known_s is None and limit > at:
        stretches += _stretch(at, limit, _across(moments, ""), speed=speed, own_s=own_s)
    return stretches


def _until_release(moments: Moments, begin: float) -> list[_Stretch]:
    """Between two trials: the controllers', while they make the pods; else the runner's."""
    foreign = moments.released_s is None
    release = moments.staged_s if foreign else moments.released_s
    if release is None or release <= begin:
        return []
    if foreign:
        return [_Stretch(begin, release, "runner")]
    staged = moments.staged_s if moments.staged_s is not None else release
    made = moments.created_s
    if made is None:  # not recorded: pods of a Job that was made ahead are taken to have existed
        made = release if staged >= begin else begin
    marks = [(staged, "runner"), (made, "control plane"), (release, "runner")]
    if moments.removal_s:
        begun, ended = moments.removal_s
        marks = [(begun, "runner"), (ended, "removal"), *marks]
    stretches = []
    at = begin
    for moment, part in marks:
        end = min(max(at, moment), release)
        stretches.append(_Stretch(at, end, part))
        at = end
    return stretches


def _across(moments: Moments, step: str) -> str:
    """The part of a stretch within which a moment is not known."""
    if step == BEFORE_PULL:  # the moment of binding is missing: it was before the pull all the same
        return step
    if moments.lost:
        return "control plane"
    if moments.failed and moments.pulling_s is not None:
        return "pull"
    return "unexplained"


def _stretch(begin: float, end: float, part: str, *, speed: float, own_s: float) -> list[_Stretch]:
    if part == BEFORE_PULL:  # from the scheduler's moment to the kubelet's: no node's time
        return [_Stretch(begin, end, "start")]
    if part == RUNNING:
        own = min(end, begin + own_s / speed)
        return [
            _Stretch(begin, own, "container", speed),
            _Stretch(own, end, "settling", speed),
        ]
    return [_Stretch(begin, end, part, speed if part in {"pull", "start"} else 1.0)]


def _rest(mine: Sequence[Moments], at: float, span: _Span) -> list[_Stretch]:
    """After the last trial the runner waits for its Job to be complete, or long enough."""
    end = span.end
    complete = span.waited_for_jobs or (mine[-1].complete_s if mine else None)
    then = at if complete is None else min(max(at, complete), max(at, end))
    return [_Stretch(at, then, "control plane"), _Stretch(then, max(then, end), "runner")]


def _trial_time(
    moments: Moments,
    path: Sequence[_Stretch],
    zero: float,
    *,
    shift_s: float,
    rate: float | None,
) -> TrialTime:
    parts = _parts(path)
    total = sum(parts.values())
    begin = path[0].begin - zero if path else 0.0
    usd = None if rate is None else total / 3600 * rate
    return TrialTime(
        trial=moments.trial,
        attempt=moments.attempt,
        image=moments.image,
        node=moments.node,
        begin_s=begin,
        shift_s=shift_s,
        total_s=total,
        parts=parts,
        usd=usd,
    )


def _parts(stretches: Iterable[_Stretch]) -> dict[str, float]:
    parts = dict.fromkeys(PARTS, 0.0)
    for stretch in stretches:
        parts[stretch.part] += (stretch.end - stretch.begin) * stretch.factor
    return parts


def _usd(stretches: Iterable[_Stretch], rate: float | None) -> float | None:
    return None if rate is None else sum(_parts(stretches).values()) / 3600 * rate


def _sum_up(
    stretches: Sequence[_Stretch], trials: Sequence[TrialTime], usd: float | None
) -> WallTime:
    parts = _parts(stretches)
    clock = sum(stretch.end - stretch.begin for stretch in stretches)
    return WallTime(clock, sum(parts.values()), parts, usd, tuple(trials))
