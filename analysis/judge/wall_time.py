"""Where the wall time of a run went: each second to one part, for each trial and for the run.

Pure, over the records of a run (`run_wall_time`) or the timestamps of foreign trials (`account`).
A trial's time is the path of its last node: from the end of the trial before, over release,
binding, pull and start to the end of the container and the moment when the runner observed it. The
time between two timestamps goes to one part. If a timestamp is missing, its time is 'unexplained';
nothing is interpolated.

If simulated nodes run `speed` times faster than the clock, time on the node counts `speed` times
(schema.run_records); time of the control plane and of the runner counts once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from analysis.judge.trial_moments import (
    BEFORE_PULL,
    RUNNING,
    Moments,
    begin_of,
    clock_offsets,
    moments_of,
)
from analysis.read.read_records import own_seconds
from schema.evidence_records import EvidenceRecord
from schema.output import OutputRow
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
"""Parts of the wall time, in the order of a run.

removal: removing images from the nodes before a trial; control plane: creating the Job's pods,
binding them, and reporting that one has ended or that a node is lost; start: the kubelet's work on
a pod before and after its pull; pull; container: the program's own time; settling: the container's
time beyond that, while the disk still writes what was pulled; runner: the runner's own work and
waits; the others are the phases of those names.
"""

_MEASURE_PARTS = PARTS[3:10]
_ORDER = {phase: number for number, phase in enumerate(Phase)}

_JOBS = "Jobs complete"
"""The runner's name for its wait for the Job controller at the end of the phase measure."""

PAUSE_S = 60.0
"""In a foreign recording, a longer gap between two trials is a pause and is not counted."""


@dataclass(frozen=True, slots=True)
class TrialTime:
    """A trial's time, from the end of the one before to its own end.

    Attributes:
        node: the last one to end.
        begin_s: seconds since the start of the run, by the clock.
        shift_s: added to a timestamp of this trial before its pull (seconds since 1970), gives the
            seconds since the start of the run that it represents, without pauses between attempts.
        total_s: seconds, the sum of `parts`.
        parts: seconds for each of PARTS.
        usd: price of the whole cluster for this time.
    """

    trial: int
    attempt: int
    image: str
    node: str
    begin_s: float
    shift_s: float
    total_s: float
    parts: Mapping[str, float]
    usd: float | None

    @property
    def tag(self) -> str:
        """The image's tag, or the last part of a name without one."""
        return self.image.partition("@")[0].rpartition("/")[2].rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class WallTime:
    """A run's time.

    Attributes:
        clock_s: seconds by the clock, without pauses between attempts.
        total_s: seconds that this represents: `clock_s` unless simulated nodes ran faster.
        parts: seconds for each of PARTS; they add up to `total_s`.
        usd: price of the cluster from provision to teardown, and between attempts while it was up;
            None without a price.
    """

    clock_s: float
    total_s: float
    parts: Mapping[str, float]
    usd: float | None
    trials: tuple[TrialTime, ...]

    @property
    def explained(self) -> float:
        """Share of the time that is assigned to a known part; 1 if there is no time."""
        return 1 - self.parts["unexplained"] / self.total_s if self.total_s else 1.0


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A period and its part; one second of it represents `factor` seconds."""

    begin: float
    end: float
    part: str
    factor: float = 1.0


def run_wall_time(
    record: RunRecord,
    phases: Sequence[PhaseRecord],
    trials: Sequence[TrialRecord],
    cells: Sequence[CellRecord],
    evidence: Iterable[EvidenceRecord] = (),
) -> WallTime:
    """Account for the time of a run of this project.

    Args:
        record: the run.
        phases: all phases that ended, of every attempt.
        trials: all trials that ended, of every attempt.
        cells: the ledger, of every attempt; time of cells that it lacks is unexplained.
        evidence: says which nodes' clocks were off.
    """
    rate = record.outputs.usd_per_hour if record.outputs else None
    spans = _spans(phases)
    own_s = own_seconds(record.study.command)
    offsets = clock_offsets(evidence)
    moments = moments_of(trials, cells, speed=record.speed, own_s=own_s, offsets=offsets)
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
    usd = _usd(paid, rate)
    if usd is not None and rate is not None:
        usd += _unrecorded_s(phases, paid) / 3600 * rate
    return _sum_up(stretches, times, usd)


def account(
    turns: Iterable[Moments], *, usd_per_hour: float | None = None, own_s: float = 0.0
) -> WallTime:
    """Account for the time of a foreign recording, where only the trials are known.

    Args:
        turns: the trials' timestamps.
        usd_per_hour: price of the cluster.
        own_s: seconds that the containers' program runs, if known.
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


def rows(time: WallTime) -> dict[str, list[OutputRow]]:
    """Return the account as tables: one row of the run, and one for each trial."""
    run = {"clock_s": time.clock_s, "total_s": time.total_s, "explained": time.explained}
    return {
        "run": [{**run, "usd": time.usd, **_part_columns(time.parts)}],
        "trials": [
            {
                "trial": one.trial,
                "attempt": one.attempt,
                "image": one.image,
                "node": one.node,
                "begin_s": one.begin_s,
                "total_s": one.total_s,
                "usd": one.usd,
                **_part_columns(one.parts),
            }
            for one in time.trials
        ],
    }


def _part_columns(parts: Mapping[str, float]) -> OutputRow:
    return {f"{name.replace(' ', '_')}_s": seconds for name, seconds in parts.items()}


def lines(time: WallTime) -> list[str]:
    """Return the account as lines of text, for a terminal."""
    text = [f"{'part':14} {'seconds':>9}  share"]
    text += [
        f"{part:14} {seconds:9.1f}  {seconds / time.total_s:5.1%}"
        for part, seconds in time.parts.items()
        if seconds > 0
    ]
    text.append(f"{'total':14} {time.total_s:9.1f}  {time.explained:5.1%} explained")
    if abs(time.total_s - time.clock_s) > 1:
        text.append(
            f"By the clock the run took {time.clock_s:.1f} s: simulated nodes ran faster than the "
            "clock, and their time is scaled accordingly."
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
    """A phase's time; `resumed` if there was a pause between attempts before it."""

    phase: Phase
    begin: float
    end: float
    resumed: bool
    waited_for_jobs: float | None = None
    """When the runner stopped waiting for Jobs to complete; None if not recorded."""


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
    """Return the phases, and one for trials without: a killed runner records no last phase."""
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
    """Return when a trial's turn starts, even if the one before has not ended."""
    return moments.removal_s[0] if moments.removal_s else begin_of(moments)


def _slot(
    moments: Moments, begin: float, limit: float, *, speed: float, own_s: float
) -> list[_Stretch]:
    """Return a trial's time from `begin` until its end, or until `limit` if it never ended."""
    own_s += moments.reading_s
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
    """Assign the time between two trials: to the control plane while it creates pods."""
    foreign = moments.released_s is None
    release = moments.staged_s if foreign else moments.released_s
    if release is None or release <= begin:
        return []
    if foreign:
        return [_Stretch(begin, release, "runner")]
    staged = moments.staged_s if moments.staged_s is not None else release
    made = moments.created_s
    if made is None:  # not recorded: pods of a Job that was staged ahead are assumed to exist
        made = release if staged >= begin else begin
    marks = [(staged, "runner"), (made, "control plane"), (release, "runner")]
    if moments.removal_s:
        started, ended = moments.removal_s
        marks = [(started, "runner"), (ended, "removal"), *marks]
    stretches = []
    at = begin
    for moment, part in marks:
        end = min(max(at, moment), release)
        stretches.append(_Stretch(at, end, part))
        at = end
    return stretches


def _across(moments: Moments, step: str) -> str:
    """Return the part of a period within which a timestamp is missing."""
    if step == BEFORE_PULL:  # only the time of binding is missing: the period is before the pull
        return step
    if moments.lost:
        return "control plane"
    if moments.failed and moments.pulling_s is not None:
        return "pull"
    return "unexplained"


def _stretch(begin: float, end: float, part: str, *, speed: float, own_s: float) -> list[_Stretch]:
    if part == BEFORE_PULL:  # between the scheduler's clock and the kubelet's: not node time
        return [_Stretch(begin, end, "start")]
    if part == RUNNING:
        own = min(end, begin + own_s / speed)
        return [
            _Stretch(begin, own, "container", speed),
            _Stretch(own, end, "settling", speed),
        ]
    return [_Stretch(begin, end, part, speed if part in {"pull", "start"} else 1.0)]


def _rest(mine: Sequence[Moments], at: float, span: _Span) -> list[_Stretch]:
    """Assign the time after the last trial: the wait for its Job, then the runner."""
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


def _unrecorded_s(phases: Iterable[PhaseRecord], paid: Sequence[_Stretch]) -> float:
    """Return for how long a cluster cost money that belongs to no stretch: between attempts."""
    seconds = 0.0
    for phase in phases:
        if phase.cluster_since and phase.cluster_until:
            since, until = phase.cluster_since.timestamp(), phase.cluster_until.timestamp()
            known = sum(max(0.0, min(s.end, until) - max(s.begin, since)) for s in paid)
            seconds += max(0.0, until - since - known)
    return seconds


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
