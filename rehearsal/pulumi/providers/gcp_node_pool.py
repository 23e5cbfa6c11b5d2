"""GKE node pools, with the calls and decisions of the official provider."""

from typing import ClassVar

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
from rehearsal.pulumi.providers.gcp_translate import Table, to_rest
from rehearsal.pulumi.providers.gke import NAME, Gke
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.shapes import Failure

_STATE_ONLY = ("cluster", "deletionPolicy", "ignoreNodeCountChanges", "location")

POOL_TABLE = Table(
    rows={
        "maintenancePolicies": "maintenancePolicy",
        "maintenancePolicies.exclusionUntilEndOfSupports": "exclusionUntilEndOfSupport",
        "maxPodsPerNode": "maxPodsConstraint.maxPodsPerNode",
        "nodeConfig": "config",
        "nodeLocations": "locations",
        **dict.fromkeys(
            (*_STATE_ONLY, "instanceGroupUrls", "managedInstanceGroupUrls", "nodeCount", "project"),
            "",
        ),
    },
    int64=["maxPodsPerNode"],
    single=["maintenancePolicies", "maintenancePolicies.exclusionUntilEndOfSupports"],
) | NODE_TABLE.below("nodeConfig")
_PUT = ("maintenancePolicies", "networkConfig", "nodeLocations", "upgradeSettings")
"""Properties that a PUT of the pool changes, one a call."""


class NodePool(Kind):
    """A node pool."""

    resource_type: ClassVar = "gcp:container/nodePool:NodePool"
    supported: ClassVar = {
        *_STATE_ONLY, *_PUT, "autoscaling", "initialNodeCount", "management", "maxPodsPerNode",
        "name", "nodeConfig", "nodeCount", "placementPolicy", "project", "version",
    }  # fmt: skip
    table: ClassVar = POOL_TABLE
    rules: ClassVar = Rules(
        replace={
            "cluster", "initialNodeCount", "location", "maxPodsPerNode", "name",
            "placementPolicy", "project", *prefixed("nodeConfig", NODE_REPLACE),
        },
        computed={
            "initialNodeCount", "location", "management", "maxPodsPerNode", "networkConfig",
            "nodeConfig", "nodeCount", "nodeLocations", "project", "upgradeSettings", "version",
            *prefixed("nodeConfig", NODE_COMPUTED),
        },
        unordered={"nodeConfig.oauthScopes", "nodeLocations"},
        links={"cluster"},
    )  # fmt: skip
    state_only: ClassVar = _STATE_ONLY
    auto_named: ClassVar = True
    patterns: ClassVar = {"name": NAME}
    enums: ClassVar = {f"nodeConfig.{path}": legal for path, legal in NODE_ENUMS.items()}

    def refusals(self, inputs: Props) -> list[Failure]:
        """Too small disks."""
        return disk_failures(inputs)

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST to the cluster and wait."""
        gke = Gke(api, _cluster_of(api, inputs))
        pool = f"{gke.cluster}/nodePools/{inputs['name']}"
        body = to_rest(self.table, inputs)
        body["initialNodeCount"] = inputs.get("nodeCount", inputs.get("initialNodeCount", 0))
        if "autoscaling" in body:
            body["autoscaling"]["enabled"] = True

        def make() -> None:
            path = f"{gke.cluster}/nodePools"
            gke.change("POST", path, {"nodePool": body}, "creating GKE NodePool")

        gke.refuse_existing(pool)
        return gke.created(pool, make)

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET of the pool and of its instance groups, which alone say how many nodes there are."""
        body = api.find("container", resource_id)
        if body is None or inputs.get("ignoreNodeCountChanges"):
            return body
        groups = [
            api.find("compute", "projects/" + url.partition("/projects/")[2])
            for url in body.get("instanceGroupUrls", [])
        ]
        return {**body, "instanceGroups": [group for group in groups if group]}

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """The properties; nodeCount is of one zone, as everywhere in GKE's API."""
        outputs = super().outputs(api, resource_id, body)
        _, project, _, location, _, cluster, *_ = resource_id.split("/")
        groups = body.get("instanceGroups", [])
        if groups:
            nodes = sum(int(group.get("targetSize", 0)) for group in groups)
            outputs["nodeCount"] = nodes // len(groups)
        return {
            **outputs,
            "cluster": cluster,
            "instanceGroupUrls": [group.get("instanceGroup", "") for group in groups],
            "location": location,
            "managedInstanceGroupUrls": body.get("instanceGroupUrls", []),
            "project": project,
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """SetSize for the number of nodes, setManagement, and PUTs."""
        gke = Gke(api, resource_id.partition("/nodePools/")[0])
        pool = resource_id.rpartition("/")[2]
        gke.at_rest(resource_id)
        new, tops, body = update.new, update.tops, to_rest(self.table, update.new)
        if "nodeConfig" in tops:
            update_nodes(gke, resource_id, update)
        if "nodeCount" in tops and "nodeCount" in new:
            content = {"nodeCount": new["nodeCount"]}
            gke.change("POST", f"{resource_id}:setSize", content, "updating GKE node pool size")
        if "management" in tops:
            content = {"management": body.get("management", {})}
            gke.change("POST", f"{resource_id}:setManagement", content, "updating management")
        if "autoscaling" in tops:
            scaling = {**body.get("autoscaling", {}), "enabled": "autoscaling" in new}
            desired = {"desiredNodePoolId": pool, "desiredNodePoolAutoscaling": scaling}
            gke.update(desired, "updating GKE node pool autoscaling")
        if "version" in tops and "version" in new:
            content = {"nodePoolId": pool, "nodeVersion": new["version"]}
            gke.change("PUT", resource_id, content, "updating GKE node pool version")
        for key in sorted(tops & {*_PUT}):
            rest = self.table.rows.get(key, key)
            content = {"nodePoolId": pool, rest: body.get(rest, {})}
            gke.change("PUT", resource_id, content, f"updating GKE node pool {key}")

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE and wait."""
        gke = Gke(api, resource_id.partition("/nodePools/")[0])
        gke.remove(resource_id, "deleting GKE NodePool")


def _cluster_of(api: GoogleApi, inputs: Props) -> str:
    cluster = str(inputs["cluster"])
    if cluster.startswith("projects/"):
        return cluster
    project, location = project_of(api, inputs), location_of(api, inputs)
    return f"projects/{project}/locations/{location}/clusters/{cluster}"
