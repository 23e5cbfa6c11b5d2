"""What a stack requires of Google before it can be created: quotas, APIs, permissions. Pure.

It repeats what the program's resources imply, for checks before `pulumi up`
(experiment.preflight.checks).
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import yaml

from infra.components.cluster import MEASURED_POOL, MONITORING_POOL
from infra.components.event_exporter import CONFIGURATION
from infra.components.expiry import scheduler_region
from infra.prices import LOCAL_SSD_GB, MACHINE_TYPES
from infra.settings import Settings

_DEFAULT_POOL_MACHINE, _DEFAULT_POOL_VCPUS = "e2-medium", 2
"""Of the node with which GKE creates a cluster."""
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
    "cloudscheduler.locations.list",
    "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.list",
    "compute.machineTypes.get",
    "compute.networks.get",
    "compute.projects.get",
    "compute.regions.get",
    "compute.zones.get",
    "container.bindings.create",
    "container.clusters.create",
    "container.clusters.delete",
    "container.clusters.get",
    "container.clusters.update",
    "container.deployments.create",
    "container.events.list",
    "container.jobs.create",
    "container.nodes.proxy",
    "iam.serviceAccounts.actAs",
    "iam.serviceAccounts.create",
    "iam.serviceAccounts.get",
    "logging.logEntries.list",
    "logging.sinks.create",
    "resourcemanager.projects.getIamPolicy",
    "resourcemanager.projects.setIamPolicy",
    "serviceusage.services.list",
    "serviceusage.services.use",
    "storage.buckets.create",
    "storage.buckets.setIamPolicy",
)
"""One or two of each role listed in docs/running-on-gke.md, on the project."""


_OF_REMOTE_REPOSITORIES = (
    "artifactregistry.dockerimages.list",
    "artifactregistry.repositories.create",
    "artifactregistry.repositories.delete",
    "artifactregistry.repositories.get",
)
"""Of roles/artifactregistry.admin."""
_OF_FLUX_OPERATOR = (
    "container.customResourceDefinitions.create",
    "container.thirdPartyObjects.create",
    "container.thirdPartyObjects.delete",
    "container.thirdPartyObjects.list",
)
"""Of roles/container.admin: the definition of MiniClusters, and the MiniClusters."""
_OF_NODE_INIT = ("storage.buckets.delete", "storage.objects.create", "storage.objects.delete")
"""Of roles/storage.admin, for the bucket of the nodes' init script."""
_PROJECT_QUOTAS = frozenset({"CPUS_ALL_REGIONS"})
DEFAULT_POOL = "default-pool"
"""With which GKE creates a cluster; the program removes it at once."""


@dataclass(frozen=True, slots=True)
class StackNeeds:
    """What a stack requires.

    Attributes:
        zones: in order of preference.
        pools: quotas by Compute Engine's metric, by node pool; DEFAULT_POOL is one of them.
        project_quotas: the metrics among them that hold over all regions.
        instead_of_spot: the metric that counts where no quota of a PREEMPTIBLE_ metric was granted.
        machine_types: of all nodes.
        min_cpu_platform: of the measured nodes; empty for any.
        scheduler_region: of the dead-man switch.
        apis: with .googleapis.com.
        permissions: required of the account that runs Pulumi and the runner.
        deadline_hours: after which the cluster deletes itself.
        private_nodes: all pulls share one NAT address.
        exporter: the event exporter's configuration; empty without one.
        exporter_image: with its digest; empty for no exporter.
        flux_operator_image: with its digest; empty for no Flux Operator.
    """

    zones: tuple[str, ...]
    pools: Mapping[str, Mapping[str, int]]
    project_quotas: Set[str]
    instead_of_spot: Mapping[str, str]
    machine_types: tuple[str, ...]
    min_cpu_platform: str
    scheduler_region: str
    apis: tuple[str, ...]
    permissions: tuple[str, ...]
    deadline_hours: int
    private_nodes: bool
    exporter: Mapping[str, Any]
    exporter_image: str
    flux_operator_image: str

    @property
    def zone(self) -> str:
        """Zone of all nodes."""
        return self.zones[0]

    @property
    def region(self) -> str:
        """Region of all nodes."""
        return self.regions[0]

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the zones, each once."""
        return tuple(dict.fromkeys(zone.rpartition("-")[0] for zone in self.zones))

    @property
    def quotas(self) -> dict[str, int]:
        """Quotas of all pools by metric."""
        total: Counter[str] = Counter()
        for quotas in self.pools.values():
            total.update(quotas)
        return dict(total)

    def of_pools(self, names: Sequence[str]) -> "StackNeeds":
        """Return what some of the pools require; others than the stack's require nothing."""
        return replace(self, pools={name: self.pools.get(name, {}) for name in names})


def stack_needs(settings: Settings) -> StackNeeds:
    """Return what a stack with these settings requires."""
    # The program itself enables containerfilesystem.
    remote = settings.remote_repository != ""
    registry = ("artifactregistry",) if settings.image_streaming or remote else ()
    images = ("compute.images.get",) if settings.preloaded_disk else ()
    monitoring = (settings.monitoring_machine_type,) if settings.monitoring_pool else ()
    return StackNeeds(
        zones=settings.zones,
        pools=pool_needs(settings),
        project_quotas=_PROJECT_QUOTAS,
        instead_of_spot={
            "PREEMPTIBLE_CPUS": MACHINE_TYPES[settings.machine_type].cpu_quota,
            "PREEMPTIBLE_LOCAL_SSD_GB": "LOCAL_SSD_TOTAL_GB",
        },
        machine_types=tuple(
            dict.fromkeys((settings.machine_type, *monitoring, _DEFAULT_POOL_MACHINE))
        ),
        min_cpu_platform=settings.min_cpu_platform,
        scheduler_region=scheduler_region(settings.location),
        apis=tuple(f"{name}.googleapis.com" for name in (*APIS, *registry)),
        permissions=(
            *PERMISSIONS,
            *(_OF_REMOTE_REPOSITORIES if remote else ()),
            *(_OF_FLUX_OPERATOR if settings.flux_operator_image else ()),
            *(_OF_NODE_INIT if settings.parallel_unpacks else ()),
            *images,
        ),
        deadline_hours=settings.deadline_hours,
        private_nodes=settings.private_nodes,
        exporter=dict(yaml.safe_load(CONFIGURATION)) if settings.exporter_image else {},
        exporter_image=settings.exporter_image,
        flux_operator_image=settings.flux_operator_image,
    )


def pool_needs(settings: Settings) -> dict[str, dict[str, int]]:
    """Return quotas by metric, by node pool; only the measured nodes can be spot or private."""
    measured = MACHINE_TYPES[settings.machine_type]
    monitoring = MACHINE_TYPES[settings.monitoring_machine_type]
    addresses = 0 if settings.private_nodes else 1
    pools = {
        DEFAULT_POOL: _node(_DEFAULT_POOL_VCPUS, "CPUS", addresses=addresses),
        MEASURED_POOL: _node(
            measured.vcpus,
            measured.cpu_quota,
            addresses=addresses,
            disk_type=settings.disk_type,
            disk_gb=settings.disk_size_gb,
            local_ssd_gb=settings.local_ssd_count * LOCAL_SSD_GB,
            spot=settings.spot,
        ),
    }
    if settings.monitoring_pool:
        pools[MONITORING_POOL] = _node(monitoring.vcpus, monitoring.cpu_quota, addresses=addresses)
    nodes = {MEASURED_POOL: settings.node_count}
    return {
        name: {metric: need * nodes.get(name, 1) for metric, need in node.items()}
        for name, node in pools.items()
    }


def _node(
    vcpus: int,
    cpu_quota: str,
    *,
    addresses: int,
    disk_type: str = "pd-balanced",
    disk_gb: int = _DISK_GB,
    local_ssd_gb: int = 0,
    spot: bool = False,
) -> dict[str, int]:
    """Quotas of one node by metric."""
    on_ssd = disk_type in _SSD_DISKS
    return {
        "PREEMPTIBLE_CPUS" if spot else cpu_quota: vcpus,
        "CPUS_ALL_REGIONS": vcpus,
        "SSD_TOTAL_GB": disk_gb if on_ssd else 0,
        "DISKS_TOTAL_GB": 0 if on_ssd else disk_gb,
        "PREEMPTIBLE_LOCAL_SSD_GB" if spot else "LOCAL_SSD_TOTAL_GB": local_ssd_gb,
        "IN_USE_ADDRESSES": addresses,
        "INSTANCES": 1,
    }
