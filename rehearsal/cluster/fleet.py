"""The protocol by which the local Google runs clusters on this machine.

`rehearsal.local_fleet` implements it with real control planes; tests of the API with a list.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

_LONGEST_PART = 24


STREAMING_LABEL = "cloud.google.com/gke-image-streaming"
"""Label that GKE gives to nodes that stream images: 'true'."""


@dataclass(frozen=True, slots=True)
class ClusterKey:
    """Which cluster, in Google's terms."""

    project: str
    location: str
    name: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """A host that containerd asks before a registry."""

    registry: str
    """HOST or HOST:PORT, as images name it."""
    url: str
    root: bool = False
    """The URL's path is the root of the API, to which nothing is added."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A node pool as it was requested from the API."""

    name: str
    node_count: int
    machine_type: str
    labels: dict[str, str]
    """Of its nodes, those that GKE adds included."""
    taints: tuple[tuple[str, str, str], ...]
    """(key, value, effect) with effect in Kubernetes' spelling: NoSchedule, NoExecute."""
    disk_gb: int = 100
    """Of a node's boot disk."""
    parallel_pulls: int = 1
    """Images that a kubelet pulls at once."""
    preloaded: bool = False
    """Its nodes have a secondary boot disk with all container images."""
    mirrors: tuple[Mirror, ...] = ()
    """In the order in which containerd tries them."""
    init_script: str = ""
    """What each node runs when it starts; empty for nothing."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where a cluster's API server answers."""

    endpoint: str
    """host:port, https."""
    ca_pem: str
    version: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a container printed, with the labels that Cloud Logging gives it."""

    cluster: ClusterKey
    namespace_name: str
    pod_name: str
    container_name: str
    stream: str
    """stdout or stderr."""
    text: str
    at: datetime


WriteLog = Callable[[LogLine], None]


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a line is; None if it is anything else."""
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text, parse_constant=_no_json)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class FleetError(Exception):
    """The machine cannot do what was requested; becomes the operation's error."""


def node_name(cluster: str, pool: str, number: int) -> str:
    """Return the name of a pool's node, in GKE's form; numbers count from 1."""
    return f"gke-{_short(cluster)}-{_short(pool)}-{number:04d}"


def _short(name: str) -> str:
    if len(name) <= _LONGEST_PART:
        return name
    return f"{name[: _LONGEST_PART - 7].rstrip('-')}-{sha256(name.encode()).hexdigest()[:6]}"


class Fleet(Protocol):
    """Runs clusters. Every call blocks until done; calls for different clusters may overlap.

    Each raises FleetError with one sentence when the machine cannot do it.
    """

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        """Start a control plane without nodes."""

    def delete_cluster(self, key: ClusterKey) -> None:
        """Stop nodes and control plane; nothing of them is left. Idempotent."""

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        """Start the pool's nodes; all are Ready on return."""

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        """Start or stop nodes until the pool has this many."""

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        """Stop the pool's nodes. Idempotent."""

    def resize_control_plane(self, key: ClusterKey, seconds: float, *, reachable: bool) -> None:
        """Take so long; unless `reachable`, the control plane's endpoint refuses connections."""

    def close(self) -> None:
        """Stop every cluster. Idempotent."""
