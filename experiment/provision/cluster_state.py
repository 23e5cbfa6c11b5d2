"""A cluster as the GKE API reports it. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

_DEFAULT_POOL = "default-pool"
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


def _with(status: str, detail: str) -> str:
    return f"{status} ({detail.rstrip('.')})" if detail else status


def _detail(found: Json) -> str:
    """What GKE says about a status: conditions, or the older field that they replace."""
    told = [
        ": ".join(filter(None, (each.get("code"), each.get("message"))))
        for each in found.get("conditions", [])
    ]
    return "; ".join(told) or str(found.get("statusMessage", ""))


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
