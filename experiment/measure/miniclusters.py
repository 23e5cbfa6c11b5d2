"""Makes a cluster ready for MiniClusters: their operator answers, and their view is on every node.

experiment.measure.job_manifest makes them, experiment.measure.trial runs them as it runs Jobs.
"""

import time
from collections.abc import Callable

from experiment.errors import Failure, MeasureError
from experiment.kube import Kube
from experiment.measure.job_manifest import minicluster, view_job
from experiment.measure.pods import PodState
from experiment.measure.staged_jobs import StagedJobs
from experiment.waiting import Clock, wait_until
from schema.names import FLUX_OPERATOR, JOB_NAMESPACE
from schema.run_records import PlannedImage

_OPERATOR_S = 60
"""It took 2 s on an idle machine; a new one may still pull its own image."""
_VIEW_S = 300
"""The original study's view, 185 MB, took 18 to 25 s."""
_GRACE_S = 30


def await_operator(
    kube: Kube, view: PlannedImage, *, run_id: str, attempt: int, clock: Clock = time
) -> None:
    """Wait until the Flux Operator makes the Job of a MiniCluster, which is deleted unreleased.

    Raises:
        MeasureError: the cluster has no MiniClusters, or the operator makes no Job.
    """
    if not kube.serves_miniclusters():
        raise MeasureError(
            "The cluster has no MiniClusters: the Flux Operator is not installed.",
            "use a stack with pull-study:fluxOperator, such as size-16-minicluster",
        )
    body = minicluster(
        None, view.reference, run_id=run_id, attempt=attempt, nodes=1, command=("true",)
    )
    name = body["metadata"]["name"]
    kube.create_job(body)
    try:
        made = wait_until(lambda: kube.has_job(JOB_NAMESPACE, name), _OPERATOR_S, 0.2, clock)
    finally:
        kube.delete_job(JOB_NAMESPACE, name, body["kind"])
    if not made:
        raise MeasureError(
            f"The Flux Operator made no Job for a MiniCluster within {_OPERATOR_S} s, so no trial "
            "could start.",
            f"kubectl -n {FLUX_OPERATOR} get pods; "
            f"kubectl -n {FLUX_OPERATOR} logs deployment/{FLUX_OPERATOR}",
        )


def warm_view(
    jobs: StagedJobs,
    view: PlannedImage,
    *,
    run_id: str,
    attempt: int,
    progress: Callable[[list[PodState]], None],
) -> None:
    """Run a pod of the view's image on every node, so that no trial has to pull it.

    Raises:
        MeasureError: it is not on every node, so no MiniCluster could start there.
    """
    job = view_job(
        view.reference,
        run_id=run_id,
        attempt=attempt,
        nodes=len(jobs.nodes),
        deadline_s=_VIEW_S,
    )
    pods = jobs.run(job, _VIEW_S + _GRACE_S, progress)
    without = [node for node in jobs.nodes if node not in pods or pods[node].phase != "Succeeded"]
    if without:
        pod = pods.get(without[0])
        why = (pod and pod.failure) or f"its pod did not end within {_VIEW_S} s"
        raise MeasureError(
            f"{len(without)} of {len(jobs.nodes)} nodes cannot start the Flux view "
            f"{view.reference}, so no MiniCluster could run there; {without[0]}: {why}",
            f"skopeo inspect docker://{view.repository}@{view.digest}",
            failure=Failure.IMAGE_MISSING,
        )
