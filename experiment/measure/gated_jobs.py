"""Exactly one pod on every node, all released at once: Jobs behind scheduling gates.

A gated Job's pods exist and cost the nodes nothing. Releasing gives pod i the affinity to node i
and removes its gate, all pods at once, so the scheduler has one choice for each. Anti-affinity and
topology spread do not give this, because a finished pod no longer counts. Whether it was so, and
what the pods are for, is the caller's business.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from experiment.errors import MeasureError
from experiment.kube import Kube, Obj
from experiment.measure.job_manifest import release_patch
from experiment.measure.pods import PodBoard, PodState
from schema.names import JOB_NAMESPACE

_PATCHES_AT_ONCE = 48
_CREATE_S = 120
_BIND_S = 120


class GatedJobs:
    """Makes and releases gated Jobs on a fixed list of nodes.

    Args:
        kube: the cluster.
        board: kept up to date by a watch of the pods of JOB_NAMESPACE.
        nodes: names of the measured nodes; pod i goes to nodes[i].
        lost: nodes of which nothing more is to be expected, each with its sentence.
    """

    def __init__(
        self,
        kube: Kube,
        board: PodBoard,
        nodes: Sequence[str],
        lost: Callable[[], dict[str, str]],
    ) -> None:
        self._kube = kube
        self._board = board
        self._lost = lost
        self._pool = ThreadPoolExecutor(_PATCHES_AT_ONCE, thread_name_prefix="release")
        self.nodes = tuple(nodes)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def create(self, job: Obj) -> str:
        """Create a Job of one gated pod a node; gives its name."""
        self._kube.create_job(job)
        return str(job["metadata"]["name"])

    def await_pods(self, job: str) -> list[PodState]:
        """Wait until all pods of a Job exist, behind their gates.

        Raises:
            MeasureError: they did not all come to be.
        """
        pods = self._board.wait(job, self._all_exist, _CREATE_S)
        if pods is None:
            have = len(self._board.pods(job))
            raise MeasureError(
                f"Only {have} of the {len(self.nodes)} pods of the Job {job} were created within "
                f"{_CREATE_S} s, so its trial cannot start.",
                f"kubectl -n {JOB_NAMESPACE} describe job {job}",
            )
        return pods

    def open_gates(self, pods: Sequence[PodState]) -> None:
        """Bind pod i to node i and remove its gate, all at once."""
        list(self._pool.map(self._open_gate, pods))

    def await_bound(self, job: str) -> list[PodState] | None:
        """Wait until each pod is bound or beyond hope; None if that takes too long."""
        return self._board.wait(job, lambda pods: self._all(pods, _bound_or_over), _BIND_S)

    def await_over(
        self, job: str, timeout_s: float, progress: Callable[[list[PodState]], None]
    ) -> bool:
        """Wait until nothing more is to be expected of any pod; False if that takes too long."""

        def over(pods: list[PodState]) -> bool:
            progress(pods)
            return self._all(pods, lambda pod: pod.over)

        return self._board.wait(job, over, timeout_s) is not None

    def pods(self, job: str) -> list[PodState]:
        """The pods of a Job, by completion index."""
        return self._board.pods(job)

    def lost(self) -> dict[str, str]:
        """Nodes of which nothing more is to be expected, each with its sentence."""
        return self._lost()

    def remove(self, job: str) -> None:
        """Ask for a Job to be deleted in the background."""
        self._kube.delete_job(JOB_NAMESPACE, job)

    def await_removed(self, job: str, timeout_s: float) -> bool:
        """Wait until the pods of a Job are gone from their nodes; False if that takes too long."""

        def gone(pods: list[PodState]) -> bool:
            return all(pod.deleted_seen for pod in pods)

        return self._board.wait(job, gone, timeout_s) is not None

    def _open_gate(self, pod: PodState) -> None:
        self._kube.patch_pod(JOB_NAMESPACE, pod.name, release_patch(self.nodes[pod.index]))

    def _all_exist(self, pods: list[PodState]) -> bool:
        return len(pods) == len(self.nodes)

    def _all(self, pods: list[PodState], fulfilled: Callable[[PodState], bool]) -> bool:
        if not self._all_exist(pods):
            return False
        waiting = [pod for pod in pods if not fulfilled(pod)]
        if not waiting:
            return True
        lost = self._lost()
        return all(self.nodes[pod.index] in lost for pod in waiting)


def _bound_or_over(pod: PodState) -> bool:
    return bool(pod.node) or pod.over
