"""The rules that decide a cell's status; each returns a reason, or nothing. Pure.

`RULES` has them in their order: the first that returns a reason decides. experiment.collect.ledger
gathers the evidence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from analysis.judge.exclusions import FASTEST_BYTES_PER_S
from analysis.read.pull_message import PullMessage
from experiment.collect.merge_events import EventIndex, SeenEvent
from experiment.collect.warm_layers import Before
from schema.image_tag import find_tag
from schema.run_records import NodeRecord, PlannedTrial, Status, TrialPod, TrialRecord

WARM_SHARE = 0.01
"""A cell is warm when more than this share of its compressed bytes was on the node before."""

FASTEST_UNPACK_BYTES_PER_S = 5e9
"""No node unpacks faster: gunzip alone takes three times as long on one core."""

NOTHING_MOVED_S = 0.5
"""A pull that moves nothing takes less: it reads the manifest (33 to 64 ms were measured, 0.4 s on
a busy machine; a distant registry adds some tenths)."""

PEERS_SHARE = 0.25
"""A pull as quick as one that moves nothing is refused below this share of its trial's median."""

CLOCK_TOLERANCE_S = 1.0
CLOCK_TOLERANCE_SHARE = 0.05
"""Allowed difference between the kubelet's message and the clock of its events, about one pull."""

_WHOLE_SECOND = timedelta(seconds=1)  # node events carry no fractions
_SLACK = 2 * _WHOLE_SECOND
_DISK_REASONS = frozenset(
    {"NodeHasDiskPressure", "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed"}
)
_LOST_REASONS = frozenset({"NodeNotReady", "RemovingNode", "NodeShutdown", "Rebooted"})
_RESTARTED = ("Starting", "Starting kubelet.")


@dataclass(frozen=True, slots=True)
class CellEvidence:
    """All that is known of one cell."""

    trial: TrialRecord
    planned: PlannedTrial
    pod: TrialPod | None
    node: str
    pods_on_node: int
    steps: Mapping[str, Sequence[SeenEvent]]
    """Of the pod and its own container, by reason."""
    view_steps: Mapping[str, Sequence[SeenEvent]]
    """Of the pod's init containers, which are in no other field."""
    pulls: Sequence[PullMessage]
    """Of the Pulled events."""
    before: Before
    node_states: Sequence[NodeRecord]
    """Of the node in this attempt, in their order."""
    index: EventIndex
    scale: float
    """Images hold this fraction of the bytes that their tags claim."""
    speed: float
    """How many times faster than the clock the node works."""
    peers_s: float | None
    """Median pull time of the trial's cells."""
    preloaded: bool = False
    """The node has a secondary boot disk with container images."""

    @property
    def real_pulls(self) -> list[PullMessage]:
        """Pulls that moved something, by their messages."""
        return [pull for pull in self.pulls if not pull.cached]

    @property
    def has_run(self) -> bool:
        """Whether a MiniCluster's container ran: one pod that fails later ends all the others."""
        return bool(self.planned.view and self.pod and self.pod.started)

    def first(self, reason: str) -> datetime | None:
        """Return when a step happened, by its reporter's clock."""
        return first_time(self.steps.get(reason, ()))

    @property
    def window(self) -> tuple[datetime | None, datetime | None]:
        """From the pod's binding to the node until its pull was over, by the runner's clock."""
        pulled = [self.index.on_runners_clock(seen) for seen in self.steps.get("Pulled", ())]
        begin = (self.pod.bound_seen if self.pod else None) or self.first("Scheduled")
        over = self.pod.over_seen if self.pod else None
        end = min((at for at in pulled if at), default=over or self.trial.last_finished_at)
        return begin or self.trial.released_at, end


def first_time(seen: Iterable[SeenEvent]) -> datetime | None:
    """Return the earliest of the events' own times."""
    return min((one.event.at for one in seen if one.event.at), default=None)


def _evicted(cell: CellEvidence) -> str:
    failure = cell.pod.failure if cell.pod else ""
    if "Evicted" in cell.steps or failure.startswith("Evicted"):
        return f"the pod was evicted: {failure or cell.steps['Evicted'][0].event.message}"
    return ""


def _node_lost(cell: CellEvidence) -> str:
    if cell.pod and cell.pod.failure.startswith(("Deleted", "NodeLost", "NodeShutdown")):
        return f"the pod was lost with its node: {cell.pod.failure}"
    begin, end = cell.window
    states = cell.node_states
    if begin and states:
        known = [state for state in states if end is None or state.at <= end + _SLACK]
        if known and known[-1].uid != states[0].uid:
            return "the node was replaced by another with its name"
        earlier = [state for state in known if state.at <= begin]
        if any(not state.ready for state in [*earlier[-1:], *known[len(earlier) :]]):
            return "the node was not ready while it pulled"
    return _during(cell, _is_loss, "the node was not ready while it pulled")


def _is_loss(seen: SeenEvent) -> bool:
    event = seen.event
    return event.reason in _LOST_REASONS or (event.reason, event.message) == _RESTARTED


def _retried(cell: CellEvidence) -> str:
    failures = [*cell.steps.get("Failed", ()), *cell.steps.get("BackOff", ())]
    pulling = max((seen.event.count or 1 for seen in cell.steps.get("Pulling", ())), default=0)
    if cell.real_pulls and (failures or pulling > 1):
        return "the pull failed first and succeeded later"
    return ""


def _failed(cell: CellEvidence) -> str:
    if cell.pod and cell.pod.failure and not cell.has_run:
        return f"the pod failed: {cell.pod.failure}"
    failures = cell.steps.get("Failed", ())
    return f"the pull failed: {failures[0].event.message}" if failures else ""


def _aborted(cell: CellEvidence) -> str:
    if cell.pod is None:
        return f"this node had no pod: {cell.trial.error or 'unknown reason'}"
    if cell.pod.node != cell.node:
        return (
            f"the pod ran on {cell.pod.node} and not here"
            if cell.pod.node
            else "the pod was never bound to this node"
        )
    if cell.pod.phase != "Succeeded" and not cell.has_run:
        return f"the trial ended before the pod did: {cell.trial.error or 'unknown reason'}"
    return ""


def _preloaded(cell: CellEvidence) -> str:
    """Return whether nothing was pulled because of a secondary boot disk.

    Whether GKE's kubelet then reports the image as present, or a pull that moves nothing, is not
    documented: either counts. An image that is not on the disk is pulled as any other.
    """
    if not cell.preloaded or not cell.pulls:
        return ""
    pull_s = cell.real_pulls[0].pull_s if cell.real_pulls else None
    if cell.real_pulls and (pull_s is None or pull_s > max(NOTHING_MOVED_S, _least_s(cell))):
        return ""
    return "the image was on the node's secondary boot disk: nothing was pulled"


def _cached(cell: CellEvidence) -> str:
    if any(pull.cached for pull in cell.pulls) and not cell.real_pulls:
        return "the image was on the node already"
    if cell.pod and cell.pod.pull_policy != "IfNotPresent":
        return (
            f"the pod had imagePullPolicy {cell.pod.pull_policy or 'unknown'}, under which a pull "
            "of an image that is on the node looks real"
        )
    if not cell.before.proof and cell.planned.image.digest in _listed(cell):
        return "the node listed the image before the trial"
    return ""


def _listed(cell: CellEvidence) -> tuple[str, ...]:
    return cell.node_states[0].images if cell.node_states else ()


def _repeated(cell: CellEvidence) -> str:
    pulling = cell.steps.get("Pulling", ())
    if len(cell.real_pulls) > 1 or len(pulling) > 1:
        return f"the node pulled it {max(len(cell.real_pulls), len(pulling))} times"
    if cell.pods_on_node > 1:
        return f"{cell.pods_on_node} pods of the trial ran on this node"
    if cell.pulls and len(cell.pulls) > len(cell.real_pulls):
        return "one container pulled it and another found it on the node"
    return ""


def _missing_events(cell: CellEvidence) -> str:
    missing = [step for step in ("Pulling", "Pulled") if not cell.steps.get(step)]
    if missing:
        return f"no source saw the {' and '.join(missing)} event of this pod"
    if not cell.pulls:
        return f"the Pulled event has an unknown message: {cell.steps['Pulled'][0].event.message}"
    if cell.pulls[0].image != cell.trial.reference:
        return f"the Pulled event is about another image: {cell.pulls[0].image}"
    reporters = {seen.event.node for step in ("Pulling", "Pulled") for seen in cell.steps[step]}
    if reporters != {cell.node}:
        return f"the pull's events were reported by {', '.join(sorted(reporters))}"
    return _contradiction(cell)


def _contradiction(cell: CellEvidence) -> str:
    """Compare the kubelet's message with the clock of its events.

    The message's duration is by a monotonic clock; the events' names hold the kubelet's wall clock
    in nanoseconds. This finds a retry with lost events, and a clock that was set during the pull.
    """
    begin, end, pull = cell.first("Pulling"), cell.first("Pulled"), cell.real_pulls[0]
    claimed = pull.pull_s if pull.pull_and_wait_s is None else pull.pull_and_wait_s
    if begin is None or end is None or claimed is None:
        return "the events of the pull have no time"
    by_clock = (end - begin).total_seconds() * cell.speed
    allowed = CLOCK_TOLERANCE_S * cell.speed + CLOCK_TOLERANCE_SHARE * claimed
    if abs(by_clock - claimed) <= allowed:
        return ""
    return (
        f"the pull took {claimed:.3f} s by the Pulled event's message and {by_clock:.3f} s by its "
        "clock, so an event is missing or the node's clock was set"
    )


def _implausible(cell: CellEvidence) -> str:
    """Return why a pull was too quick to have moved its bytes."""
    pull_s = cell.real_pulls[0].pull_s if cell.real_pulls else None
    if pull_s is None or cell.index.streaming:
        return ""
    least = _least_s(cell)
    if pull_s < least:
        return (
            f"the pull took {pull_s:.3f} s, and no node moves "
            f"{cell.planned.image.compressed_bytes} bytes and unpacks {_unpacked_bytes(cell)} in "
            f"less than {least:.3f} s: they were on the node"
        )
    if cell.peers_s and pull_s < min(NOTHING_MOVED_S, PEERS_SHARE * cell.peers_s):
        return (
            f"the pull took {pull_s:.3f} s, as one that moves nothing, and the trial's median is "
            f"{cell.peers_s:.3f} s: its bytes were on the node"
        )
    return ""


def _least_s(cell: CellEvidence) -> float:
    """Return the seconds that no node's cold pull of the image is quicker than."""
    wire = cell.planned.image.compressed_bytes / FASTEST_BYTES_PER_S
    return max(wire, _unpacked_bytes(cell) / FASTEST_UNPACK_BYTES_PER_S)


def _unpacked_bytes(cell: CellEvidence) -> int:
    claim = find_tag(cell.planned.image.tag)
    return round(claim.size_bytes * cell.scale) if claim else cell.planned.image.compressed_bytes


def _disk_pressure(cell: CellEvidence) -> str:
    begin, end = cell.window
    if begin is None:  # its turn never came
        return ""
    for state in cell.node_states:
        in_time = state.at >= begin - _SLACK and (end is None or state.at <= end + _SLACK)
        if in_time and "DiskPressure" in state.pressures:
            return "the node was short of disk while it pulled: it has DiskPressure"
    return _during(
        cell, lambda seen: seen.event.reason in _DISK_REASONS, "the node was short of disk"
    )


def _warm_layers(cell: CellEvidence) -> str:
    before = cell.before
    if before.same_image is not None and not (before.proof and before.proof.absent):
        why = before.proof.detail if before.proof else "its removal was not requested"
        return (
            f"trial {before.same_image} pulled the image on this node, and its absence is not "
            f"proved: {why}"
        )
    if not cell.trial.fresh and not (before.proof and before.proof.absent):
        why = before.proof.detail if before.proof else "its removal was not requested"
        return f"the cluster was used before, and the image's absence is not proved: {why}"
    total = cell.planned.image.compressed_bytes
    if before.warm_bytes > WARM_SHARE * total:
        return (
            f"{before.warm_bytes} of {total} bytes were on the node before, left by other images "
            "of this run"
        )
    return ""


def _during(cell: CellEvidence, matches: Callable[[SeenEvent], bool], sentence: str) -> str:
    """Return the sentence and the first such event about the node within the cell's window."""
    begin, end = cell.window
    if begin is None:  # its turn never came
        return ""
    earliest = _earliest(cell, begin)
    for seen in cell.index.by_node.get(cell.node, ()):
        at = cell.index.on_runners_clock(seen)
        if at is None or not matches(seen):
            continue
        if at >= earliest and (end is None or at <= end + _SLACK):
            return f"{sentence}: {seen.event.message}"
    return ""


def _earliest(cell: CellEvidence, begin: datetime) -> datetime:
    """Return the earliest time of a node event that can have affected a pull that began then.

    A node that was Ready when the attempt started had booted before: where a pull follows within
    seconds, the start of its kubelet is not a restart.
    """
    first = cell.node_states[0] if cell.node_states else None
    if first is None or not first.ready:
        return begin - _SLACK
    return max(begin - _SLACK, min(begin, first.at) - _WHOLE_SECOND)


RULES: Sequence[tuple[Status, Callable[[CellEvidence], str]]] = (
    (Status.EVICTED, _evicted),
    (Status.NODE_LOST, _node_lost),
    (Status.RETRIED, _retried),
    (Status.FAILED, _failed),
    (Status.ABORTED, _aborted),
    (Status.PRELOADED, _preloaded),
    (Status.CACHED, _cached),
    (Status.REPEATED, _repeated),
    (Status.MISSING_EVENTS, _missing_events),
    (Status.CACHED, _implausible),
    (Status.DISK_PRESSURE, _disk_pressure),
    (Status.WARM_LAYERS, _warm_layers),
)
