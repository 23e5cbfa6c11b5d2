"""Connects to a cluster that is up: its nodes, what an earlier run left, its sources of events."""

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing

from experiment.cluster_lease import ClusterLease, Holder, ensure_namespace
from experiment.collect.cloud_logging import LogReader
from experiment.errors import Failure, MeasureError, ProvisionError
from experiment.kube import Kube, Obj, is_ready
from experiment.measure.cluster_watch import ClusterWatch
from experiment.measure.job_manifest import canary_event
from experiment.measure.miniclusters import await_operator, warm_view
from experiment.measure.nodes import NodeStates
from experiment.measure.on_nodes.image_reading import pod_command
from experiment.measure.on_nodes.image_removal import Remover
from experiment.measure.on_nodes.node_facts import add_cpu_platforms, await_system_pods
from experiment.measure.on_nodes.node_stats import NodeStats
from experiment.measure.on_nodes.parallel_unpacks import check_unpacks
from experiment.measure.on_nodes.roofs import measure_roofs
from experiment.measure.pods import PodStates
from experiment.measure.remote_repository import RemoteRepository
from experiment.measure.run_trials import Measurement
from experiment.measure.staged_jobs import StagedJobs
from experiment.measure.trial import TrialRunner
from experiment.provision.google_api import GoogleApi
from experiment.run_folder import RunFolder, Steps
from experiment.terminal.progress import Progress
from experiment.waiting import Clock, now, wait_until
from schema.names import JOB_NAMESPACE, MEASURED_LABEL, RUN_LABEL
from schema.run_records import RoofRecord, RunRecord
from schema.stack_outputs import StackOutputs

_READY_S = 300
_CANARY_S = 300
"""The log agent of a new cluster needs some minutes to send its first lines."""
_CLEAR_S = 120


def connect(
    folder: RunFolder,
    record: RunRecord,
    outputs: StackOutputs,
    *,
    attempt: int,
    progress: Progress,
    steps: Steps,
    fresh: bool,
) -> Measurement:
    """Wait for the nodes, prove that events arrive in Cloud Logging, and open the watches.

    Args:
        folder: of the run; gets the nodes.
        record: of the run.
        outputs: of the cluster's stack.
        attempt: which one this is.
        progress: shows it to the user.
        steps: times what is waited for.
        fresh: no image can be on the nodes but those that they came with.

    Returns:
        What the trials need; closing it closes all that was opened here.

    Raises:
        ProvisionError: the nodes are not all Ready in time.
        OwnershipError: another run measures on the cluster.
        MeasureError: the API server or Cloud Logging fails, or events do not arrive.
        PreflightError: there are no Google credentials.
    """
    since = now()
    selector = f"{RUN_LABEL}={record.run_id}" if record.existing else f"{MEASURED_LABEL}=true"
    with ExitStack() as opened:
        kube = opened.enter_context(
            closing(Kube(record.existing or outputs.kubeconfig, progress.say))
        )
        with steps.step("nodes ready"):
            ready = ready_nodes(kube, selector, outputs.node_count, progress.ready)
        warnings = []
        if outputs.project:
            with closing(GoogleApi(outputs.project)) as api:
                warnings.append(add_cpu_platforms(ready, api))
        warnings.append(check_unpacks(kube, ready, outputs.parallel_unpacks))
        folder.write_nodes(ready, attempt)
        names = [str(node["metadata"]["name"]) for node in ready]
        ensure_namespace(kube)
        lease = ClusterLease(kube, Holder.of(folder.path), progress.now)
        lease.acquire()
        lease.keep()
        opened.callback(lease.close)
        if not fresh:
            with steps.step("leftovers"):
                clear_leftovers(kube, progress.now)
        reader = None
        if outputs.log_filter:
            reader = opened.enter_context(closing(LogReader(outputs, record.started_at)))
        if reader and outputs.exporter_deployment:
            progress.now("waiting for a first event to arrive in Cloud Logging")
            with steps.step("first event in Cloud Logging"):
                await_canary(kube, reader, record.run_id, outputs)
        with steps.step("system pods"):
            warnings.append(await_system_pods(kube, names, progress.now))
        found = tuple(filter(None, warnings))
        for warning in found:
            progress.say(f"Warning: {warning}")
        digests = {trial.image.digest for trial in record.trials}
        pods, nodes = PodStates(), NodeStates(ready, digests, attempt, folder.add)
        with steps.step("watches"):
            watch = ClusterWatch(
                kube,
                folder,
                run_id=record.run_id,
                selector=selector,
                exporter_namespace=outputs.exporter_namespace,
                pods=pods,
                nodes=nodes,
            )
            opened.callback(watch.close)
            watch.await_lists()
        jobs = opened.enter_context(closing(StagedJobs(kube, pods, names, nodes.lost)))
        run_id, remover = record.run_id, record.remover
        if record.view:
            with steps.step("Flux Operator"):
                await_operator(kube, record.view, run_id=run_id, attempt=attempt)
            with steps.step("Flux view"):
                warm_view(
                    jobs,
                    record.view,
                    run_id=run_id,
                    attempt=attempt,
                    progress=lambda pods: progress.now(
                        f"Flux view on {sum(pod.over for pod in pods)} of {len(pods)} nodes"
                    ),
                )
        roofs: tuple[RoofRecord, ...] = ()
        if record.study.roofs and remover:
            with steps.step("roofs"):
                roofs = measure_roofs(
                    jobs,
                    remover,
                    (trial.image for trial in record.trials),
                    run_id=run_id,
                    attempt=attempt,
                    progress=lambda pods: progress.now(
                        f"roofs measured on {sum(pod.over for pod in pods)} of {len(pods)} nodes"
                    ),
                )
        return Measurement(
            folder=folder,
            record=record,
            progress=progress,
            steps=steps,
            since=since,
            versions=versions_of(kube, ready),
            warnings=found,
            roofs=roofs,
            kube=kube,
            lease=lease,
            reader=reader,
            watch=watch,
            stats=opened.enter_context(closing(NodeStats(kube, names, attempt, folder.add))),
            runner=TrialRunner(
                jobs,
                run_id=run_id,
                attempt=attempt,
                command=pod_command(record.study),
                cluster=kube.cluster_uid(),
                fresh=fresh,
            ),
            remover=Remover(jobs, remover, run_id=run_id, attempt=attempt) if remover else None,
            repository=opened.enter_context(
                closing(
                    RemoteRepository(
                        outputs.project, outputs.remote_repository, attempt, folder.add, folder.log
                    )
                )
            )
            if outputs.remote_repository
            else None,
            connections=opened.pop_all(),
        )


def ready_nodes(
    kube: Kube,
    selector: str,
    count: int,
    progress: Callable[[int, int], None],
    clock: Clock = time,
) -> list[Obj]:
    """Wait until exactly this many selected nodes are Ready; `progress` gets those and N.

    Raises:
        ProvisionError: they are not in time.
    """
    nodes: list[Obj] = []

    def all_ready() -> bool:
        nodes[:] = [node for node in kube.nodes(selector) if is_ready(node)]
        progress(len(nodes), count)
        return len(nodes) == count

    if not wait_until(all_ready, _READY_S, 1, clock):
        raise ProvisionError(
            f"{len(nodes)} of {count} measured nodes are Ready after {_READY_S} s; the study needs "
            f"exactly {count}.",
            f"kubectl get nodes -l {selector}",
        )
    return nodes


def clear_leftovers(kube: Kube, say: Callable[[str], None], clock: Clock = time) -> None:
    """Delete what earlier runs left on this cluster, and wait for their pods' deletion.

    The caller holds the cluster's Lease, so no other run measures: all Jobs and MiniClusters of
    runs are left over. Those of others in the namespace stay.

    Raises:
        MeasureError: they stay.
    """
    kube.delete_jobs(JOB_NAMESPACE, RUN_LABEL)

    def cleared() -> bool:
        if left := kube.pod_count(JOB_NAMESPACE, RUN_LABEL):
            say(f"deleting {left} pods of an earlier run")
        return not left

    if not wait_until(cleared, _CLEAR_S, 0.5, clock):
        raise MeasureError(
            f"{kube.pod_count(JOB_NAMESPACE, RUN_LABEL)} pods of an earlier run are still there "
            f"after {_CLEAR_S} s and would disturb the pulls.",
            f"kubectl -n {JOB_NAMESPACE} delete jobs,pods -l {RUN_LABEL} --force",
        )


def await_canary(kube: Kube, reader: LogReader, run_id: str, outputs: StackOutputs) -> None:
    """Create an event, and wait until the exporter has sent it to Cloud Logging.

    Raises:
        MeasureError: it does not arrive.
    """
    name = f"canary-{uuid.uuid4().hex[:12]}"
    at = now().isoformat(timespec="seconds").replace("+00:00", "Z")
    kube.create_event(canary_event(run_id, name, at))
    if not reader.await_event(name, _CANARY_S):
        raise MeasureError(
            f"The event exporter did not send an event of the cluster to Cloud Logging within "
            f"{_CANARY_S} s, so the pulls' events would be lost too.",
            f"kubectl -n {outputs.exporter_namespace} logs "
            f"deployment/{outputs.exporter_deployment}",
            failure=Failure.EVENT_SOURCE_DOWN,
        )


def versions_of(kube: Kube, nodes: list[Obj]) -> dict[str, str]:
    """Return what runs on the cluster."""
    info = nodes[0]["status"]["nodeInfo"]
    return {
        "kubernetes": kube.server_version(),
        "kubelet": info["kubeletVersion"],
        "container_runtime": info["containerRuntimeVersion"],
        "node_os": info["osImage"],
        "node_kernel": info["kernelVersion"],
    }
