"""The ledger: for every cell its status, the reason, and which source saw which evidence. Pure.

A cell is valid only with evidence of one real, cold, complete pull; any other has a reason. Cells
are never dropped: a cell without evidence is a line too. experiment.collect.status_rules has the
rules and their order; this module gathers the evidence for them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from analysis.read.pull_message import parse_pulled
from experiment.collect.cache_states import cache_state
from experiment.collect.merge_events import EventIndex, SeenEvent
from experiment.collect.pull_spans import SpanIndex, span_columns, span_doubts
from experiment.collect.readings import claimed_bytes, reading_columns, reading_doubts
from experiment.collect.status_rules import RULES, CellEvidence, first_time
from experiment.collect.warm_layers import LayerHistory
from schema.events import REASONS
from schema.run_records import (
    CellPhases,
    CellRecord,
    GapRecord,
    JobRecord,
    NodeRecord,
    PlannedImage,
    PlannedTrial,
    RemovalRecord,
    RepositoryRecord,
    Source,
    SpanRecord,
    Status,
    TrialRecord,
)
from schema.study import Share


@dataclass(frozen=True, slots=True)
class RunHistory:
    """What is known besides the events of the trials that are judged."""

    trials: Sequence[TrialRecord] = ()
    """Of all attempts: they may have left layers on the nodes."""
    removals: Sequence[RemovalRecord] = ()
    present: Sequence[PlannedImage] = ()
    """Of pods that ran on every node before the first trial."""
    remover: PlannedImage | None = None
    nodes: Sequence[NodeRecord] = ()
    jobs: Sequence[JobRecord] = ()
    gaps: Sequence[GapRecord] = ()
    scale: float = 1.0
    """Images hold this fraction of the bytes that their tags claim."""
    speed: float = 1.0
    """How many times faster than the clock the nodes work."""
    lists: Sequence[RepositoryRecord] = ()
    """Of the remote repository."""
    preloaded: bool = False
    """The nodes have a secondary boot disk with container images."""
    shares: Sequence[Share] = ()
    """Of its image's bytes, which each pod was to read."""
    spans: Sequence[SpanRecord] = ()
    """Of the nodes' containerds, within pulls."""


def make_ledger(
    run_id: str,
    planned: Sequence[PlannedTrial],
    trials: Iterable[TrialRecord],
    events: EventIndex,
    nodes: Sequence[str],
    *,
    history: RunHistory | None = None,
) -> list[CellRecord]:
    """Judge every cell of the given trials.

    Args:
        run_id: names the run in each line.
        planned: the run's plan.
        trials: to judge, one attempt of each.
        events: of all sources, merged.
        nodes: names of the measured nodes; cell i of a trial belongs to nodes[i].
        history: of the run; by default the given trials are all of it.
    """
    trials = list(trials)
    history = history or RunHistory(trials=trials)
    return _Ledger(run_id, planned, events, nodes, history).judge(trials)


class _Ledger:
    def __init__(
        self,
        run_id: str,
        planned: Sequence[PlannedTrial],
        index: EventIndex,
        nodes: Sequence[str],
        history: RunHistory,
    ) -> None:
        self._run_id = run_id
        self._plan = {trial.trial: trial for trial in planned}
        self._index = index
        self._nodes = tuple(nodes)
        self._run = history
        self._layers = LayerHistory(
            planned,
            history.trials,
            history.removals,
            history.present,
            history.remover,
        )
        self._spans = SpanIndex(history.spans)
        self._complete_at = {job.job: job.at for job in history.jobs if job.complete}
        self._states: dict[tuple[int, str], list[NodeRecord]] = {}
        for state in sorted(history.nodes, key=lambda state: state.at):
            self._states.setdefault((state.attempt, state.node), []).append(state)

    def judge(self, trials: Sequence[TrialRecord]) -> list[CellRecord]:
        return [self._cell(evidence) for trial in trials for evidence in self._gather_trial(trial)]

    def _gather_trial(self, trial: TrialRecord) -> list[CellEvidence]:
        events = [self._events(trial, index) for index in range(len(self._nodes))]
        steps = [_by_reason(each, init=False) for each in events]
        pulls = [
            [pull for seen in each.get("Pulled", ()) if (pull := parse_pulled(seen.event.message))]
            for each in steps
        ]
        times = [pull.pull_s for each in pulls for pull in each if pull.pull_s is not None]
        pods = {pod.index: pod for pod in trial.pods}
        return [
            CellEvidence(
                trial=trial,
                planned=self._plan[trial.trial],
                pod=pods.get(index),
                node=node,
                pods_on_node=sum(pod.node == node for pod in trial.pods),
                steps=steps[index],
                view_steps=_by_reason(events[index], init=True),
                pulls=pulls[index],
                before=self._layers.before(trial, node),
                node_states=self._states.get((trial.attempt, node), ()),
                index=self._index,
                scale=self._run.scale,
                speed=self._run.speed,
                peers_s=median(times) if times else None,
                preloaded=self._run.preloaded,
            )
            for index, node in enumerate(self._nodes)
        ]

    def _events(self, trial: TrialRecord, index: int) -> list[SeenEvent]:
        pods = (pod for pod in trial.pods if pod.index == index)
        return [seen for pod in pods for seen in self._index.by_object.get(pod.uid, ())]

    def _cell(self, evidence: CellEvidence) -> CellRecord:
        status, reason = _judge(evidence)
        pod, trial = evidence.pod, evidence.trial
        pull = evidence.real_pulls[0] if len(evidence.real_pulls) == 1 else None
        if status is Status.PRELOADED:
            pull = None
        steps = evidence.steps
        pulling, pulled = (first_time(steps.get(step, ())) for step in ("Pulling", "Pulled"))
        times = (pulling, pulled) if pull else (None, None)
        spans = self._spans.find(evidence.node, trial.reference, *times)
        layers = len(evidence.planned.image.layers)
        doubts = span_doubts(spans, layers, pull.pull_s if pull else None)
        notes = [*self._notes(evidence), *doubts]
        return CellRecord(
            run=self._run_id,
            trial=trial.trial,
            repetition=trial.repetition,
            attempt=trial.attempt,
            nodes=len(self._nodes),
            reference=trial.reference,
            tag=evidence.planned.image.tag,
            node=evidence.node,
            pod=pod.pod if pod else "",
            pod_uid=pod.uid if pod else "",
            status=status,
            reason=reason,
            marks=tuple(notes),
            cluster=trial.cluster,
            cache=cache_state(trial, evidence.planned.image, self._run.lists, self._run.trials),
            pull_s=pull.pull_s if pull else None,
            pull_and_wait_s=pull.pull_and_wait_s if pull else None,
            image_bytes=pull.image_bytes if pull else None,
            warm_bytes=evidence.before.warm_bytes,
            **span_columns(spans, layers),
            **reading_columns(pod, self._run.shares),
            sources={step: _sources(steps.get(step, ())) for step in REASONS},
            phases=CellPhases(
                released_at=trial.released_at,
                scheduled_at=(pod.bound_at if pod else None)
                or first_time(steps.get("Scheduled", ())),
                view_started_at=first_time(evidence.view_steps.get("Started", ())),
                pulling_at=pulling,
                pulled_at=pulled,
                created_at=first_time(steps.get("Created", ())),
                started_at=first_time(steps.get("Started", ())),
                finished_at=pod.finished_at if pod else None,
                job_complete_at=self._complete_at.get(trial.job),
            ),
        )

    def _notes(self, cell: CellEvidence) -> Iterable[str]:
        """Yield what affected the cell without excluding it."""
        begin = cell.trial.released_at
        end = (cell.pod.over_seen if cell.pod else None) or cell.trial.last_finished_at
        for gap in self._run.gaps:
            if begin and gap.until >= begin and (end is None or gap.since <= end):
                what = "arrived late" if gap.recovered else "may be missing"
                yield f"events of the {gap.source} {what}: {gap.reason}"
        offset = self._index.offsets.get(cell.node)
        if offset is not None:
            yield _clock_sentence(offset)
        if cell.planned.view:
            yield from _view_notes(cell)
        if self._index.streaming:
            yield "images are streamed, so the pull time does not cover all bytes"
        yield from reading_doubts(
            cell.pod, self._run.shares, claimed_bytes(cell.planned.image, self._run.scale)
        )
        for state in cell.node_states:
            pressures = set(state.pressures) - {"DiskPressure"}
            if pressures and begin and state.at >= begin and (end is None or state.at <= end):
                yield f"the node had {', '.join(sorted(pressures))}"


def _by_reason(events: Iterable[SeenEvent], *, init: bool) -> dict[str, list[SeenEvent]]:
    """Return the events of a pod's init containers, or all others, by reason."""
    found: dict[str, list[SeenEvent]] = {}
    for seen in events:
        if seen.event.involved.is_init is init:
            found.setdefault(seen.event.reason, []).append(seen)
    return found


def _view_notes(cell: CellEvidence) -> Iterable[str]:
    """Yield what a MiniCluster's pod did on the node before its pull."""
    seen = cell.view_steps.get("Pulled", ())
    view = next((pull for one in seen if (pull := parse_pulled(one.event.message))), None)
    if view is None:
        yield "no source saw whether the Flux view was on the node"
    elif not view.cached:
        yield f"the Flux view was pulled first, in {view.pull_s or 0.0:.1f} s"
    yield "the Flux view was copied to the node's disk just before the pull"


def _clock_sentence(offset: timedelta) -> str:
    seconds = offset.total_seconds()
    return (
        f"the node's clock is {abs(seconds):.1f} s {'behind' if seconds > 0 else 'ahead of'} the "
        "runner's, so its times cannot be compared with others; durations are not affected"
    )


def _sources(seen: Iterable[SeenEvent]) -> list[Source]:
    return sorted({source for one in seen for source in one.sources})


def _judge(evidence: CellEvidence) -> tuple[Status, str]:
    for status, rule in RULES:
        reason = rule(evidence)
        if reason:
            return status, reason
    return Status.VALID, ""
