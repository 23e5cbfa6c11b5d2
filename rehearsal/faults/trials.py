"""Which trial of a study runs on a cluster, and which pod is whose.

Read off the pods of the trials' Jobs, as anyone who watches the cluster could: nothing is asked of
the runner, and nothing here acts.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.kubernetes import ClusterError, Object
from schema.names import JOB_NAMESPACE, TRIAL_LABEL

_JOB_LABEL = "batch.kubernetes.io/job-name"
_PATH = f"/api/v1/namespaces/{JOB_NAMESPACE}/pods"
_PAUSE_S = 0.5
_OVER = {"Succeeded", "Failed"}


class Moment(StrEnum):
    """Points of a trial."""

    STAGED = "staged"
    """Its first pod exists, bound to no node."""
    RELEASED = "released"
    """The first of its pods is bound."""


@dataclass(frozen=True, slots=True)
class Place:
    """The trial and node of a pod."""

    trial: int
    node: str
    """Known from its release on."""


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
    """Watches the pods of one cluster's trials, in its own thread.

    `on_moment` is called in that thread, once for each moment of each trial. `report` gets a line
    for each failure; the watch is started again.
    """

    def __init__(
        self,
        admin: ClusterAdmin,
        on_moment: Callable[[Moment, int], None],
        report: Callable[[str], None],
    ) -> None:
        self._admin = admin
        self._on_moment = on_moment
        self._report = report
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._places: dict[str, Place] = {}
        self._images: dict[str, int] = {}
        self._thread = threading.Thread(target=self._watch, name="study-pods", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop. The thread ends with the API server."""
        self._ending.set()

    def place(self, pod: str) -> Place | None:
        """Return where a pod of JOB_NAMESPACE belongs; None for one of no trial."""
        with self._guard:
            return self._places.get(pod)

    def trial_of_image(self, digest: str) -> int:
        """Return the trial whose image has this digest; 0 if none has."""
        with self._guard:
            return self._images.get(digest, 0)

    @property
    def trial(self) -> int:
        """The trial that runs or is about to be released; 0 before the first, after the last."""
        with self._guard:
            jobs = list(self._jobs.values())
        released = [at for at, job in enumerate(jobs) if job.released]
        return next((job.trial for job in jobs[max(released, default=0) :] if not job.over), 0)

    def handle(self, change: str, pod: Object) -> None:
        """Handle one change of a pod."""
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
            if not known.released and pod["spec"].get("nodeName"):
                known.released = True
                moments.append(Moment.RELEASED)
            self._places[name] = Place(trial, str(pod["spec"].get("nodeName", "")))
            for container in pod["spec"]["containers"]:
                self._images[container["image"].partition("@")[2]] = trial
        for moment in moments:
            self._on_moment(moment, trial)

    def _watch(self) -> None:
        while not self._ending.is_set():
            try:
                for change, pod in self._admin.changes(_PATH):
                    if self._ending.is_set():
                        return
                    self.handle(change, pod)
            except ClusterError:  # the API server is away
                self._ending.wait(_PAUSE_S)
            except Exception as error:  # noqa: BLE001 (faults of later trials are still due)
                self._report(f"the watch of the study's pods failed: {error!r}; started again")
                self._ending.wait(_PAUSE_S)


def _is_over(pod: Object) -> bool:
    """Return whether a pod's container has ended; the phase follows a second later."""
    statuses = pod["status"].get("containerStatuses", ())
    ended = any("terminated" in each.get("state", {}) for each in statuses)
    return ended or pod["status"].get("phase") in _OVER
