"""Before anything is measured on a cluster that is up: its nodes, its leftovers, its event sources.

Each function waits for one thing and says, when it does not come, what a study without it would be.
"""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from experiment.collect.cloud_logging import LogReader
from experiment.errors import Failure, MeasureError, ProvisionError
from experiment.kube import Kube, Obj, is_ready
from experiment.measure.job_manifest import canary_event
from experiment.waiting import Clock, wait_until
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.stack_outputs import StackOutputs

MEASURED = f"{MEASURED_LABEL}=true"
"""Selects the measured nodes."""

_READY_S = 300
_CANARY_S = 120
_CLEAR_S = 120


def ready_nodes(
    kube: Kube, count: int, progress: Callable[[int, int], None], clock: Clock = time
) -> list[Obj]:
    """Wait until exactly this many measured nodes are Ready; `progress` gets those and N.

    Raises:
        ProvisionError: they are not in time.
    """
    nodes: list[Obj] = []

    def all_ready() -> bool:
        nodes[:] = [node for node in kube.nodes(MEASURED) if is_ready(node)]
        progress(len(nodes), count)
        return len(nodes) == count

    if not wait_until(all_ready, _READY_S, 1, clock):
        raise ProvisionError(
            f"{len(nodes)} of {count} measured nodes are Ready after {_READY_S} s; the study needs "
            f"exactly {count}.",
            f"kubectl get nodes -l {MEASURED}",
        )
    return nodes


def clear_leftovers(kube: Kube, say: Callable[[str], None], clock: Clock = time) -> None:
    """Remove the Jobs that an earlier run left on this cluster, and wait until their pods are gone.

    Raises:
        MeasureError: they stay.
    """
    kube.delete_jobs(JOB_NAMESPACE)

    def cleared() -> bool:
        if left := kube.pod_count(JOB_NAMESPACE):
            say(f"removing {left} pods of an earlier run")
        return not left

    if not wait_until(cleared, _CLEAR_S, 0.5, clock):
        raise MeasureError(
            f"{kube.pod_count(JOB_NAMESPACE)} pods of an earlier run are still there after "
            f"{_CLEAR_S} s and would disturb the pulls.",
            f"kubectl delete namespace {JOB_NAMESPACE}",
        )


def await_canary(kube: Kube, reader: LogReader, run_id: str, outputs: StackOutputs) -> None:
    """Create an event, and wait until it is in Cloud Logging.

    Raises:
        MeasureError: it does not arrive.
    """
    name = f"canary-{uuid.uuid4().hex[:12]}"
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    kube.create_event(canary_event(run_id, name, at))
    if not reader.await_event(name, _CANARY_S):
        raise MeasureError(
            f"An event created on the cluster did not arrive in Cloud Logging within {_CANARY_S} "
            "s, so the pulls' events would be lost too.",
            f"kubectl -n {outputs.exporter_namespace} logs "
            f"deployment/{outputs.exporter_deployment}",
            failure=Failure.EVENT_SOURCE_DOWN,
        )


def versions_of(kube: Kube, nodes: list[Obj]) -> dict[str, str]:
    """What runs on the cluster."""
    info = nodes[0]["status"]["nodeInfo"]
    return {
        "kubernetes": kube.server_version(),
        "kubelet": info["kubeletVersion"],
        "container_runtime": info["containerRuntimeVersion"],
        "node_os": info["osImage"],
        "node_kernel": info["kernelVersion"],
    }
