"""Before anything is measured on a cluster that is up: its nodes, its leftovers, its event sources.

Each function waits for one thing and says, when it does not come, what a study without it would be.
"""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from experiment.collect.cloud_logging import LogReader
from experiment.errors import Failure, MeasureError, ProvisionError
from experiment.kube import Kube, Obj
from experiment.measure.job_manifest import canary_event
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.stack_outputs import StackOutputs

MEASURED = f"{MEASURED_LABEL}=true"
"""Selects the measured nodes."""

_READY_S = 300
_CANARY_S = 120
_CLEAR_S = 120


def ready_nodes(kube: Kube, count: int, progress: Callable[[int, int], None]) -> list[Obj]:
    """Wait until exactly this many measured nodes are Ready; `progress` gets those and N.

    Raises:
        ProvisionError: they are not in time.
    """
    end = time.monotonic() + _READY_S
    while True:
        nodes = [node for node in kube.nodes(MEASURED) if _is_ready(node)]
        progress(len(nodes), count)
        if len(nodes) == count:
            return nodes
        if time.monotonic() > end:
            raise ProvisionError(
                f"{len(nodes)} of {count} measured nodes are Ready after {_READY_S} s, and a "
                "study on other than its nodes would be another study.",
                f"kubectl get nodes -l {MEASURED}",
            )
        time.sleep(1)


def clear_leftovers(kube: Kube, say: Callable[[str], None]) -> None:
    """Remove the Jobs that an earlier run left on this cluster, and wait until their pods are gone.

    Raises:
        MeasureError: they stay.
    """
    kube.delete_jobs(JOB_NAMESPACE)
    end = time.monotonic() + _CLEAR_S
    while left := kube.pod_count(JOB_NAMESPACE):
        say(f"{left} pods of an earlier run are being removed")
        if time.monotonic() > end:
            raise MeasureError(
                f"{left} pods of an earlier run are still there after {_CLEAR_S} s and would "
                "disturb the pulls.",
                f"kubectl delete namespace {JOB_NAMESPACE}",
            )
        time.sleep(0.5)


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


def _is_ready(node: Obj) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
