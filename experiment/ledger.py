"""The ledger: for every cell its status, the reason, and which source saw which evidence. Pure.

A cell is called valid only on evidence of one real, cold, complete pull; anything less is named.
Cells are never dropped: a cell without any evidence is a line too. The first rule that fits
decides, in the order of `_RULES`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from analysis.pull_message import PullMessage, parse_pulled
from schema.events import REASONS, KubeEvent, parse_event
from schema.run_records import (
    CellPhases,
    CellRecord,
    EventRecord,
    PlannedTrial,
    Source,
    Status,
    TrialPod,
    TrialRecord,
)

WARM_SHARE = 0.01
"""A cell is warm when more than this share of its compressed bytes was on the node before."""

_SLACK = timedelta(seconds=2)  # node events carry whole seconds
_DISK_REASONS = frozenset({"NodeHasDiskPressure", "EvictionThresholdMet", "FreeDiskSpaceFailed"})
_LOST_REASONS = frozenset({"NodeNotReady", "RemovingNode", "NodeShutdown", "Rebooted"})


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event and the sources that saw it."""

    event: KubeEvent
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """All that is known of one cell."""

    trial: TrialRecord
    planned: PlannedTrial
    pod: TrialPod | None
    node: str
    pods_on_node: int
    steps: Mapping[str, Sequence[SeenEvent]]
    node_events: Sequence[KubeEvent]
    pulls: Sequence[PullMessage] = field(default=())

    @property
    def real_pulls(self) -> list[PullMessage]:
        return [pull for pull in self.pulls if not pull.cached]


def merge_events(records: Iterable[EventRecord]) -> list[SeenEvent]:
    """Merge the sources on the event's uid; of an event's versions the one counted most often.

    Records that are no events are passed over: the folder keeps them.
    """
    versions: dict[str, KubeEvent] = {}
    sources: dict[str, set[Source]] = defaultdict(set)
    for record in records:
        try:
            event = parse_event(record.event)
        except ValidationError:
            continue
        uid = event.metadata.uid
        sources[uid].add(record.source)
        known = versions.get(uid)
        if known is None or (event.count or 1) > (known.count or 1):
            versions[uid] = event
    return [SeenEvent(event, tuple(sorted(sources[uid]))) for uid, event in versions.items()]


def last_attempts(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Of each trial its last attempt, in the trials' order."""
    last: dict[int, TrialRecord] = {}
    for trial in trials:
        if trial.trial not in last or last[trial.trial].attempt <= trial.attempt:
            last[trial.trial] = trial
    return [last[number] for number in sorted(last)]


@dataclass(frozen=True, slots=True)
class _Index:
    """Events by what they are about."""

    by_object: Mapping[str, Sequence[SeenEvent]]
    by_node: Mapping[str, Sequence[KubeEvent]]
    job_completed_at: Mapping[str, datetime]


def make_ledger(
    run_id: str,
    planned: Sequence[PlannedTrial],
    trials: Iterable[TrialRecord],
    events: Sequence[SeenEvent],
    nodes: Sequence[str],
) -> list[CellRecord]:
    """Judge every cell of the given trials.

    Args:
        run_id: names the run in each line.
        planned: the run's plan; a trial is found by its number.
        trials: the attempts to judge, one a trial.
        events: merged (`merge_events`).
        nodes: names of the measured nodes; cell i of a trial belongs to nodes[i].
    """
    plan = {trial.trial: trial for trial in planned}
    found = _index(events)
    return [
        _cell(run_id, len(nodes), _gather(trial, plan[trial.trial], place, found), found)
        for trial in trials
        for place in enumerate(nodes)
    ]


def _index(events: Sequence[SeenEvent]) -> _Index:
    by_object: dict[str, list[SeenEvent]] = defaultdict(list)
    by_node: dict[str, list[KubeEvent]] = defaultdict(list)
    jobs: dict[str, datetime] = {}
    for seen in events:
        event = seen.event
        by_object[event.involved.uid].append(seen)
        if event.involved.kind == "Node":
            by_node[event.involved.name].append(event)
        if event.reason == "Completed" and event.involved.kind == "Job" and event.at:
            jobs[event.involved.name] = event.at
    return _Index(by_object, by_node, jobs)


def _gather(
    trial: TrialRecord, planned: PlannedTrial, place: tuple[int, str], found: _Index
) -> _Evidence:
    index, node = place
    pod = next((pod for pod in trial.pods if pod.index == index), None)
    steps: dict[str, list[SeenEvent]] = defaultdict(list)
    for seen in found.by_object.get(pod.uid, ()) if pod else ():
        steps[seen.event.reason].append(seen)
    messages = [parse_pulled(seen.event.message) for seen in steps.get("Pulled", ())]
    return _Evidence(
        trial=trial,
        planned=planned,
        pod=pod,
        node=node,
        pods_on_node=sum(other.node == node for other in trial.pods),
        steps=steps,
        node_events=found.by_node.get(node, ()),
        pulls=tuple(message for message in messages if message is not None),
    )


def _cell(run_id: str, nodes: int, evidence: _Evidence, found: _Index) -> CellRecord:
    status, reason = _judge(evidence)
    pod, trial = evidence.pod, evidence.trial
    pull = evidence.real_pulls[0] if len(evidence.real_pulls) == 1 else None
    return CellRecord(
        run=run_id,
        trial=trial.trial,
        repetition=trial.repetition,
        attempt=trial.attempt,
        nodes=nodes,
        reference=trial.reference,
        tag=evidence.planned.image.tag,
        node=evidence.node,
        pod=pod.pod if pod else "",
        pod_uid=pod.uid if pod else "",
        status=status,
        reason=reason,
        pull_s=pull.pull_s if pull else None,
        pull_and_wait_s=pull.pull_and_wait_s if pull else None,
        image_bytes=pull.image_bytes if pull else None,
        warm_bytes=evidence.planned.warm_bytes,
        sources={step: _sources(evidence.steps.get(step, ())) for step in REASONS},
        phases=CellPhases(
            released_at=trial.released_at,
            scheduled_at=_first(evidence.steps.get("Scheduled", ())),
            pulling_at=_first(evidence.steps.get("Pulling", ())),
            pulled_at=_first(evidence.steps.get("Pulled", ())),
            created_at=_first(evidence.steps.get("Created", ())),
            started_at=_first(evidence.steps.get("Started", ())),
            finished_at=pod.finished_at if pod else None,
            job_complete_at=found.job_completed_at.get(trial.job),
        ),
    )


def _sources(seen: Iterable[SeenEvent]) -> list[Source]:
    return sorted({source for one in seen for source in one.sources})


def _first(seen: Iterable[SeenEvent]) -> datetime | None:
    return min((one.event.at for one in seen if one.event.at), default=None)


def _judge(evidence: _Evidence) -> tuple[Status, str]:
    for status, rule in _RULES:
        reason = rule(evidence)
        if reason:
            return status, reason
    return Status.VALID, ""


def _evicted(cell: _Evidence) -> str:
    failure = cell.pod.failure if cell.pod else ""
    if "Evicted" in cell.steps or failure.startswith("Evicted"):
        return f"the pod was evicted: {failure or cell.steps['Evicted'][0].event.message}"
    return ""


def _node_lost(cell: _Evidence) -> str:
    if cell.pod and cell.pod.failure.startswith(("Deleted", "NodeLost", "NodeShutdown")):
        return f"the pod was lost with its node: {cell.pod.failure}"
    return _during(cell, _LOST_REASONS, "the node was not ready while it pulled")


def _cached(cell: _Evidence) -> str:
    if any(pull.cached for pull in cell.pulls) and not cell.real_pulls:
        return "the image was on the node already"
    return ""


def _retried(cell: _Evidence) -> str:
    failures = [*cell.steps.get("Failed", ()), *cell.steps.get("BackOff", ())]
    pulling = max((seen.event.count or 1 for seen in cell.steps.get("Pulling", ())), default=0)
    if cell.real_pulls and (failures or pulling > 1):
        return "the pull failed first and succeeded later"
    return ""


def _failed(cell: _Evidence) -> str:
    if cell.pod and cell.pod.failure:
        return f"the pod failed: {cell.pod.failure}"
    failures = cell.steps.get("Failed", ())
    return f"the pull failed: {failures[0].event.message}" if failures else ""


def _aborted(cell: _Evidence) -> str:
    if cell.pod is None:
        return f"this node had no pod: {cell.trial.error or 'no reason known'}"
    if cell.pod.node != cell.node:
        return (
            f"the pod ran on {cell.pod.node} and not here"
            if cell.pod.node
            else "the pod was never bound to this node"
        )
    if cell.pod.phase != "Succeeded":
        return f"the trial ended before the pod did: {cell.trial.error or 'no reason known'}"
    return ""


def _repeated(cell: _Evidence) -> str:
    pulling = cell.steps.get("Pulling", ())
    if len(cell.real_pulls) > 1 or len(pulling) > 1:
        return f"the node pulled it {max(len(cell.real_pulls), len(pulling))} times"
    if cell.pods_on_node > 1:
        return f"{cell.pods_on_node} pods of the trial ran on this node"
    if cell.pulls and len(cell.pulls) > len(cell.real_pulls):
        return "one container pulled it and another found it on the node"
    return ""


def _missing_events(cell: _Evidence) -> str:
    missing = [step for step in ("Pulling", "Pulled") if not cell.steps.get(step)]
    if missing:
        return f"no source saw the {' and '.join(missing)} event of this pod"
    if not cell.pulls:
        return f"the Pulled event says nothing known: {cell.steps['Pulled'][0].event.message}"
    reporters = {seen.event.node for step in ("Pulling", "Pulled") for seen in cell.steps[step]}
    if reporters != {cell.node}:
        return f"the pull's events were reported by {', '.join(sorted(reporters))}"
    return ""


def _disk_pressure(cell: _Evidence) -> str:
    return _during(cell, _DISK_REASONS, "the node was short of disk while it pulled")


def _warm_layers(cell: _Evidence) -> str:
    total = cell.planned.image.compressed_bytes
    if cell.planned.warm_bytes > WARM_SHARE * total:
        return (
            f"{cell.planned.warm_bytes} of {total} bytes were on the node before, "
            "left by earlier images of this run"
        )
    return ""


def _during(cell: _Evidence, reasons: frozenset[str], sentence: str) -> str:
    start = _first(cell.steps.get("Scheduled", ())) or cell.trial.released_at
    end = _first(cell.steps.get("Pulled", ())) or cell.trial.last_finished_at
    for event in cell.node_events:
        at = event.last_timestamp or event.at
        if event.reason not in reasons or at is None:
            continue
        if (start is None or at >= start - _SLACK) and (end is None or at <= end + _SLACK):
            return f"{sentence}: {event.message}"
    return ""


_RULES = (
    (Status.EVICTED, _evicted),
    (Status.NODE_LOST, _node_lost),
    (Status.RETRIED, _retried),
    (Status.FAILED, _failed),
    (Status.ABORTED, _aborted),
    (Status.CACHED, _cached),
    (Status.REPEATED, _repeated),
    (Status.MISSING_EVENTS, _missing_events),
    (Status.DISK_PRESSURE, _disk_pressure),
    (Status.WARM_LAYERS, _warm_layers),
)
