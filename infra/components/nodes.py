"""The configuration of the measured nodes and of the monitoring node.

Pure functions from settings to arguments; `infra.components.cluster` creates the pools.
"""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_gcp import container

from infra.settings import Settings
from schema.names import MEASURED_LABEL

SCOPES = tuple(
    f"https://www.googleapis.com/auth/{scope}"
    for scope in (
        "devstorage.read_only",
        "logging.write",
        "monitoring",
        "service.management.readonly",
        "servicecontrol",
        "trace.append",
    )
)
"""gcloud's default for a node. Not cloud-platform: pods can read a node's token."""


def measured_nodes(
    settings: Settings,
    account: pulumi.Input[str],
    linux: container.NodePoolNodeConfigLinuxNodeConfigArgs | None = None,
) -> container.NodePoolNodeConfigArgs:
    """Return a node whose pulls are measured: as the settings say, and no other work.

    Args:
        settings: of the stack.
        account: e-mail of its service account.
        linux: its init script (infra.components.node_init).
    """
    node = _node(settings, account, settings.machine_type)
    node.advanced_machine_features = container.NodePoolNodeConfigAdvancedMachineFeaturesArgs(
        threads_per_core=settings.threads_per_core
    )
    node.gvnic = container.NodePoolNodeConfigGvnicArgs(enabled=settings.gvnic)
    node.min_cpu_platform = settings.min_cpu_platform or None
    node.spot = settings.spot
    node.disk_type = settings.disk_type
    node.disk_size_gb = settings.disk_size_gb
    node.labels = {MEASURED_LABEL: "true"}
    node.linux_node_config = linux
    if settings.local_ssd_count:
        node.ephemeral_storage_local_ssd_config = (
            container.NodePoolNodeConfigEphemeralStorageLocalSsdConfigArgs(
                local_ssd_count=settings.local_ssd_count
            )
        )
    if settings.image_streaming:
        node.gcfs_config = container.NodePoolNodeConfigGcfsConfigArgs(enabled=True)
    if settings.preloaded_disk:
        node.secondary_boot_disks = [
            container.NodePoolNodeConfigSecondaryBootDiskArgs(
                disk_image=settings.preloaded_disk, mode="CONTAINER_IMAGE_CACHE"
            )
        ]
    if settings.max_parallel_image_pulls:
        node.kubelet_config = container.NodePoolNodeConfigKubeletConfigArgs(
            max_parallel_image_pulls=settings.max_parallel_image_pulls
        )
    if settings.registry_hosts:
        node.containerd_config = _mirrors(settings.registry_hosts)
    if settings.monitoring_pool:
        node.taints = [
            container.NodePoolNodeConfigTaintArgs(
                key=MEASURED_LABEL, value="true", effect="NO_SCHEDULE"
            )
        ]
    else:
        # The exporter runs here, and without the taint system pods can.
        node.logging_variant = "MAX_THROUGHPUT"
    return node


def monitoring_nodes(
    settings: Settings, account: pulumi.Input[str]
) -> container.NodePoolNodeConfigArgs:
    """Return the node of the exporter and of the system pods."""
    node = _node(settings, account, settings.monitoring_machine_type)
    # The events of all nodes pass through this node's log agent.
    node.logging_variant = "MAX_THROUGHPUT"
    return node


def _mirrors(
    registries: Mapping[str, Sequence[str]],
) -> container.NodePoolNodeConfigContainerdConfigArgs:
    """Return containerd's hosts.toml of each registry: its mirrors in order, then itself."""
    return container.NodePoolNodeConfigContainerdConfigArgs(
        registry_hosts=[
            container.NodePoolNodeConfigContainerdConfigRegistryHostArgs(
                server=registry, hosts=[_mirror(url) for url in mirrors]
            )
            for registry, mirrors in registries.items()
        ]
    )


def _mirror(url: str) -> container.NodePoolNodeConfigContainerdConfigRegistryHostHostArgs:
    return container.NodePoolNodeConfigContainerdConfigRegistryHostHostArgs(
        host=url,
        # Not push: containerd would have it by default.
        capabilities=["HOST_CAPABILITY_PULL", "HOST_CAPABILITY_RESOLVE"],
        # A path such as /v2/proxy is the root of the API; to any other, containerd adds /v2.
        override_path="/v2/" in url,
    )


def _node(
    settings: Settings, account: pulumi.Input[str], machine_type: str
) -> container.NodePoolNodeConfigArgs:
    return container.NodePoolNodeConfigArgs(
        machine_type=machine_type,
        service_account=account,
        oauth_scopes=list(SCOPES),
        # Instances of deleted clusters would otherwise answer the old, unprotected metadata API.
        metadata={"disable-legacy-endpoints": "true"},
        shielded_instance_config=container.NodePoolNodeConfigShieldedInstanceConfigArgs(
            enable_integrity_monitoring=True, enable_secure_boot=settings.shielded_nodes
        ),
        workload_metadata_config=container.NodePoolNodeConfigWorkloadMetadataConfigArgs(
            mode=settings.workload_metadata
        ),
    )
