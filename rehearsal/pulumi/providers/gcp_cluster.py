"""GKE clusters, with the calls and decisions of the official provider.

Deliberately without Autopilot and without what no study needs (fleets, TPUs, Anthos): properties
that are not listed as supported are refused in preview.
"""

from typing import Any, ClassVar

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.differences import Rules
from rehearsal.pulumi.providers.gcp_kind import Kind, Update, location_of, project_of
from rehearsal.pulumi.providers.gcp_node_config import (
    NODE_COMPUTED,
    NODE_ENUMS,
    NODE_REPLACE,
    NODE_TABLE,
    disk_failures,
    prefixed,
    update_nodes,
)
from rehearsal.pulumi.providers.gcp_node_pool import POOL_TABLE
from rehearsal.pulumi.providers.gcp_translate import Table, to_rest
from rehearsal.pulumi.providers.gke import NAME, Gke
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props, merged
from rehearsal.pulumi.providers.shapes import Failure

_DESIRED = {
    "addonsConfig": "desiredAddonsConfig",
    "costManagementConfig": "desiredCostManagementConfig",
    "enableShieldedNodes": "desiredShieldedNodes",
    "loggingConfig": "desiredLoggingConfig",
    "loggingService": "desiredLoggingService",
    "minMasterVersion": "desiredMasterVersion",
    "monitoringConfig": "desiredMonitoringConfig",
    "monitoringService": "desiredMonitoringService",
    "nodeLocations": "desiredLocations",
    "releaseChannel": "desiredReleaseChannel",
    "verticalPodAutoscaling": "desiredVerticalPodAutoscaling",
    "workloadIdentityConfig": "desiredWorkloadIdentityConfig",
}
"""Properties that a PUT of the cluster changes, one a call."""

_STATE_ONLY = (
    "deletionPolicy", "deletionProtection", "location", "networkingMode", "project",
    "removeDefaultNodePool",
)  # fmt: skip
_ALWAYS = {
    "legacyAbac": {"enabled": False},
    "autopilot": {"enabled": False},
    "binaryAuthorization": {"enabled": False},
    "controlPlaneEndpointsConfig": {"ipEndpointsConfig": {"enablePublicEndpoint": True}},
}
"""What the official provider sends although nobody asked."""


class Cluster(Kind):
    """A GKE cluster."""

    resource_type: ClassVar = "gcp:container/cluster:Cluster"
    supported: ClassVar = {
        *_DESIRED, *_STATE_ONLY, "clusterIpv4Cidr", "datapathProvider", "defaultMaxPodsPerNode",
        "description", "enableLegacyAbac", "initialNodeCount", "ipAllocationPolicy", "name",
        "network", "nodeConfig", "privateClusterConfig", "resourceLabels", "subnetwork",
    }  # fmt: skip
    table: ClassVar = (
        Table(
            rows={
                "datapathProvider": "networkConfig.datapathProvider",
                "defaultMaxPodsPerNode": "defaultMaxPodsConstraint.maxPodsPerNode",
                "enableLegacyAbac": "legacyAbac.enabled",
                "enableShieldedNodes": "shieldedNodes.enabled",
                "loggingConfig.enableComponents": "componentConfig.enableComponents",
                "minMasterVersion": "initialClusterVersion",
                "monitoringConfig.enableComponents": "componentConfig.enableComponents",
                "monitoringConfig.managedPrometheus": "managedPrometheusConfig",
                "nodeLocations": "locations",
                "privateClusterConfig": "",
                **dict.fromkeys(_STATE_ONLY, ""),
            },
            int64=["defaultMaxPodsPerNode"],
        )
        | NODE_TABLE.below("nodeConfig")
        | POOL_TABLE.below("nodePools")
    )
    rules: ClassVar = Rules(
        replace={
            "clusterIpv4Cidr", "datapathProvider", "defaultMaxPodsPerNode", "description",
            "initialNodeCount", "ipAllocationPolicy", "location", "name", "network",
            "networkingMode", "project", "subnetwork", *prefixed("nodeConfig", NODE_REPLACE),
        },
        computed={
            "addonsConfig", "clusterIpv4Cidr", "costManagementConfig", "datapathProvider",
            "ipAllocationPolicy", "location", "loggingConfig", "loggingService",
            "monitoringConfig", "monitoringService", "networkingMode", "nodeConfig",
            "nodeLocations", "privateClusterConfig", "project", "releaseChannel", "subnetwork",
            "verticalPodAutoscaling", "workloadIdentityConfig",
            *prefixed("nodeConfig", NODE_COMPUTED),
        },
        unordered={
            "loggingConfig.enableComponents", "monitoringConfig.enableComponents",
            "nodeConfig.oauthScopes", "nodeLocations",
        },
        links={"network", "subnetwork"},
        sizes={
            "ipAllocationPolicy.clusterIpv4CidrBlock",
            "ipAllocationPolicy.servicesIpv4CidrBlock",
        },
    )  # fmt: skip
    defaults: ClassVar = {
        "deletionProtection": True,
        "enableShieldedNodes": True,
        "network": "default",
    }
    state_only: ClassVar = (*_STATE_ONLY, "minMasterVersion")
    auto_named: ClassVar = True
    labels: ClassVar = "resourceLabels"
    patterns: ClassVar = {"name": NAME}
    enums: ClassVar = {
        "networkingMode": {"VPC_NATIVE", "ROUTES"},
        "releaseChannel.channel": {"UNSPECIFIED", "RAPID", "REGULAR", "STABLE", "EXTENDED"},
        **{f"nodeConfig.{path}": legal for path, legal in NODE_ENUMS.items()},
    }

    def refusals(self, inputs: Props) -> list[Failure]:
        """Properties that exclude each other, and too small disks."""
        failures = disk_failures(inputs)
        if "clusterIpv4Cidr" in inputs and "ipAllocationPolicy" in inputs:
            said = '"cluster_ipv4_cidr": conflicts with ip_allocation_policy; set one of them.'
            failures.append(Failure("clusterIpv4Cidr", said))
        return failures

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, wait, and remove the default pool where asked."""
        project, location = project_of(api, inputs), location_of(api, inputs)
        parent = f"projects/{project}/locations/{location}"
        gke = Gke(api, f"{parent}/clusters/{inputs['name']}")
        body = {"cluster": self._creation_body(api, inputs, project, location)}

        def make() -> None:
            gke.change("POST", f"{parent}/clusters", body, "creating GKE cluster")
            if inputs.get("removeDefaultNodePool"):
                pool = f"{gke.cluster}/nodePools/default-pool"
                gke.change("DELETE", pool, None, "removing default node pool")

        gke.refuse_existing(gke.cluster)
        return gke.created(gke.cluster, make)

    def _creation_body(self, api: GoogleApi, inputs: Props, project: str, location: str) -> Props:
        body = merged(_ALWAYS, self.body(api, inputs))
        body["network"] = _link(body["network"], f"projects/{project}/global/networks")
        zonal = location.count("-") == 2  # noqa: PLR2004 (us-central1-a)
        if "subnetwork" in body:
            region = location.rpartition("-")[0] if zonal else location
            parent = f"projects/{project}/regions/{region}/subnetworks"
            body["subnetwork"] = _link(body["subnetwork"], parent)
        if "ipAllocationPolicy" in body or "clusterIpv4Cidr" not in body:
            policy = {"useIpAliases": inputs.get("networkingMode") != "ROUTES"}
            body["ipAllocationPolicy"] = policy | body.get("ipAllocationPolicy", {})
        if "privateClusterConfig" in inputs:
            body.setdefault("networkConfig", {})["defaultEnablePrivateNodes"] = _private(inputs)
        if "locations" in body and zonal:
            body["locations"] = [*body["locations"], location]
        return body

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET."""
        return api.find("container", resource_id)

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """The properties, and what programs connect with."""
        outputs = super().outputs(api, resource_id, body)
        network: dict[str, Any] = body.get("networkConfig", {})
        _, project, _, location, *_ = resource_id.split("/")
        for key in ("network", "subnetwork"):
            outputs[key] = network.get(key) or body.get(key)
        return {
            **outputs,
            "endpoint": body.get("endpoint"),
            "labelFingerprint": body.get("labelFingerprint"),
            "location": location,
            "masterVersion": body.get("currentMasterVersion"),
            "nodeLocations": [each for each in body.get("locations", []) if each != location],
            "nodeVersion": body.get("currentNodeVersion"),
            "privateClusterConfig": {
                "enablePrivateNodes": network.get("defaultEnablePrivateNodes", False)
            },
            "project": project,
            "selfLink": body.get("selfLink"),
            "servicesIpv4Cidr": body.get("servicesIpv4Cidr"),
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """One call a property; each waits for the one before."""
        gke = Gke(api, resource_id)
        gke.at_rest(resource_id)
        body = to_rest(self.table, update.new)
        for key in sorted(update.tops & _DESIRED.keys() & update.new.keys()):
            value = body[self.table.rows.get(key, key).partition(".")[0]]
            gke.update({_DESIRED[key]: value}, f"updating {key}")
        if "resourceLabels" in update.tops:
            labels = {
                "resourceLabels": self.body(api, update.new)["resourceLabels"],
                "labelFingerprint": update.state.get("labelFingerprint", ""),
            }
            path = f"{resource_id}:setResourceLabels"
            gke.change("POST", path, labels, "updating GKE resource labels")
        if "enableLegacyAbac" in update.tops:
            content = {"enabled": update.new.get("enableLegacyAbac", False)}
            gke.change("POST", f"{resource_id}:setLegacyAbac", content, "updating legacy ABAC")
        if "privateClusterConfig" in update.tops:
            desired = {"desiredDefaultEnablePrivateNodes": _private(update.new)}
            gke.update(desired, "updating default enable private nodes")
        if "nodeConfig" in update.tops:
            update_nodes(gke, f"{resource_id}/nodePools/default-pool", update)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE and wait, unless the cluster is protected."""
        if state.get("deletionProtection"):
            raise ProviderError(
                "Cannot destroy cluster because deletion_protection is set to true. "
                "Set it to false to proceed with cluster deletion."
            )
        Gke(api, resource_id).remove(resource_id, "deleting GKE cluster")


def _private(inputs: Props) -> bool:
    return bool(inputs.get("privateClusterConfig", {}).get("enablePrivateNodes", False))


def _link(value: str, parent: str) -> str:
    return value if "/" in value else f"{parent}/{value}"
