"""What a stack asks of Google before it can be made: quotas, APIs, permissions. Pure.

It repeats what the resources of the program imply, for whoever checks before `pulumi up`; that the
answers suffice is experiment.preflight.checks's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from infra.event_exporter import CONFIGURATION
from infra.prices import LOCAL_SSD_GB, MACHINE_TYPES
from infra.settings import Settings

_DEFAULT_POOL_VCPUS = 2
"""Of the e2-medium with which GKE starts a cluster; it is removed at once."""
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
"""As docs/running-on-gke.md lists them; .googleapis.com comes after each."""

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
"""One or two of each role that docs/running-on-gke.md asks for, on the project."""


@dataclass(frozen=True, slots=True)
class StackNeeds:
    """What a stack asks for.

    Attributes:
        region: in which the quotas count.
        quotas: by Compute Engine's metric, the default pool of the first minutes included.
        apis: with .googleapis.com.
        permissions: of whoever runs Pulumi and the runner.
        deadline_hours: after which the cluster deletes itself.
        private_nodes: all pulls leave through one NAT.
        exporter: the event exporter's configuration.
    """

    region: str
    quotas: Mapping[str, int]
    apis: tuple[str, ...]
    permissions: tuple[str, ...]
    deadline_hours: int
    private_nodes: bool
    exporter: Mapping[str, Any]


def stack_needs(settings: Settings) -> StackNeeds:
    """What a stack of these settings asks for."""
    # The program itself switches containerfilesystem on.
    streaming = ("artifactregistry",) if settings.image_streaming else ()
    return StackNeeds(
        region=settings.region,
        quotas=quota_needs(settings),
        apis=tuple(f"{name}.googleapis.com" for name in (*APIS, *streaming)),
        permissions=PERMISSIONS,
        deadline_hours=settings.deadline_hours,
        private_nodes=settings.private_nodes,
        exporter=dict(yaml.safe_load(CONFIGURATION)),
    )


def quota_needs(settings: Settings) -> dict[str, int]:
    """Regional quotas by metric: measured nodes, monitoring node, and GKE's default pool."""
    nodes = settings.node_count
    others = int(settings.monitoring_pool) + 1
    cpus = nodes * MACHINE_TYPES[settings.machine_type].vcpus + _DEFAULT_POOL_VCPUS
    if settings.monitoring_pool:
        cpus += MACHINE_TYPES[settings.monitoring_machine_type].vcpus
    measured_gb = nodes * settings.disk_size_gb
    on_ssd = settings.disk_type in _SSD_DISKS
    return {
        "CPUS": cpus,
        "SSD_TOTAL_GB": others * _DISK_GB + (measured_gb if on_ssd else 0),
        "DISKS_TOTAL_GB": 0 if on_ssd else measured_gb,
        "LOCAL_SSD_TOTAL_GB": nodes * settings.local_ssd_count * LOCAL_SSD_GB,
        "IN_USE_ADDRESSES": 0 if settings.private_nodes else nodes + others,
        "INSTANCES": nodes + others,
    }
