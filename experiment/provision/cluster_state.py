"""A cluster and its dead-man jobs, as Google's APIs report them. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

_DEFAULT_POOL = "default-pool"
_CLUSTER_LINK = re.compile(
    r"/(?:locations|zones)/(?P<location>[^/]+)/clusters/(?P<name>pull-study-[^/]+)$"
)
_GONE = 5
"""google.rpc.Code NOT_FOUND."""
_BROKEN = {"STOPPING", "ERROR", "DEGRADED"}
_BROKEN_POOL = {"ERROR", "RUNNING_WITH_ERROR"}


@dataclass(frozen=True, slots=True)
class PoolState:
    """A node pool as the API reports it."""

    name: str
    status: str
    detail: str
    node_count: int
    """At creation: a later resize shows only in its instance groups."""
    machine_type: str
    disk_type: str
    disk_gb: int
    local_ssds: int


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster as the API reports it."""

    name: str
    location: str
    status: str
    """RUNNING, PROVISIONING, RECONCILING, STOPPING, ERROR or DEGRADED."""
    detail: str
    labels: dict[str, str]
    created_at: datetime | None
    endpoint: str
    """Address of the control plane; empty until it has one."""
    authority: str
    """Certificate authority, PEM in base64."""
    zones: tuple[str, ...]
    """Of its nodes."""
    pools: tuple[PoolState, ...]

    @property
    def region(self) -> str:
        """Region of the location."""
        return self.location.rpartition("-")[0] if self.location.count("-") > 1 else self.location

    @property
    def healthy(self) -> bool:
        """The cluster and its pools run, without the default pool that a killed creation leaves."""
        running = {self.status, *(pool.status for pool in self.pools)} == {"RUNNING"}
        return running and _DEFAULT_POOL not in {pool.name for pool in self.pools}

    @property
    def broken(self) -> bool:
        """It does not become healthy by itself: in error, or being deleted."""
        return self.status in _BROKEN or any(pool.status in _BROKEN_POOL for pool in self.pools)

    @property
    def changing(self) -> bool:
        """GKE changes it, a resize of its control plane or an upgrade included; it is not broken.

        An operation may run on a cluster that does not show it here.
        """
        statuses = {self.status, *(pool.status for pool in self.pools)}
        return not self.broken and statuses != {"RUNNING"}

    @property
    def why_unhealthy(self) -> str:
        """What is wrong, as the end of "the cluster is ..."; only if it is not healthy."""
        bad = [
            _with(f"{pool.name} {pool.status}", pool.detail)
            for pool in self.pools
            if pool.status != "RUNNING"
        ]
        bad += ["default-pool not removed" for pool in self.pools if pool.name == _DEFAULT_POOL]
        whole = _with(self.status, self.detail)
        return f"{whole}, with node pools {', '.join(bad)}" if bad else whole


@dataclass(frozen=True, slots=True)
class DeadManJob:
    """A Cloud Scheduler job that deletes a cluster of this program."""

    name: str
    region: str
    location: str
    """Of the cluster."""
    cluster: str
    state: str
    """ENABLED, PAUSED, DISABLED or UPDATE_FAILED."""
    last_attempt: str
    """RFC 3339; empty before the first."""
    error: str
    """Of the last attempt; empty for success, that the cluster is gone already included."""

    @property
    def problem(self) -> str:
        """Why it may not delete the cluster; empty if nothing is wrong."""
        if self.state != "ENABLED":
            return f"it is {self.state}"
        return f"its attempt at {self.last_attempt} failed: {self.error}" if self.error else ""


def read_job(found: Json) -> DeadManJob | None:
    """Return a job of Cloud Scheduler; None if it deletes no cluster of this program."""
    target = found.get("httpTarget", {})
    match = _CLUSTER_LINK.search(target.get("uri", ""))
    if match is None or target.get("httpMethod") != "DELETE":
        return None
    status = found.get("status", {})
    code = int(status.get("code", 0))
    error = "" if code in {0, _GONE} else str(status.get("message") or f"code {code}")
    _, _, _, region, _, name = found["name"].split("/")
    return DeadManJob(
        name=name,
        region=region,
        location=match["location"],
        cluster=match["name"],
        state=found.get("state", "ENABLED"),
        last_attempt=found.get("lastAttemptTime", ""),
        error=error.rstrip("."),
    )


def _with(status: str, detail: str) -> str:
    return f"{status} ({detail.rstrip('.')})" if detail else status


def _detail(found: Json) -> str:
    """What GKE says about a status: conditions, or the older field that they replace."""
    conditions = [
        ": ".join(filter(None, (each.get("code"), each.get("message"))))
        for each in found.get("conditions", [])
    ]
    return "; ".join(conditions) or str(found.get("statusMessage", ""))


def read_cluster(found: Json) -> ClusterState:
    """Return a cluster of an answer of the GKE API."""
    created = found.get("createTime")
    return ClusterState(
        name=found["name"],
        location=found["location"],
        status=found.get("status", "UNKNOWN"),
        detail=_detail(found),
        labels=dict(found.get("resourceLabels", {})),
        created_at=datetime.fromisoformat(created) if created else None,
        endpoint=found.get("endpoint", ""),
        authority=found.get("masterAuth", {}).get("clusterCaCertificate", ""),
        zones=tuple(found.get("locations", [])),
        pools=tuple(_pool(pool) for pool in found.get("nodePools", [])),
    )


def _pool(found: Json) -> PoolState:
    config = found.get("config", {})
    local = config.get("ephemeralStorageLocalSsdConfig", {}).get("localSsdCount", 0)
    return PoolState(
        name=found["name"],
        status=found.get("status", "UNKNOWN"),
        detail=_detail(found),
        node_count=int(found.get("initialNodeCount", 0)) * max(len(found.get("locations", [])), 1),
        machine_type=config.get("machineType", ""),
        disk_type=config.get("diskType", ""),
        disk_gb=int(config.get("diskSizeGb", 0)),
        local_ssds=int(local or config.get("localSsdCount", 0)),
    )
