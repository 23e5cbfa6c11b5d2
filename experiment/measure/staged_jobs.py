"""Exactly one pod on every node, all released at once: Jobs whose pods the runner binds.

A staged Job's pods exist and cost the nodes nothing: they name a scheduler that does not exist.
Releasing binds pod i to node i, all pods at once, so no scheduler takes part. Anti-affinity and
topology spread do not give this, because a finished pod no longer counts. The caller checks where
the pods ran.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from experiment.errors import MeasureError
from experiment.kube import JOB, MINICLUSTER, Kube, Obj
from experiment.measure.pods import PodState, PodStates
from experiment.waiting import now
from schema.names import JOB_NAMESPACE

_BINDINGS_AT_ONCE = 48
_CREATE_S = 120
_BIND_S = 120
_FIRST_LABEL_S = 5
_LABELS_S = 60


class StagedJobs:
    """Creates and releases staged Jobs on a fixed list of nodes.

    Args:
        kube: the cluster.
        pods: kept up to date by a watch of the pods of JOB_NAMESPACE.
        nodes: names of the measured nodes; pod i goes to nodes[i].
        lost: returns {node: reason} of nodes that are not Ready, deleted or replaced.
    """

    def __init__(
        self,
        kube: Kube,
        pods: PodStates,
        nodes: Sequence[str],
        lost: Callable[[], dict[str, str]],
    ) -> None:
        self._kube = kube
        self._states = pods
        self.lost = lost
        self._pool = ThreadPoolExecutor(_BINDINGS_AT_ONCE, thread_name_prefix="release")
        self.nodes = tuple(nodes)
        self._kinds: dict[str, str] = {}

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def create(self, job: Obj) -> str:
        """Create a Job or MiniCluster of one staged pod a node; return its Job's name."""
        name = str(job["metadata"]["name"])
        self._kinds[name] = job["kind"]
        self._kube.create_job(job)
        return name

    def await_pods(self, job: str) -> list[PodState]:
        """Wait until all pods of a Job exist, bound to no node.

        Raises:
            MeasureError: they were not all created in time.
        """
        pods = self._states.wait(job, self._all_exist, _CREATE_S)
        if pods is None:
            have = len(self._states.pods(job))
            raise MeasureError(
                f"Only {have} of the {len(self.nodes)} pods of the Job {job} were created within "
                f"{_CREATE_S} s, so its trial cannot start.",
                f"kubectl -n {JOB_NAMESPACE} describe job {job}",
            )
        return pods

    def await_labels(self, job: str) -> None:
        """Wait until the Flux Operator has labelled the pods, so that it does not while they pull.

        It sends a request for each pod, 20 a second. Older ones label none, and pods pull all the
        same: nothing depends on the labels.
        """
        if self._states.wait(job, lambda pods: any(pod.labelled for pod in pods), _FIRST_LABEL_S):
            self._states.wait(job, lambda pods: all(pod.labelled for pod in pods), _LABELS_S)

    def release(self, job: str, pods: Sequence[PodState]) -> None:
        """Bind pod i to node i, all at once.

        Raises:
            MeasureError: the API server refused a binding.
        """
        list(self._pool.map(partial(self._bind, job), pods))

    def await_bound(self, job: str) -> list[PodState] | None:
        """Wait until each pod is bound or over; return None if that takes too long.

        Raises:
            Exception: what ended the watch of the pods.
        """
        return self._states.wait(job, lambda pods: self._all(pods, _bound_or_over), _BIND_S)

    def await_over(
        self, job: str, timeout_s: float, progress: Callable[[list[PodState]], None]
    ) -> bool:
        """Wait until every pod is over or its node lost; return False if that takes too long.

        Pods of a MiniCluster wait for each other: once one has failed or is lost, no other can
        end, and its container's start is all that is waited for.

        Raises:
            Exception: what ended the watch of the pods.
        """
        together = self._kinds.get(job) == MINICLUSTER

        def over(pods: list[PodState]) -> bool:
            progress(pods)
            if together and (self.lost() or any(pod.failure for pod in pods)):
                return self._all(pods, lambda pod: pod.over or pod.started)
            return self._all(pods, lambda pod: pod.over)

        return self._states.wait(job, over, timeout_s) is not None

    def run(
        self,
        job: Obj,
        timeout_s: float,
        progress: Callable[[list[PodState]], None],
    ) -> dict[str, PodState]:
        """Run a Job on all nodes at once and delete it; return {node: pod} of those that ran.

        Raises:
            MeasureError: the pods were not created.
        """
        name = self.create(job)
        self.release(name, self.await_pods(name))
        self.await_over(name, timeout_s, progress)
        pods = {self.nodes[pod.index]: pod for pod in self.pods(name)}
        self.delete(name)
        return pods

    def pods(self, job: str) -> list[PodState]:
        """Return the pods of a Job, by completion index."""
        return self._states.pods(job)

    def delete(self, job: str) -> None:
        """Delete a Job, or the MiniCluster that it is of, and its pods in the background."""
        self._kube.delete_job(JOB_NAMESPACE, job, self._kinds.get(job, JOB))

    def await_deleted(self, job: str, timeout_s: float) -> bool:
        """Wait until the pods of a Job are deleted; return False if that takes too long."""

        def deleted(pods: list[PodState]) -> bool:
            return all(pod.deleted_seen for pod in pods)

        return self._states.wait(job, deleted, timeout_s) is not None

    def _bind(self, job: str, pod: PodState) -> None:
        self._kube.bind_pod(JOB_NAMESPACE, pod.name, self.nodes[pod.index])
        self._states.note_bound(job, pod.index, now())

    def _all_exist(self, pods: list[PodState]) -> bool:
        return len(pods) == len(self.nodes)

    def _all(self, pods: list[PodState], condition: Callable[[PodState], bool]) -> bool:
        if not self._all_exist(pods):
            return False
        waiting = [pod for pod in pods if not condition(pod)]
        if not waiting:
            return True
        lost = self.lost()
        return all(self.nodes[pod.index] in lost for pod in waiting)


def _bound_or_over(pod: PodState) -> bool:
    return bool(pod.node) or pod.over
