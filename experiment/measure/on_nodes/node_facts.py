"""What is known of the measured nodes beyond their own lists: CPU platform, and the system's pods.

A machine type such as n1-standard-16 runs on several generations of CPUs, with different network
limits. No label of a GKE node says which (recorded nodes of the original study), but the Compute
API does.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from experiment.errors import RunError, one_line
from experiment.kube import Kube, Obj
from experiment.provision.google_api import GoogleApi
from experiment.waiting import Clock, wait_until
from schema.names import CPU_PLATFORM_LABEL

_SYSTEM = "kube-system"
_SYSTEM_S = 180.0
_ZONE_LABEL = "topology.kubernetes.io/zone"


def add_cpu_platforms(nodes: Sequence[Obj], api: GoogleApi) -> str:
    """Give each node a label with its CPU platform; return a warning, empty if there is none.

    Args:
        nodes: core/v1 Nodes, which are changed.
        api: of their project.
    """
    zones = {node["metadata"].get("labels", {}).get(_ZONE_LABEL) for node in nodes} - {None}
    try:
        platforms = {k: v for zone in sorted(zones) for k, v in _platforms(api, zone).items()}
    except RunError as error:
        return f"The CPU platforms of the nodes are not known: {one_line(error)}"
    for node in nodes:
        if platform := platforms.get(node["metadata"]["name"]):
            node["metadata"]["labels"][CPU_PLATFORM_LABEL] = platform
    labels = (node["metadata"].get("labels", {}).get(CPU_PLATFORM_LABEL, "") for node in nodes)
    counts = Counter(label or "unknown" for label in labels)
    if len(counts) == 1:
        return ""
    listed = ", ".join(f"{number} x {name}" for name, number in sorted(counts.items()))
    return f"The measured nodes have different CPU platforms, which may pull differently: {listed}."


def _platforms(api: GoogleApi, zone: str) -> dict[str, str]:
    """Return the CPU platform of each instance in a zone."""
    path, found = f"projects/{api.project}/zones/{zone}/instances", dict[str, str]()
    params = {"fields": "items(name,cpuPlatform),nextPageToken"}
    while page := api.get("COMPUTE", path, **params):
        items = page.get("items", [])
        found |= {item["name"]: item["cpuPlatform"] for item in items if item.get("cpuPlatform")}
        if not page.get("nextPageToken"):
            break
        params["pageToken"] = page["nextPageToken"]
    return found


def await_system_pods(
    kube: Kube, nodes: Sequence[str], say: Callable[[str], None], clock: Clock = time
) -> str:
    """Wait until the system's pods on the measured nodes run; return a warning, empty if they do.

    A new node pulls their images in its first minutes, which would disturb the first trials.

    Raises:
        MeasureError: the API server fails.
    """
    measured, waiting = set(nodes), list[str]()

    def running() -> bool:
        waiting[:] = [
            pod["metadata"]["name"]
            for pod in kube.waiting_pods(_SYSTEM)
            if pod["spec"].get("nodeName") in measured
        ]
        if waiting:
            say(f"waiting for {len(waiting)} pods of {_SYSTEM} on the measured nodes")
        return not waiting

    if wait_until(running, _SYSTEM_S, 2, clock):
        return ""
    return (
        f"{len(waiting)} pods of {_SYSTEM} on the measured nodes did not run after {_SYSTEM_S:.0f} "
        f"s, such as {min(waiting)}; pulls of their images may disturb the first trials."
    )
