"""What a stack requires of Google before it can be created: quotas, APIs, permissions. Pure.

It repeats what the program's resources imply, for checks before `pulumi up`
(experiment.preflight.checks).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from infra.event_exporter import CONFIGURATION
from infra.prices import LOCAL_SSD_GB, MACHINE_TYPES
from infra.settings import Settings

_DEFAULT_POOL_VCPUS = 2
"""Of the e2-medium with which GKE creates a cluster; the program removes it at once."""
_DISK_GB = 100
"""Of the nodes that are not measured."""
_SSD_DISKS = {"pd-ssd", "pd-balanced"}
"""Both count as SSD_TOTAL_GB; pd-standard as DISKS_TOTAL_GB."""

APIS = (
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "container",
    "iam",
    "logging",
    "serviceusage",
    "storage",
)
"""As listed in docs/running-on-gke.md, without .googleapis.com."""

PERMISSIONS = (
    "cloudscheduler.jobs.create",
    "cloudscheduler.jobs.delete",
    "compute.instanceGroupManagers.get",
    "compute.regions.get",
    "container.clusters.create",
    "container.clusters.delete",
    "container.clusters.get",
    "container.clusters.update",
    "container.deployments.create",
    "container.events.list",
    "container.jobs.create",
    "container.pods.update",
    "iam.roles.create",
    "iam.serviceAccounts.actAs",
    "iam.serviceAccounts.create",
    "logging.logEntries.list",
    "logging.sinks.create",
    "resourcemanager.projects.getIamPolicy",
    "resourcemanager.projects.setIamPolicy",
    "storage.buckets.create",
    "storage.buckets.setIamPolicy",
)
"""One or two of each role listed in docs/running-on-gke.md, on the project."""


@dataclass(frozen=True, slots=True)
class StackNeeds:
    """What a stack requires.

    Attributes:
        zones: in order of preference.
        region: whose quotas count.
        quotas: by Compute Engine's metric; includes the default pool of the first minutes.
        apis: with .googleapis.com.
        permissions: required of the account that runs Pulumi and the runner.
        deadline_hours: after which the cluster deletes itself.
        private_nodes: all pulls share one NAT address.
        exporter: the event exporter's configuration; empty without one.
        exporter_image: with its digest; empty for no exporter.
    """

    zones: tuple[str, ...]
    region: str
    quotas: Mapping[str, int]
    apis: tuple[str, ...]
    permissions: tuple[str, ...]
    deadline_hours: int
    private_nodes: bool
    exporter: Mapping[str, Any]
    exporter_image: str

    @property
    def zone(self) -> str:
        """Zone of all nodes."""
        return self.zones[0]


def stack_needs(settings: Settings) -> StackNeeds:
    """Return what a stack with these settings requires."""
    # The program itself enables containerfilesystem.
    streaming = ("artifactregistry",) if settings.image_streaming else ()
    return StackNeeds(
        zones=settings.zones,
        region=settings.region,
        quotas=quota_needs(settings),
        apis=tuple(f"{name}.googleapis.com" for name in (*APIS, *streaming)),
        permissions=PERMISSIONS,
        deadline_hours=settings.deadline_hours,
        private_nodes=settings.private_nodes,
        exporter=dict(yaml.safe_load(CONFIGURATION)) if settings.exporter_image else {},
        exporter_image=settings.exporter_image,
    )


def quota_needs(settings: Settings) -> dict[str, int]:
    """Return regional quotas by metric: measured nodes, monitoring node, and GKE's default pool."""
    nodes = settings.node_count
    others = int(settings.monitoring_pool) + 1
    cpus: Counter[str] = Counter(CPUS=_DEFAULT_POOL_VCPUS)
    pools = [(settings.machine_type, nodes)]
    if settings.monitoring_pool:
        pools.append((settings.monitoring_machine_type, 1))
    for machine_type, count in pools:
        machine = MACHINE_TYPES[machine_type]
        cpus[machine.cpu_quota] += count * machine.vcpus
    measured_gb = nodes * settings.disk_size_gb
    on_ssd = settings.disk_type in _SSD_DISKS
    return {
        **cpus,
        "SSD_TOTAL_GB": others * _DISK_GB + (measured_gb if on_ssd else 0),
        "DISKS_TOTAL_GB": 0 if on_ssd else measured_gb,
        "LOCAL_SSD_TOTAL_GB": nodes * settings.local_ssd_count * LOCAL_SSD_GB,
        "IN_USE_ADDRESSES": 0 if settings.private_nodes else nodes + others,
        "INSTANCES": nodes + others,
    }
