"""The protocol of one trial: stage, release, wait, remove. One image on every node, once.

Staging creates a Job whose pods wait behind gates (experiment.measure.gated_jobs); releasing lets
all go at once, pod i to node i. That each ran on its own node is asserted, not assumed. A trial
does not wait for what cannot happen: for a pull that failed, for a node that is lost.

A Job is removed in the background while later images are pulled, so removal delays nothing. Only
a Job with pods that still pull, after the deadline or a first failure, is removed before the next
image's turn, which it would disturb.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.job_manifest import trial_job
from experiment.measure.pods import PodState
from experiment.plan.trial_order import deadline_s
from schema.names import JOB_NAMESPACE
from schema.run_records import PlannedTrial, TrialRecord

_GRACE_S = 60
_REMOVE_S = 60


@dataclass(frozen=True, slots=True)
class Staged:
    """A trial whose pods wait behind their gates."""

    planned: PlannedTrial
    job: str
    staged_at: datetime
    deadline_s: int


@dataclass(frozen=True, slots=True)
class Released:
    """A trial whose gates are gone and whose pods are bound."""

    staged: Staged
    bound: list[PodState] | None
    """The pods once each was bound (or beyond hope); None if that took too long."""


class TrialRunner:
    """Runs trials.

    Args:
        jobs: of the measured nodes.
        run_id: labels and names what is created.
        attempt: which one of the run this is.
        command: what each pod runs once its image is there.
        now: the runner's clock.
    """

    def __init__(
        self,
        jobs: GatedJobs,
        *,
        run_id: str,
        attempt: int,
        command: tuple[str, ...],
        now: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._run_id = run_id
        self._attempt = attempt
        self._command = command
        self._now = now
        self._released_at: dict[str, datetime] = {}

    def stage(self, planned: PlannedTrial) -> Staged:
        """Create the trial's Job, gated."""
        deadline = deadline_s(planned.image)
        job = trial_job(
            planned,
            run_id=self._run_id,
            attempt=self._attempt,
            nodes=len(self._jobs.nodes),
            command=self._command,
            deadline_s=deadline,
        )
        staged_at = self._now()
        return Staged(planned, self._jobs.create(job), staged_at, deadline)

    def release(self, staged: Staged) -> Released:
        """Let all pods go at once; returns when all are bound.

        Raises:
            MeasureError: the Job's pods did not all come to be.
        """
        pods = self._jobs.await_pods(staged.job)
        self._released_at[staged.job] = self._now()
        self._jobs.open_gates(pods)
        return Released(staged, self._jobs.await_bound(staged.job))

    def finish(self, released: Released, progress: Callable[[list[PodState]], None]) -> TrialRecord:
        """Wait until nothing more is to be expected of any pod; report what became of them.

        Ends early on failures that waiting cannot mend, late at the deadline; raises for neither.
        """
        staged = released.staged
        over = released.bound is not None and self._jobs.await_over(
            staged.job, staged.deadline_s + _GRACE_S, progress
        )
        error = self._error(released.bound, over=over)
        return self.report(staged, error)

    def report(self, staged: Staged, error: str | None) -> TrialRecord:
        """What became of a trial, at its end or wherever it was stopped."""
        pods = [self._with_loss(pod) for pod in self._jobs.pods(staged.job)]
        created = [pod.created_seen for pod in pods if pod.created_seen]
        bound = [pod.bound_seen for pod in pods if pod.bound_seen]
        over = [pod.over_seen for pod in pods if pod.over_seen]
        every = len(self._jobs.nodes)
        return TrialRecord(
            trial=staged.planned.trial,
            repetition=staged.planned.repetition,
            attempt=self._attempt,
            reference=staged.planned.image.reference,
            job=staged.job,
            namespace=JOB_NAMESPACE,
            pods=tuple(pod.as_record() for pod in pods),
            staged_at=staged.staged_at,
            all_created_at=max(created) if len(created) == every else None,
            released_at=self._released_at.get(staged.job),
            first_bound_at=min(bound, default=None),
            all_bound_at=max(bound) if len(bound) == every else None,
            last_finished_at=max(over) if len(over) == every else None,
            error=error,
        )

    def remove(self, staged: Staged) -> None:
        """Ask for the Job to be deleted in the background."""
        self._jobs.remove(staged.job)

    def remove_if_busy(self, staged: Staged) -> bool:
        """Remove the Job, and wait for that, if a pod of it may still pull; whether it was so."""
        lost = self._jobs.lost()
        busy = [
            pod
            for pod in self._jobs.pods(staged.job)
            if pod.phase not in ("Succeeded", "Failed") and self._jobs.nodes[pod.index] not in lost
        ]
        if busy:
            self._jobs.remove(staged.job)
            self._jobs.await_removed(staged.job, _REMOVE_S)
        return bool(busy)

    def _with_loss(self, pod: PodState) -> PodState:
        why = self._jobs.lost().get(self._jobs.nodes[pod.index])
        if why is None or pod.over:
            return pod
        return replace(pod, failure=f"NodeLost: {why}", over_seen=self._now())

    def _error(self, bound: list[PodState] | None, *, over: bool) -> str | None:
        if bound is None:
            return "not every pod was bound to its node in time after its release"
        wrong = [pod for pod in bound if pod.node and pod.node != self._jobs.nodes[pod.index]]
        if wrong:
            return f"pod {wrong[0].name} ran on {wrong[0].node} and not on its own node"
        if not over:
            return "not every pod ended before the deadline"
        return None
