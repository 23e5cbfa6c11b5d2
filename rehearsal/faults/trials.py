"""What a cluster's pods tell of the study under way: which trial is on, which pod is whose.

Faults that strike a trial need to know when it begins and what belongs to it. Here that is read off
the pods of the trials' Jobs, as anybody could who watches the cluster: nothing is asked of the
runner, and nothing here acts.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from rehearsal.cluster.admin import ClusterAdmin, ClusterError, Object
from schema.names import JOB_NAMESPACE, TRIAL_LABEL

_JOB_LABEL = "batch.kubernetes.io/job-name"
_PATH = f"/api/v1/namespaces/{JOB_NAMESPACE}/pods"
_WATCH_S = 60
_OVER = {"Succeeded", "Failed"}


class Moment(StrEnum):
    """Points of a trial."""

    STAGED = "staged"
    """Its first pod exists, behind a gate."""
    RELEASED = "released"
    """The gate of its first pod is gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the study a pod belongs."""

    trial: int
    node: str
    """That it is meant for, known from its release on."""


@dataclass(slots=True)
class _Job:
    trial: int
    pods: dict[str, bool] = field(default_factory=dict)
    """Whether each is over, by name."""
    released: bool = False

    @property
    def over(self) -> bool:
        return self.released and all(self.pods.values())


class StudyPods:
    """Follows the pods of one cluster's trials.

    Args:
        admin: of the cluster.
        tell: called at each moment of each trial, once, in the following thread.
    """

    def __init__(self, admin: ClusterAdmin, tell: Callable[[Moment, int], None]) -> None:
        self._admin = admin
        self._tell = tell
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._places: dict[str, Place] = {}
        self._images: dict[str, int] = {}
        self._thread = threading.Thread(target=self._follow, name="study-pods", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more. The thread ends with the API server."""
        self._ending.set()

    def place(self, pod: str) -> Place | None:
        """Where a pod of JOB_NAMESPACE belongs; None for one of no trial."""
        with self._guard:
            return self._places.get(pod)

    def trial_of_image(self, digest: str) -> int:
        """The trial whose image has this digest; 0 if none has."""
        with self._guard:
            return self._images.get(digest, 0)

    @property
    def trial(self) -> int:
        """The trial that is on, or about to be released; 0 before the first and after the last."""
        with self._guard:
            jobs = list(self._jobs.values())
        released = [at for at, job in enumerate(jobs) if job.released]
        return next((job.trial for job in jobs[max(released, default=0) :] if not job.over), 0)

    def handle(self, change: str, pod: Object) -> None:
        """Take one change of the pods."""
        labels = pod["metadata"].get("labels", {})
        job, trial = labels.get(_JOB_LABEL), int(labels.get(TRIAL_LABEL, 0))
        if not job or not trial:
            return
        name = pod["metadata"]["name"]
        moments: list[Moment] = []
        with self._guard:
            if job not in self._jobs:
                moments.append(Moment.STAGED)
            known = self._jobs.setdefault(job, _Job(trial))
            known.pods[name] = change == "DELETED" or _is_over(pod)
            if not known.released and not pod["spec"].get("schedulingGates"):
                known.released = True
                moments.append(Moment.RELEASED)
            self._places[name] = Place(trial, node_of(pod))
            for container in pod["spec"]["containers"]:
                self._images[container["image"].partition("@")[2]] = trial
        for moment in moments:
            self._tell(moment, trial)

    def _follow(self) -> None:
        while not self._ending.is_set():
            try:
                for change, pod in self._admin.changes(_PATH, _WATCH_S):
                    if self._ending.is_set():
                        return
                    self.handle(change, pod)
            except ClusterError:
                self._ending.wait(0.5)


def _is_over(pod: Object) -> bool:
    """Whether a pod's container has ended.

    The phase follows a second later, and the next trial may have been released by then.
    """
    statuses = pod["status"].get("containerStatuses", ())
    ended = any("terminated" in each.get("state", {}) for each in statuses)
    return ended or pod["status"].get("phase") in _OVER


def node_of(pod: Object) -> str:
    """The node that a pod is bound to, or else may be bound to alone."""
    if bound := pod["spec"].get("nodeName", ""):
        return str(bound)
    node = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", ()):
        for field_ in term.get("matchFields", ()):
            if field_["key"] == "metadata.name" and len(field_["values"]) == 1:
                return str(field_["values"][0])
    return ""
