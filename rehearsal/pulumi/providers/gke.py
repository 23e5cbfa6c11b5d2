"""GKE clusters and node pools, with the requests and decisions of the official provider."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rehearsal.pulumi.providers.gcp_kind import CreatedBrokenError, Kind, Table, Update
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json, OperationError
from rehearsal.pulumi.providers.properties import Props, Rules, merged
from rehearsal.pulumi.providers.protocol import ProviderError

_RESTING = frozenset({"RUNNING", "ERROR", "DEGRADED", "RUNNING_WITH_ERROR"})
_BROKEN = frozenset({"ERROR", "RUNNING_WITH_ERROR"})
_INCOMPATIBLE = "incompatible operation"
_BUSY_PAUSE_S = 0.5

_ALWAYS: Props = {
    "autopilot": {"enabled": False},
    "autoscaling": {"enableNodeAutoprovisioning": False},
    "binaryAuthorization": {"enabled": False},
    "controlPlaneEndpointsConfig": {
        "dnsEndpointConfig": {
            "allowExternalTraffic": False,
            "enableK8sCertsViaDns": False,
            "enableK8sTokensViaDns": False,
        },
        "ipEndpointsConfig": {
            "authorizedNetworksConfig": {},
            "enablePublicEndpoint": True,
            "enabled": True,
            "globalAccess": False,
            "privateEndpointSubnetwork": "",
        },
    },
    "ipAllocationPolicy": {"stackType": "IPV4", "useIpAliases": True},
    "legacyAbac": {"enabled": False},
    "networkConfig": {},
    "networkPolicy": {},
    "nodeConfig": {
        "oauthScopes": [
            f"https://www.googleapis.com/auth/{scope}"
            for scope in (
                "devstorage.read_only", "logging.write", "monitoring",
                "service.management.readonly", "servicecontrol", "trace.append",
            )
        ]
    },
    "notificationConfig": {"pubsub": {}},
}  # fmt: skip
"""What the official provider sends of a cluster, whatever the program says."""

_DESIRED = {
    "enableShieldedNodes": "desiredShieldedNodes",
    "releaseChannel": "desiredReleaseChannel",
    "workloadIdentityConfig": "desiredWorkloadIdentityConfig",
}
"""Properties that a PUT of the cluster changes, one a call."""
_MACHINE = ("diskSizeGb", "diskType", "machineType")
"""Properties of nodes that one PUT of the pool changes together."""
_NODE_OBJECTS = (
    "containerdConfig",
    "gcfsConfig",
    "gvnic",
    "kubeletConfig",
    "linuxNodeConfig",
    "workloadMetadataConfig",
)
"""Properties of nodes that a PUT of the pool changes, one a call."""


class _Gke:
    """Calls about one cluster, projects/P/locations/L/clusters/NAME, that start operations."""

    def __init__(self, api: GoogleApi, cluster: str) -> None:
        self._api = api
        self.cluster = cluster
        self._parent = cluster.partition("/clusters/")[0]

    def created(self, path: str, make: Callable[[], None]) -> str:
        """Run the calls that create a cluster or pool; return its full name.

        Raises:
            CreatedBrokenError: it exists, but an operation failed or its state is an error.
        """
        if self._api.find("CONTAINER", path) is not None:
            raise ApiError(409, f"Already exists: {path}.", "alreadyExists")
        try:
            make()
        except OperationError as error:
            if self._api.find("CONTAINER", path) is None:
                raise
            raise CreatedBrokenError(path, str(error)) from error
        status = self.await_idle(path)
        if status in _BROKEN:
            raise CreatedBrokenError(path, f'{path} was created in the error state "{status}"')
        return path

    def change(
        self, method: str, path: str, body: Mapping[str, Any] | None, waited_for: str
    ) -> None:
        """Make a call and wait for its operation; retry while GKE is busy with another one."""
        while True:
            try:
                operation = self._api.call("CONTAINER", method, path, body)
                break
            except ApiError as error:
                if _INCOMPATIBLE not in error.message:
                    raise
            self._api.pause(_BUSY_PAUSE_S, waited_for)
        self._api.wait("CONTAINER", operation, self._operation, waited_for)

    def _operation(self, name: str) -> str:
        return f"{self._parent}/operations/{name.rpartition('/')[2]}"

    def remove(self, path: str, waited_for: str) -> None:
        """Delete a cluster or pool once no operation runs on it."""
        if self.await_idle(path) is None:
            return
        try:
            self.change("DELETE", path, None, waited_for)
        except ApiError as error:
            if error.status != 404:  # noqa: PLR2004 (HTTP)
                raise

    def await_idle(self, path: str) -> str | None:
        """Wait until no operation runs on it; return its status, None if it does not exist."""
        pause = 0.1
        while True:
            body = self._api.find("CONTAINER", path)
            status = None if body is None else str(body.get("status", "RUNNING"))
            if status is None or status in _RESTING:
                return status
            self._api.pause(pause, f"{path} to leave the state {status}")
            pause = min(pause * 1.5, 1.0)


class Cluster(Kind):
    """A GKE cluster."""

    resource_type: ClassVar = "gcp:container/cluster:Cluster"
    service: ClassVar = "CONTAINER"
    properties: ClassVar = """
        name location nodeLocations network initialNodeCount removeDefaultNodePool
        deletionProtection minMasterVersion releaseChannel.channel enableShieldedNodes
        ipAllocationPolicy.clusterIpv4CidrBlock privateClusterConfig.enablePrivateNodes
        workloadIdentityConfig.workloadPool resourceLabels
        maintenancePolicy.dailyMaintenanceWindow.startTime
        maintenancePolicy.maintenanceExclusions.endTime
        maintenancePolicy.maintenanceExclusions.exclusionName
        maintenancePolicy.maintenanceExclusions.exclusionOptions.scope
        maintenancePolicy.maintenanceExclusions.startTime
    """
    needed: ClassVar = ("location", "name")
    table: ClassVar = Table(
        rows={
            "enableShieldedNodes": "shieldedNodes.enabled",
            "minMasterVersion": "initialClusterVersion",
            "nodeLocations": "locations",
            "maintenancePolicy": "",
            "privateClusterConfig": "",
            **dict.fromkeys(("deletionProtection", "location", "removeDefaultNodePool"), ""),
        }
    )
    rules: ClassVar = Rules(
        replace={"initialNodeCount", "ipAllocationPolicy", "location", "name", "network"},
        computed={
            "ipAllocationPolicy", "nodeLocations", "privateClusterConfig", "releaseChannel",
            "workloadIdentityConfig",
        },
        unordered={"nodeLocations"},
        equal=lambda path, there, new: (
            # A network may be given by its name alone, an address range by its size alone.
            path in {"network", "ipAllocationPolicy.clusterIpv4CidrBlock"}
            and str(there).endswith(f"/{str(new).removeprefix('/')}")
        ),
    )  # fmt: skip
    defaults: ClassVar = {
        "deletionProtection": True,
        "enableShieldedNodes": True,
        "network": "default",
    }
    state_only: ClassVar = ("deletionProtection", "minMasterVersion", "removeDefaultNodePool")
    labels: ClassVar = "resourceLabels"
    patterns: ClassVar = {
        "name": (
            "[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
            "up to 40 lower-case letters, digits and hyphens, from a letter to no hyphen",
        )
    }
    enums: ClassVar = {
        "maintenancePolicy.maintenanceExclusions.exclusionOptions.scope": {
            "NO_UPGRADES", "NO_MINOR_UPGRADES", "NO_MINOR_OR_NODE_UPGRADES",
        },
        "releaseChannel.channel": {"UNSPECIFIED", "RAPID", "REGULAR", "STABLE", "EXTENDED"},
    }  # fmt: skip

    def create(self, api: GoogleApi, inputs: Props) -> str:
        project, location = api.project_of(inputs), str(inputs["location"])
        parent = f"projects/{project}/locations/{location}"
        gke = _Gke(api, f"{parent}/clusters/{inputs['name']}")
        body = merged(_ALWAYS, self.body(inputs))
        if "/" not in body["network"]:
            body["network"] = f"projects/{project}/global/networks/{body['network']}"
        body["maintenancePolicy"] = _maintenance(inputs, {})
        if "privateClusterConfig" in inputs:
            body["networkConfig"] = {"defaultEnablePrivateNodes": _private(inputs)}

        def make() -> None:
            gke.change("POST", f"{parent}/clusters", {"cluster": body}, "creating GKE cluster")
            if inputs.get("removeDefaultNodePool"):
                pool = f"{gke.cluster}/nodePools/default-pool"
                gke.change("DELETE", pool, None, "removing default node pool")

        return gke.created(gke.cluster, make)

    def outputs(self, resource_id: str, body: Json) -> Props:
        location, network = resource_id.split("/")[3], body.get("networkConfig", {})
        return {
            **super().outputs(resource_id, body),
            "endpoint": body.get("endpoint"),
            "labelFingerprint": body.get("labelFingerprint"),
            "location": location,
            "maintenancePolicy": _exclusions(body.get("maintenancePolicy", {}).get("window", {})),
            "masterAuth": body.get("masterAuth"),
            "masterVersion": body.get("currentMasterVersion"),
            "network": network.get("network") or body.get("network"),
            "nodeLocations": [each for each in body.get("locations", []) if each != location],
            "privateClusterConfig": {
                "enablePrivateNodes": network.get("defaultEnablePrivateNodes", False)
            },
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        gke, tops, new = _Gke(api, resource_id), update.tops, update.new
        gke.await_idle(resource_id)
        silent = {"deletionProtection", "removeDefaultNodePool"}
        if "minMasterVersion" not in new:
            silent.add("minMasterVersion")
        others = {"maintenancePolicy", "privateClusterConfig", "resourceLabels"}
        self.refuse_changes(resource_id, tops - silent - others - _DESIRED.keys())
        body = self.body(new)
        desired = {
            name: body[self.table.rows.get(key, key).partition(".")[0]]
            for key, name in _DESIRED.items()
            if key in tops and key in new
        }
        if "privateClusterConfig" in tops:
            desired["desiredDefaultEnablePrivateNodes"] = _private(new)
        for key, value in desired.items():
            gke.change("PUT", resource_id, {"update": {key: value}}, f"updating {key}")
        if "maintenancePolicy" in tops:
            present = api.call(self.service, "GET", resource_id).get("maintenancePolicy", {})
            gke.change(
                "POST",
                f"{resource_id}:setMaintenancePolicy",
                {"maintenancePolicy": _maintenance(new, present)},
                "updating GKE cluster maintenance policy",
            )
        if "resourceLabels" in tops:
            labels = {
                "resourceLabels": body["resourceLabels"],
                "labelFingerprint": update.state.get("labelFingerprint", ""),
            }
            path = f"{resource_id}:setResourceLabels"
            gke.change("POST", path, labels, "updating GKE resource labels")

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        if state.get("deletionProtection"):
            raise ProviderError(
                "Cannot destroy cluster because deletion_protection is set to true. "
                "Set it to false to proceed with cluster deletion."
            )
        _Gke(api, resource_id).remove(resource_id, "deleting GKE cluster")


def _maintenance(inputs: Props, present: Json) -> Json:
    """Return the policy to send, with the version of the present one."""
    policy = inputs.get("maintenancePolicy", {})
    window: Json = {}
    if exclusions := policy.get("maintenanceExclusions", []):
        window["maintenanceExclusions"] = {
            each["exclusionName"]: {
                "startTime": each["startTime"],
                "endTime": each["endTime"],
                "maintenanceExclusionOptions": each["exclusionOptions"],
            }
            for each in exclusions
        }
    if "dailyMaintenanceWindow" in policy:
        window["dailyMaintenanceWindow"] = policy["dailyMaintenanceWindow"]
    version = present.get("resourceVersion")
    return {"window": window, **({"resourceVersion": version} if version else {})}


def _exclusions(window: Json) -> Props | None:
    """Return the property of a window; Google's answer leaves out the scope NO_UPGRADES."""
    if not window:
        return None
    return {
        "dailyMaintenanceWindow": window.get("dailyMaintenanceWindow"),
        "maintenanceExclusions": [
            {
                "exclusionName": name,
                "startTime": each["startTime"],
                "endTime": each["endTime"],
                "exclusionOptions": {
                    "scope": each["maintenanceExclusionOptions"].get("scope", "NO_UPGRADES")
                },
            }
            for name, each in window.get("maintenanceExclusions", {}).items()
        ],
    }


def _private(inputs: Props) -> bool:
    return bool(inputs.get("privateClusterConfig", {}).get("enablePrivateNodes", False))


class NodePool(Kind):
    """A node pool."""

    resource_type: ClassVar = "gcp:container/nodePool:NodePool"
    service: ClassVar = "CONTAINER"
    properties: ClassVar = """
        name cluster location nodeCount version management.autoRepair management.autoUpgrade
        maintenancePolicies.exclusionUntilEndOfSupports.enabled
        nodeConfig.advancedMachineFeatures.threadsPerCore
        nodeConfig.containerdConfig.registryHosts.server
        nodeConfig.containerdConfig.registryHosts.hosts.host
        nodeConfig.containerdConfig.registryHosts.hosts.capabilities
        nodeConfig.containerdConfig.registryHosts.hosts.overridePath nodeConfig.diskSizeGb
        nodeConfig.diskType nodeConfig.ephemeralStorageLocalSsdConfig.localSsdCount
        nodeConfig.gcfsConfig.enabled nodeConfig.gvnic.enabled
        nodeConfig.kubeletConfig.maxParallelImagePulls nodeConfig.labels
        nodeConfig.linuxNodeConfig.customNodeInit.initScript.gcsGeneration
        nodeConfig.linuxNodeConfig.customNodeInit.initScript.gcsUri
        nodeConfig.loggingVariant nodeConfig.machineType nodeConfig.metadata
        nodeConfig.minCpuPlatform nodeConfig.oauthScopes nodeConfig.serviceAccount
        nodeConfig.secondaryBootDisks.diskImage nodeConfig.secondaryBootDisks.mode
        nodeConfig.shieldedInstanceConfig.enableIntegrityMonitoring
        nodeConfig.shieldedInstanceConfig.enableSecureBoot nodeConfig.spot
        nodeConfig.taints.effect nodeConfig.taints.key nodeConfig.taints.value
        nodeConfig.workloadMetadataConfig.mode
    """
    needed: ClassVar = ("location", "name", "nodeCount")
    table: ClassVar = Table(
        rows={
            "maintenancePolicies": "maintenancePolicy",
            "maintenancePolicies.exclusionUntilEndOfSupports": "exclusionUntilEndOfSupport",
            "nodeConfig": "config",
            "nodeConfig.loggingVariant": "loggingConfig.variantConfig.variant",
            **dict.fromkeys(("cluster", "location", "nodeCount"), ""),
        },
        int64=[
            "nodeConfig.advancedMachineFeatures.threadsPerCore",
            "nodeConfig.linuxNodeConfig.customNodeInit.initScript.gcsGeneration",
        ],
        single=["maintenancePolicies", "maintenancePolicies.exclusionUntilEndOfSupports"],
    )
    rules: ClassVar = Rules(
        replace={
            "cluster", "location", "name", "nodeConfig.advancedMachineFeatures",
            "nodeConfig.ephemeralStorageLocalSsdConfig", "nodeConfig.metadata",
            "nodeConfig.minCpuPlatform", "nodeConfig.oauthScopes", "nodeConfig.secondaryBootDisks",
            "nodeConfig.serviceAccount", "nodeConfig.shieldedInstanceConfig", "nodeConfig.spot",
        },
        computed={
            "management", "nodeConfig.containerdConfig", "nodeConfig.diskSizeGb",
            "nodeConfig.diskType", "nodeConfig.gcfsConfig", "nodeConfig.kubeletConfig",
            "nodeConfig.linuxNodeConfig", "nodeConfig.loggingVariant", "version",
        },
        unordered={"nodeConfig.oauthScopes"},
    )  # fmt: skip
    enums: ClassVar = {
        "nodeConfig.loggingVariant": {"DEFAULT", "MAX_THROUGHPUT"},
        "nodeConfig.secondaryBootDisks.mode": {"CONTAINER_IMAGE_CACHE"},
        "nodeConfig.taints.effect": {"NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"},
        "nodeConfig.workloadMetadataConfig.mode": {
            "MODE_UNSPECIFIED", "GCE_METADATA", "GKE_METADATA",
        },
    }  # fmt: skip
    minimums: ClassVar = {
        "nodeConfig.diskSizeGb": 10,
        "nodeConfig.ephemeralStorageLocalSsdConfig.localSsdCount": 0,
        "nodeCount": 0,
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        project, location = api.project_of(inputs), inputs["location"]
        gke = _Gke(api, f"projects/{project}/locations/{location}/clusters/{inputs['cluster']}")
        body = merged({"networkConfig": {}}, self.body(inputs))
        body["config"] = _sent_config(body.get("config", {}))
        body["initialNodeCount"] = inputs["nodeCount"]

        def make() -> None:
            path = f"{gke.cluster}/nodePools"
            gke.change("POST", path, {"nodePool": body}, "creating GKE NodePool")

        return gke.created(f"{gke.cluster}/nodePools/{inputs['name']}", make)

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET the pool and its instance groups, which alone report the number of nodes."""
        body = api.find("CONTAINER", resource_id)
        if body is None:
            return None
        groups = [
            api.find("COMPUTE", "projects/" + url.partition("/projects/")[2])
            for url in body.get("instanceGroupUrls", [])
        ]
        return {**body, "groups": [group for group in groups if group]}

    def outputs(self, resource_id: str, body: Json) -> Props:
        """Return the properties; nodeCount is that of one zone, as everywhere in GKE's API."""
        _, _, _, location, _, cluster, *_ = resource_id.split("/")
        outputs = {**super().outputs(resource_id, body), "cluster": cluster, "location": location}
        if groups := body["groups"]:
            nodes = sum(int(group.get("targetSize", 0)) for group in groups)
            outputs["nodeCount"] = nodes // len(groups)
        return outputs

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        gke = _Gke(api, resource_id.partition("/nodePools/")[0])
        new, tops, name = update.new, update.tops, resource_id.rpartition("/")[2]
        body = self.body(new)
        gke.await_idle(resource_id)
        nodes = {
            each.path.removeprefix("nodeConfig.").partition(".")[0].partition("[")[0]
            for each in update.changes
            if each.top == "nodeConfig"
        }
        known = {*_MACHINE, *_NODE_OBJECTS, "loggingVariant", "taints"}
        self.refuse_changes(resource_id, {f"nodeConfig.{each}" for each in nodes - known})
        for content in _node_updates(name, nodes, body.get("config", {})):
            gke.change("PUT", resource_id, content, f"updating GKE node pool {min(content)}")
        if "nodeCount" in tops:
            content = {"nodeCount": new["nodeCount"]}
            gke.change("POST", f"{resource_id}:setSize", content, "updating GKE node pool size")
        if "management" in tops:
            content = {"management": body.get("management", {})}
            gke.change("POST", f"{resource_id}:setManagement", content, "updating management")
        if "version" in tops and "version" in new:
            content = {"nodePoolId": name, "nodeVersion": new["version"]}
            gke.change("PUT", resource_id, content, "updating GKE node pool version")
        if "maintenancePolicies" in tops:
            policy = body.get("maintenancePolicy", {})
            content = {"nodePoolId": name, "maintenancePolicy": policy}
            gke.change("PUT", resource_id, content, "updating GKE node pool maintenance policy")

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        cluster = resource_id.partition("/nodePools/")[0]
        _Gke(api, cluster).remove(resource_id, "deleting GKE NodePool")


def _sent_config(config: Json) -> Json:
    """Return nodes' configuration as the official provider sends it in a new pool."""
    config = merged({"loggingConfig": {"variantConfig": {}}}, config)
    if "kubeletConfig" in config:
        always = {"cpuCfsQuota": True, "insecureKubeletReadonlyPortEnabled": False}
        config["kubeletConfig"] = always | config["kubeletConfig"]
    if not config.get("spot"):
        config.pop("spot", None)
    shielded = config.get("shieldedInstanceConfig", {})
    if not shielded.get("enableSecureBoot"):
        shielded.pop("enableSecureBoot", None)
    return config


def _node_updates(name: str, changed: set[str], config: Json) -> list[Json]:
    """Return the bodies of the PUTs of a pool that bring its nodes to a new configuration."""
    bodies: list[Json] = []
    if changed & {*_MACHINE}:
        machine = {key: config[key] for key in _MACHINE if key in config}
        if "diskSizeGb" in machine:  # an int32 in a node's configuration, an int64 in its update
            machine["diskSizeGb"] = str(machine["diskSizeGb"])
        bodies.append({"name": name, **machine})
    for key in sorted(changed & {*_NODE_OBJECTS}):
        content = config.get(key, {})
        if key == "kubeletConfig":
            content = {"insecureKubeletReadonlyPortEnabled": False, **content}
        bodies.append({"nodePoolId": name, key: content})
    if "loggingVariant" in changed:
        bodies.append({"name": name, "loggingConfig": config.get("loggingConfig", {})})
    if "taints" in changed:
        taints = config.get("taints")
        bodies.append({"name": name, "taints": {"taints": taints} if taints else {}})
    return bodies
