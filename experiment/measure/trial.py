"""The protocol of one trial: stage, release, wait, delete. One image on every node, once.

Staging creates a Job whose pods wait for a binding (experiment.measure.staged_jobs); releasing lets
all go at once, pod i to node i. That each ran on its own node is checked, not assumed. A trial
does not wait for what cannot happen: a pull that failed, a node that is lost.

A Job is deleted in the background while later images are pulled, so that delays nothing. Only a
Job with pods that still pull, after the deadline or a first failure, is deleted before the next
image's turn, which it would disturb.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from experiment.kube import Obj
from experiment.measure.job_manifest import minicluster, trial_job
from experiment.measure.pods import PodState
from experiment.measure.staged_jobs import StagedJobs
from experiment.plan.trial_order import deadline_s
from experiment.waiting import now
from schema.names import JOB_NAMESPACE
from schema.run_records import PlannedTrial, TrialRecord

_GRACE_S = 60
_DELETE_S = 60


@dataclass(slots=True)
class Trial:
    """One trial of this attempt, as far as it has come."""

    planned: PlannedTrial
    job: str = ""
    """Empty until it is staged."""
    staged_at: datetime | None = None
    released_at: datetime | None = None
    removal_begun_at: datetime | None = None
    removal_ended_at: datetime | None = None
    bound: list[PodState] | None = None
    """Its pods once each was bound or over; None if that took too long."""
    error: str | None = None


class TrialRunner:
    """Runs trials.

    Args:
        jobs: on the measured nodes.
        run_id: labels and names what is created.
        attempt: which one of the run this is.
        command: what each pod runs once its image is there.
        cluster: uid that identifies it.
        fresh: when the attempt began, the nodes had pulled nothing.
    """

    def __init__(
        self,
        jobs: StagedJobs,
        *,
        run_id: str,
        attempt: int,
        command: tuple[str, ...],
        cluster: str = "",
        fresh: bool = True,
    ) -> None:
        self._jobs = jobs
        self._run_id = run_id
        self._attempt = attempt
        self._command = command
        self._cluster = cluster
        self.fresh = fresh
        self.nodes = jobs.nodes

    def stage(self, trial: Trial) -> None:
        """Create the trial's Job or MiniCluster, unless that was done."""
        if trial.job:
            return
        staged_at = now()
        trial.job = self._jobs.create(self._workload(trial.planned))
        trial.staged_at = staged_at

    def _workload(self, planned: PlannedTrial) -> Obj:
        common: dict[str, Any] = {
            "run_id": self._run_id,
            "attempt": self._attempt,
            "nodes": len(self.nodes),
            "command": self._command,
        }
        if planned.view:
            return minicluster(planned, planned.view.reference, **common)
        return trial_job(planned, deadline_s=deadline_s(planned), **common)

    def release(self, trial: Trial) -> None:
        """Release all pods at once, and wait until all are bound.

        Raises:
            MeasureError: the Job's pods were not all created.
        """
        pods = self._jobs.await_pods(trial.job)
        if trial.planned.view:
            self._jobs.await_labels(trial.job)
        trial.released_at = now()
        self._jobs.release(trial.job, pods)
        trial.bound = self._jobs.await_bound(trial.job)

    def finish(self, trial: Trial, progress: Callable[[list[PodState]], None]) -> None:
        """Wait until every pod is over, has finally failed, or the deadline has passed.

        Raises:
            Exception: what ended the watch of the pods.
        """
        over = trial.bound is not None and self._jobs.await_over(
            trial.job, deadline_s(trial.planned) + _GRACE_S, progress
        )
        trial.error = self._error(trial.bound, over=over)

    def record(self, trial: Trial, error: str | None = None) -> TrialRecord:
        """Return the outcome of a trial, at its end or wherever it was stopped.

        Args:
            trial: as far as it has come.
            error: why it was stopped; by default the trial's own error.
        """
        pods = [self._with_loss(pod) for pod in self._jobs.pods(trial.job)]
        created = [pod.created_seen for pod in pods if pod.created_seen]
        bound = [pod.bound_seen for pod in pods if pod.bound_seen]
        over = [pod.over_seen for pod in pods if pod.over_seen]
        every = len(self.nodes)
        return TrialRecord(
            trial=trial.planned.trial,
            repetition=trial.planned.repetition,
            attempt=self._attempt,
            reference=trial.planned.image.reference,
            job=trial.job,
            namespace=JOB_NAMESPACE,
            pods=tuple(pod.as_record() for pod in pods),
            staged_at=trial.staged_at,
            all_created_at=max(created) if len(created) == every else None,
            released_at=trial.released_at,
            first_bound_at=min(bound, default=None),
            all_bound_at=max(bound) if len(bound) == every else None,
            last_finished_at=max(over) if len(over) == every else None,
            error=error or trial.error,
            cluster=self._cluster,
            fresh=self.fresh,
            removal_begun_at=trial.removal_begun_at,
            removal_ended_at=trial.removal_ended_at,
        )

    def delete(self, trial: Trial) -> None:
        """Delete the Job or MiniCluster in the background."""
        self._jobs.delete(trial.job)

    def delete_if_busy(self, trial: Trial, warn: Callable[[str], None]) -> bool:
        """Delete the Job and wait for that, if a pod of it may still pull; return whether."""
        lost = self._jobs.lost()
        busy = any(
            pod.phase not in ("Succeeded", "Failed") and self.nodes[pod.index] not in lost
            for pod in self._jobs.pods(trial.job)
        )
        if busy:
            self._jobs.delete(trial.job)
            if not self._jobs.await_deleted(trial.job, _DELETE_S):
                warn(
                    f"Warning: pods of trial {trial.planned.trial} are still there {_DELETE_S} s "
                    "after their deletion, and may disturb the next pulls."
                )
        return busy

    def _with_loss(self, pod: PodState) -> PodState:
        why = self._jobs.lost().get(self.nodes[pod.index])
        if why is None or pod.over:
            return pod
        return replace(pod, failure=f"NodeLost: {why}", over_seen=now())

    def _error(self, bound: list[PodState] | None, *, over: bool) -> str | None:
        if bound is None:
            return "not every pod was bound to its node in time after its release"
        wrong = [pod for pod in bound if pod.node and pod.node != self.nodes[pod.index]]
        if wrong:
            return f"pod {wrong[0].name} ran on {wrong[0].node} and not on its own node"
        if not over:
            return "not every pod ended before the deadline"
        return None
