"""The state of a trial's pods, kept up to date by the watch.

It lets a caller wait for a condition over them; it sends nothing.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from experiment.measure.job_manifest import INDEX_ANNOTATION
from experiment.measure.on_nodes.image_reading import read_reading
from experiment.terminal.grid import ENDED, PROBLEM, PULLED, PULLING, STAGED
from experiment.waiting import Clock, now
from schema.run_records import TrialPod

FATAL_WAITING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "SignatureValidationFailed",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Waiting reasons of the kubelet after which a cell cannot become valid."""

_OPERATORS_LABEL = "job-index"
"""flux-operator, controllers/flux/labels.go, addBrokerLabel."""


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod as the watch last showed it; times named `seen` are by the runner's clock."""

    index: int
    name: str
    uid: str
    node: str
    phase: str
    failure: str
    finished_at: datetime | None
    started: bool = False
    """Whether the container has run, even if it has ended since."""
    labelled: bool = False
    """Whether the Flux Operator has labelled it: it does so for one pod after another."""
    pull_policy: str = ""
    message: str = ""
    """The container's termination message."""
    created_seen: datetime | None = None
    bound_at: datetime | None = None
    """When the runner's binding was accepted."""
    bound_seen: datetime | None = None
    over_seen: datetime | None = None
    deleted_seen: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether this pod's cell cannot change any more."""
        return self.phase in ("Succeeded", "Failed") or bool(self.failure)

    def as_record(self) -> TrialPod:
        """Return the pod for trials.jsonl."""
        return TrialPod(
            index=self.index,
            node=self.node,
            pod=self.name,
            uid=self.uid,
            phase=self.phase,
            failure=self.failure,
            finished_at=self.finished_at,
            bound_at=self.bound_at,
            bound_seen=self.bound_seen,
            over_seen=self.over_seen,
            deleted_seen=self.deleted_seen,
            started=self.started,
            pull_policy=self.pull_policy,
            reading=read_reading(self.message),
        )


def read_pod(pod: Mapping[str, Any]) -> PodState:
    """Read a core/v1 Pod of a trial's Job.

    A pod whose container has ended counts as Succeeded or Failed from then on. The kubelet sets the
    pod's phase about a second later, once the sandbox is down; nothing of that is measured.
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    container = _state(status, "containerStatuses")
    ended = container.get("terminated") or {}
    view = _state(status, "initContainerStatuses")
    failure = _failure(status, container) or _failure({}, view)
    phase = status.get("phase", "")
    if ended:
        phase = "Failed" if failure else "Succeeded"
    return PodState(
        index=int(metadata.get("annotations", {}).get(INDEX_ANNOTATION, -1)),
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        phase=phase,
        failure=failure,
        finished_at=_time(ended.get("finishedAt")),
        started=bool(container.get("running") or ended.get("startedAt")),
        labelled=_OPERATORS_LABEL in metadata.get("labels", {}),
        pull_policy=(spec.get("containers") or [{}])[0].get("imagePullPolicy", ""),
        message=ended.get("message", ""),
    )


def _state(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the state of a trial's pod's only container, or only init container."""
    state: Mapping[str, Any] = (status.get(kind) or [{}])[0].get("state", {})
    return state


def _failure(status: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    waiting, ended = container.get("waiting") or {}, container.get("terminated") or {}
    if waiting.get("reason") in FATAL_WAITING:
        return _joined(waiting)
    if ended.get("exitCode"):
        return f"exit code {ended['exitCode']}: {_joined(ended)}"
    if status.get("phase") != "Failed":
        return ""
    return _joined(status) or "the pod failed without a reason"


def _joined(part: Mapping[str, Any]) -> str:
    return ": ".join(str(part[key]) for key in ("reason", "message") if part.get(key))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def display_status(pod: PodState) -> str:
    """Return how the grid shows a pod's cell before it is judged."""
    if pod.failure:
        return PROBLEM
    if pod.over:
        return ENDED
    if pod.phase == "Running":
        return PULLED
    return PULLING if pod.node else STAGED


_GATHER_S = 0.01
"""Pause between two checks of a Job's pods: on many nodes hundreds change in a second."""


class PodStates:
    """The pods of all Jobs of a run, by Job; safe for the watch's thread and the runner's.

    Args:
        clock: measures how long is waited.
    """

    def __init__(self, clock: Clock = time) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: dict[str, dict[int, PodState]] = {}
        self._changes = 0
        self._broken: Callable[[], Exception | None] = lambda: None
        self._away_s: Callable[[], float] = lambda: 0.0

    def break_when(
        self, broken: Callable[[], Exception | None], away_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Let `wait` know how well the states are kept up to date.

        Args:
            broken: returns why they no longer are, which `wait` raises.
            away_s: returns for how long in all they were not: time that `wait` does not count.
        """
        self._broken, self._away_s = broken, away_s

    def handle(self, change: str, pod: Mapping[str, Any]) -> None:
        """Handle one change of the watch.

        The first pod of an index stays: a replacement means that the first one was lost, and its
        cell with it. The replacement is bound to no node, so it pulls nothing.
        """
        job = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name")
        state = read_pod(pod)
        if job is None or state.index < 0:
            return
        with self._changed:
            pods = self._jobs.setdefault(job, {})
            before = pods.get(state.index)
            if before is not None and before.uid != state.uid:
                return
            if change == "DELETED" and not state.over:
                state = replace(state, failure="Deleted: the pod was deleted before it ended")
            pods[state.index] = self._with_times(state, before, deleted=change == "DELETED")
            self._changes += 1
            self._changed.notify_all()

    def _with_times(self, state: PodState, before: PodState | None, *, deleted: bool) -> PodState:
        at = now()
        before = before or state
        return replace(
            state,
            created_seen=before.created_seen or at,
            bound_at=before.bound_at,
            bound_seen=before.bound_seen or (at if state.node else None),
            over_seen=before.over_seen or (at if state.over else None),
            deleted_seen=before.deleted_seen or (at if deleted else None),
            finished_at=state.finished_at or before.finished_at,
            failure=state.failure or before.failure,
            started=state.started or before.started,
            message=state.message or before.message,
        )

    def note_bound(self, job: str, index: int, at: datetime) -> None:
        """Note when the answer to a pod's binding came, unless it was seen bound before."""
        with self._changed:
            pods = self._jobs[job]
            pod = pods[index]
            pods[index] = replace(pod, bound_at=min(at, pod.bound_seen or at))

    def pods(self, job: str) -> list[PodState]:
        """Return the pods of a Job, by completion index."""
        with self._changed:
            return [state for _, state in sorted(self._jobs.get(job, {}).items())]

    def wait(
        self, job: str, done: Callable[[list[PodState]], bool], timeout_s: float
    ) -> list[PodState] | None:
        """Wait until `done` holds for a Job's pods; return them, or None at the timeout.

        It returns within 10 ms of the change, and checks each second too: `done` may depend on more
        than the pods, and signals are handled between two checks. Time in which the API server was
        away does not count: pods go on without it, and what they did shows afterwards.

        Raises:
            Exception: what ended the watch of the pods.
        """
        end, away = self._clock.monotonic() + timeout_s, self._away_s()
        while True:
            seen = self._changes
            states = self.pods(job)
            if done(states):
                return states
            if error := self._broken():
                raise error
            left = end + self._away_s() - away - self._clock.monotonic()
            if left <= 0:
                return None
            with self._changed:
                self._changed.wait_for(partial(self._has_changed, seen), min(left, 1.0))
            self._clock.sleep(_GATHER_S)

    def _has_changed(self, since: int) -> bool:
        return self._changes != since
