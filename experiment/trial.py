"""The protocol of one trial: stage, release, wait, remove. One image on every node, once.

Staging creates the Job; its pods wait behind a scheduling gate and cost the nodes nothing.
Releasing gives pod i the affinity to node i and removes its gate, all pods at once, so the
scheduler has one choice for each: exactly one pod a node. Anti-affinity and topology spread do not
give this, because a finished pod no longer counts. That it was so is asserted, not assumed.

A Job is removed in the background while later images are pulled, so removal delays nothing.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from experiment.errors import MeasureError
from experiment.job_manifest import job_name, release_patch, trial_job
from experiment.kube import Kube
from experiment.plan import deadline_s
from experiment.pod_board import PodBoard, PodState
from schema.names import JOB_NAMESPACE
from schema.run_records import PlannedTrial, TrialRecord

_PATCHES_AT_ONCE = 32
_STAGE_S = 120
_BIND_S = 120
_GRACE_S = 60


@dataclass(frozen=True, slots=True)
class Staged:
    """A trial whose pods wait behind their gates."""

    planned: PlannedTrial
    attempt: int
    job: str
    staged_at: datetime
    deadline_s: int


@dataclass(frozen=True, slots=True)
class Released:
    """A trial whose gates are gone and whose pods are bound."""

    staged: Staged
    released_at: datetime
    bound: list[PodState] | None
    """The pods once each was bound (or beyond hope); None if that took too long."""


class TrialRunner:
    """Runs trials on a fixed list of nodes.

    Args:
        kube: the cluster.
        board: kept up to date by a watch of the pods of JOB_NAMESPACE.
        nodes: names of the measured nodes; pod i goes to nodes[i].
        run_id: labels and names what is created.
        command: what each pod runs once its image is there.
        now: the runner's clock.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        board: PodBoard,
        nodes: Sequence[str],
        run_id: str,
        command: tuple[str, ...],
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._board = board
        self._nodes = tuple(nodes)
        self._run_id = run_id
        self._command = command
        self._now = now

    def stage(self, planned: PlannedTrial, attempt: int) -> Staged:
        """Create the trial's Job, gated."""
        deadline = deadline_s(planned.image)
        job = trial_job(
            planned,
            run_id=self._run_id,
            attempt=attempt,
            nodes=len(self._nodes),
            command=self._command,
            deadline_s=deadline,
        )
        staged_at = self._now()
        self._kube.create_job(job)
        name = job_name(self._run_id, planned.trial, attempt)
        return Staged(planned, attempt, name, staged_at, deadline)

    def release(self, staged: Staged) -> Released:
        """Bind pod i to node i and open all gates at once; returns when all are bound.

        Raises:
            MeasureError: the Job's pods did not all come to be.
        """
        pods = self._board.wait(staged.job, self._all_exist, _STAGE_S)
        if pods is None:
            have = len(self._board.pods(staged.job))
            raise MeasureError(
                f"Only {have} of the {len(self._nodes)} pods of trial {staged.planned.trial} were "
                f"created within {_STAGE_S} s, so it cannot start.",
                f"kubectl -n {JOB_NAMESPACE} describe job {staged.job}",
            )
        released_at = self._now()
        with ThreadPoolExecutor(min(_PATCHES_AT_ONCE, len(pods))) as pool:
            list(pool.map(self._open_gate, pods))
        bound = self._board.wait(staged.job, self._all_bound_or_over, _BIND_S)
        return Released(staged, released_at, bound)

    def finish(self, released: Released, progress: Callable[[list[PodState]], None]) -> TrialRecord:
        """Wait until nothing more is to be expected of any pod; report what became of them.

        Ends early on failures that waiting cannot mend, late at the deadline; raises for neither.
        """
        job = released.staged.job

        def over(pods: list[PodState]) -> bool:
            progress(pods)
            return self._all_exist(pods) and all(pod.over for pod in pods)

        done = None
        if released.bound is not None:
            done = self._board.wait(job, over, released.staged.deadline_s + _GRACE_S)
        error = self._error(released.bound, done)
        return self._record(released.staged, released.released_at, error)

    def abandon(self, staged: Staged, released_at: datetime | None, why: str) -> TrialRecord:
        """Report a trial that was stopped before its end."""
        return self._record(staged, released_at, why)

    def remove(self, staged: Staged) -> None:
        """Ask for the Job to be deleted in the background."""
        self._kube.delete_job(JOB_NAMESPACE, staged.job)

    def _open_gate(self, pod: PodState) -> None:
        self._kube.patch_pod(JOB_NAMESPACE, pod.name, release_patch(self._nodes[pod.index]))

    def _all_exist(self, pods: list[PodState]) -> bool:
        return len(pods) == len(self._nodes)

    def _all_bound_or_over(self, pods: list[PodState]) -> bool:
        return self._all_exist(pods) and all(pod.node or pod.over for pod in pods)

    def _error(self, bound: list[PodState] | None, done: list[PodState] | None) -> str | None:
        if bound is None:
            return f"not every pod was bound to its node within {_BIND_S} s of its release"
        wrong = [pod for pod in bound if pod.node and pod.node != self._nodes[pod.index]]
        if wrong:
            return f"pod {wrong[0].name} ran on {wrong[0].node} and not on its own node"
        if done is None:
            return "not every pod ended before the deadline"
        return None

    def _record(
        self, staged: Staged, released_at: datetime | None, error: str | None
    ) -> TrialRecord:
        pods = self._board.pods(staged.job)
        bound = [pod.bound_seen for pod in pods if pod.bound_seen]
        over = [pod.over_seen for pod in pods if pod.over_seen]
        return TrialRecord(
            trial=staged.planned.trial,
            repetition=staged.planned.repetition,
            attempt=staged.attempt,
            reference=staged.planned.image.reference,
            job=staged.job,
            namespace=JOB_NAMESPACE,
            pods=tuple(pod.as_record() for pod in pods),
            staged_at=staged.staged_at,
            released_at=released_at,
            first_bound_at=min(bound, default=None),
            all_bound_at=max(bound) if len(bound) == len(self._nodes) else None,
            last_finished_at=max(over) if len(over) == len(self._nodes) else None,
            error=error,
        )
