"""The configuration of nodes, the same in a cluster's default pool and in a node pool."""

from collections.abc import Iterable, Mapping
from typing import Any

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.gcp_kind import Update
from rehearsal.pulumi.providers.gcp_translate import Table, to_rest
from rehearsal.pulumi.providers.gke import Gke
from rehearsal.pulumi.providers.properties import Props, has_unknown
from rehearsal.pulumi.providers.shapes import Failure

NODE_TABLE = Table(
    rows={
        "effectiveTaints": "",
        "guestAccelerators": "accelerators",
        "guestAccelerators.count": "acceleratorCount",
        "guestAccelerators.type": "acceleratorType",
        "loggingVariant": "loggingConfig.variantConfig.variant",
    },
    int64=[
        "advancedMachineFeatures.threadsPerCore", "bootDisk.provisionedIops",
        "bootDisk.provisionedThroughput", "bootDisk.sizeGb", "guestAccelerators.count",
        "kubeletConfig.podPidsLimit",
    ],
    upper_bools=["kubeletConfig.insecureKubeletReadonlyPortEnabled"],
)  # fmt: skip

NODE_REPLACE = (
    "advancedMachineFeatures", "bootDiskKmsKey", "enableConfidentialStorage",
    "ephemeralStorageConfig", "ephemeralStorageLocalSsdConfig", "flexStart", "guestAccelerators",
    "hostMaintenancePolicy", "localNvmeSsdBlockConfig", "localSsdCount",
    "localSsdEncryptionMode", "maxRunDuration", "metadata", "minCpuPlatform", "nodeGroup",
    "oauthScopes", "preemptible", "reservationAffinity", "sandboxConfig", "secondaryBootDisks",
    "serviceAccount", "shieldedInstanceConfig", "soleTenantConfig", "spot",
)  # fmt: skip
"""ForceNew in schemaNodeConfig of the official provider."""

NODE_COMPUTED = (
    "bootDisk", "containerdConfig", "diskSizeGb", "diskType", "gcfsConfig", "guestAccelerators",
    "imageType", "kubeletConfig", "labels", "linuxNodeConfig", "localSsdCount", "loggingVariant",
    "machineType", "metadata", "minCpuPlatform", "oauthScopes", "preemptible", "serviceAccount",
    "shieldedInstanceConfig", "spot", "workloadMetadataConfig",
)  # fmt: skip
"""Computed (or with a default) there: leaving it out again is no change."""

NODE_ENUMS: Mapping[str, frozenset[str]] = {
    "loggingVariant": frozenset({"DEFAULT", "MAX_THROUGHPUT"}),
    "taints.effect": frozenset({"NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"}),
    "workloadMetadataConfig.mode": frozenset({"MODE_UNSPECIFIED", "GCE_METADATA", "GKE_METADATA"}),
}

_WRAPPED = {"labels": "labels", "resourceLabels": "labels", "tags": "tags", "taints": "taints"}
"""Properties that an update holds in an object of its own."""
_PLAIN = (
    "containerdConfig", "gcfsConfig", "gvnic", "kubeletConfig", "linuxNodeConfig",
    "workloadMetadataConfig",
)  # fmt: skip
_MACHINE = ("diskSizeGb", "diskType", "machineType", "bootDisk", "storagePools")
"""Properties that one update changes together."""
_SMALLEST_DISK_GB = 10


def prefixed(prefix: str, paths: Iterable[str]) -> list[str]:
    """The paths below a property."""
    return [f"{prefix}.{path}" for path in paths]


def disk_failures(inputs: Props) -> list[Failure]:
    """Boot disks that Google does not make."""
    size = inputs.get("nodeConfig", {}).get("diskSizeGb") if _is_map(inputs) else None
    if size is None or has_unknown(size) or not isinstance(size, int) or size >= _SMALLEST_DISK_GB:
        return []
    path = "nodeConfig.diskSizeGb"
    return [Failure(path, f"expected {path} to be at least (10), got {size}.")]


def _is_map(inputs: Props) -> bool:
    return isinstance(inputs.get("nodeConfig", {}), Mapping)


def update_nodes(gke: Gke, pool: str, update: Update) -> None:
    """Bring the nodes of a pool to a new configuration, one call a property.

    Args:
        gke: the cluster.
        pool: the pool's full name.
        update: of the cluster or pool that has the property nodeConfig.

    Raises:
        ProviderError: this stand-in cannot change one of the properties, or GKE refuses.
    """
    name = pool.rpartition("/")[2]
    content: dict[str, Any]
    config = to_rest(NODE_TABLE, update.new.get("nodeConfig", {}))
    changed = {
        each.path.removeprefix("nodeConfig.").partition(".")[0].partition("[")[0]
        for each in update.changes
        if each.top == "nodeConfig"
    }
    unknown = sorted(changed - {*_MACHINE, *_WRAPPED, *_PLAIN, "imageType", "loggingVariant"})
    if unknown:
        raise ProviderError(
            f"The stand-in of the gcp provider cannot change nodeConfig.{unknown[0]} of {pool} in "
            "place; install the official plugin, or make the pool anew."
        )
    if changed & {*_MACHINE}:
        machine = {key: config[key] for key in _MACHINE if key in config}
        if "diskSizeGb" in machine:  # an int32 in a node's configuration, an int64 in its update
            machine["diskSizeGb"] = str(machine["diskSizeGb"])
        gke.change("PUT", pool, {"name": name, **machine}, "updating GKE node pool machines")
    for key in sorted(changed & _WRAPPED.keys()):
        empty: Any = {} if key.lower().endswith("labels") else []
        content = {key: {_WRAPPED[key]: config.get(key, empty)}}
        gke.change("PUT", pool, {"name": name, **content}, f"updating GKE node pool {key}")
    for key in sorted(changed & {*_PLAIN}):
        content = {"nodePoolId": name, key: config.get(key, {})}
        gke.change("PUT", pool, content, f"updating GKE node pool {key}")
    if "loggingVariant" in changed:
        content = {"name": name, "loggingConfig": config.get("loggingConfig", {})}
        gke.change("PUT", pool, content, "updating GKE node pool logging_variant")
    if "imageType" in changed:
        content = {"desiredNodePoolId": name, "desiredImageType": config.get("imageType")}
        gke.update(content, "updating GKE node pool image")
