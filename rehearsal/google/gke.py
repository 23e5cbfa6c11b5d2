"""The GKE API's clusters and node pools, as far as Pulumi's gcp provider and the runner call it.

A cluster created here is a real control plane with nodes, run by a Fleet. The answers are GKE's own
messages. What is not modelled answers 501. A cluster has no deletion protection here because it has
none in GKE: that is a matter of the provider. Changed nodes of a pool are replaced by new ones.
"""

import base64
from collections.abc import Callable
from typing import Any

from google.cloud.container_v1beta1 import types

from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.gke_bodies import (
    check_management,
    check_pool,
    check_size,
    check_version,
    fingerprint,
    new_cluster,
    new_pool,
    read_message,
)
from rehearsal.google.gke_records import (
    BUSY,
    ClusterRecords,
    Operations,
    Task,
    answer,
    busy_error,
    key_of,
    path_of,
    pool_of,
    pool_spec,
)
from rehearsal.google.http import Endpoint, GoogleError, body_of, now
from rehearsal.google.state import GoogleState, Json
from rehearsal.machine.web import Call

_CLUSTER_UPDATES = {
    "desiredAddonsConfig": "addonsConfig",
    "desiredControlPlaneEndpointsConfig": "controlPlaneEndpointsConfig",
    "desiredCostManagementConfig": "costManagementConfig",
    "desiredDefaultEnablePrivateNodes": "networkConfig.defaultEnablePrivateNodes",
    "desiredLoggingConfig": "loggingConfig",
    "desiredLoggingService": "loggingService",
    "desiredMonitoringConfig": "monitoringConfig",
    "desiredMonitoringService": "monitoringService",
    "desiredNotificationConfig": "notificationConfig",
    "desiredReleaseChannel": "releaseChannel",
    "desiredSecurityPostureConfig": "securityPostureConfig",
    "desiredShieldedNodes": "shieldedNodes",
    "desiredVerticalPodAutoscaling": "verticalPodAutoscaling",
    "desiredWorkloadIdentityConfig": "workloadIdentityConfig",
    "gkeAutoUpgradeConfig": "gkeAutoUpgradeConfig",
}
"""Fields of an update: what of the cluster each replaces."""
_POOL_UPDATES = (
    "diskSizeGb",
    "diskType",
    "gcfsConfig",
    "gvnic",
    "kubeletConfig",
    "loggingConfig",
    "machineType",
    "workloadMetadataConfig",
)
_WRAPPED_UPDATES: dict[str, tuple[str, Any]] = {
    "labels": ("labels", {}),
    "resourceLabels": ("labels", {}),
    "tags": ("tags", []),
    "taints": ("taints", []),
}
"""Fields that an update wraps once more, as {"labels": {"labels": {...}}}: the inner name, and its
value where it is absent."""


class Clusters:
    """The API's methods over a state and a fleet."""

    def __init__(self, state: GoogleState, fleet: Fleet, faults: GoogleFaults) -> None:
        self._fleet = fleet
        self._records = ClusterRecords(state)
        self._operations = Operations(state, faults)
        self._pools = NodePools(self._records, fleet, self._operations)

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /container/."""
        place = "/container/{version}/projects/{project}/locations/{location}"
        cluster = f"{place}/clusters/{{cluster}}"
        return [
            *self._pools.routes(cluster),
            Endpoint("POST", f"{cluster}:setResourceLabels", self.set_labels),
            Endpoint("POST", f"{place}/clusters", self.create),
            Endpoint("GET", f"{place}/clusters", self.list_clusters),
            Endpoint("GET", cluster, self.get),
            Endpoint("PUT", cluster, self.update),
            Endpoint("DELETE", cluster, self.delete),
            Endpoint("GET", f"{place}/operations/{{operation}}", self.get_operation),
        ]

    def create(self, call: Call) -> Json:
        """Create a cluster; it is PROVISIONING until the operation ends."""
        sent = read_message(types.CreateClusterRequest, body_of(call)).get("cluster", {})
        project, location = call.path["project"], call.path["location"]
        body = new_cluster(project, location, sent)
        key = ClusterKey(project, location, body["name"])
        link = f"{call.base_url}container/v1beta1/{path_of(key)}"
        body |= {
            "status": "PROVISIONING",
            "createTime": now(),
            "selfLink": link,
            "labelFingerprint": fingerprint(body.get("resourceLabels")),
        }
        pools = body["nodePools"]
        for pool in pools:
            pool |= {"status": "PROVISIONING", "selfLink": f"{link}/nodePools/{pool['name']}"}
        self._records.check_capacity(key, {"body": {**body, "nodePools": []}, "sizes": {}}, pools)
        sizes = {pool["name"]: pool["initialNodeCount"] for pool in pools}
        self._records.add(key, {"body": body, "sizes": sizes})
        return self._start("CREATE_CLUSTER", key, lambda: self._bring_up(key), call.base_url)

    def get(self, call: Call) -> Json:
        """Return one cluster."""
        return answer(self._records.get(key_of(call)))

    def list_clusters(self, call: Call) -> Json:
        """List the clusters of a location, `-` for all."""
        records = self._records.find(call.path["project"], call.path["location"])
        return {"clusters": [answer(record) for record in records]}

    def update(self, call: Call) -> Json:
        """Change fields of a cluster, in place."""
        key = key_of(call)
        update = read_message(types.UpdateClusterRequest, body_of(call)).get("update", {})
        update.pop("etag", None)
        version = self._records.get(key)["body"].get("currentMasterVersion", "")
        check_version(version, update.pop("desiredMasterVersion", ""))
        for field in update.keys() - _CLUSTER_UPDATES.keys():
            raise GoogleError(501, f"The local Google cannot update a cluster's {field}.")
        self._idle(key)

        def change(record: Json) -> None:
            body = record["body"]
            for field, value in update.items():
                target, _, part = _CLUSTER_UPDATES[field].partition(".")
                # What an update of addons or networks does not name stays as it is.
                if part or target == "addonsConfig":
                    body[target] |= {part: value} if part else value
                else:
                    body[target] = value

        return self._start_change(key, change, call)

    def set_labels(self, call: Call) -> Json:
        """Replace a cluster's labels, unless they changed since they were read."""
        key = key_of(call)
        request = read_message(types.SetLabelsRequest, body_of(call))
        body = self._idle(key)["body"]
        if request.get("labelFingerprint") != body["labelFingerprint"]:
            raise GoogleError(412, "Labels could not be set due to fingerprint mismatch.")
        labels = request.get("resourceLabels", {})

        def change(record: Json) -> None:
            record["body"]["resourceLabels"] = labels
            record["body"]["labelFingerprint"] = fingerprint(labels)

        return self._start_change(key, change, call)

    def delete(self, call: Call) -> Json:
        """Delete a cluster with all its nodes."""
        return self.delete_by_key(key_of(call), call.base_url)

    def delete_by_key(self, key: ClusterKey, base_url: str) -> Json:
        """Delete a cluster for another API's call."""
        self._idle(key)

        def change(record: Json) -> None:
            record["body"]["status"] = "STOPPING"

        self._records.change(key, change)
        return self._start("DELETE_CLUSTER", key, lambda: self._take_down(key), base_url)

    def get_operation(self, call: Call) -> Json:
        """Return one operation."""
        path = call.path
        return self._operations.get(path["project"], path["location"], path["operation"])

    def _bring_up(self, key: ClusterKey) -> None:
        plane = self._fleet.create_cluster(key)
        version = f"{plane.version.removeprefix('v')}-gke.0"
        authority = base64.b64encode(plane.ca_pem.encode()).decode()

        def reachable(record: Json) -> None:
            body = record["body"]
            check_version(version, body.get("initialClusterVersion", ""))
            body |= {
                # Google gives an address alone; with the port, `https://{endpoint}` is right too.
                "endpoint": plane.endpoint,
                "masterAuth": {"clientCertificateConfig": {}, "clusterCaCertificate": authority},
                "initialClusterVersion": version,
                "currentMasterVersion": version,
                "currentNodeVersion": version,
            }
            for pool in body["nodePools"]:
                pool["version"] = version

        self._records.change(key, reachable)
        for pool in self._records.get(key)["body"]["nodePools"]:
            name = pool["name"]
            self._pools.bring_up(key, name)
            self._records.set_pool(key, name, "RUNNING")

        def running(record: Json) -> None:
            record["body"]["status"] = "RUNNING"

        self._records.change(key, running)

    def _take_down(self, key: ClusterKey) -> None:
        self._fleet.delete_cluster(key)
        self._records.remove(key)

    def _idle(self, key: ClusterKey) -> Json:
        record = self._records.get(key)
        operation = self._operations.running(key)
        if operation is not None:
            raise busy_error("cluster", operation)
        return record

    def _start_change(self, key: ClusterKey, change: Callable[[Json], None], call: Call) -> Json:
        def work() -> None:
            self._records.change(key, change)

        return self._start("UPDATE_CLUSTER", key, work, call.base_url)

    def _start(
        self, operation_type: str, key: ClusterKey, work: Callable[[], None], base_url: str
    ) -> Json:
        task = Task(
            operation_type=operation_type,
            key=key,
            target_link=f"{base_url}container/v1beta1/{path_of(key)}",
            work=work,
            failed=lambda reason: self._records.fail(key, reason),
        )
        return self._operations.start(task, base_url)


class NodePools:
    """The API's methods for pools."""

    def __init__(self, records: ClusterRecords, fleet: Fleet, operations: Operations) -> None:
        self._records = records
        self._fleet = fleet
        self._operations = operations

    def routes(self, cluster: str) -> list[Endpoint]:
        """Return the endpoints below a cluster's path."""
        pool = f"{cluster}/nodePools/{{pool}}"
        return [
            Endpoint("POST", f"{pool}:setSize", self.set_size),
            Endpoint("POST", f"{pool}:setManagement", self.set_management),
            Endpoint("POST", f"{cluster}/nodePools", self.create),
            Endpoint("GET", f"{cluster}/nodePools", self.list_pools),
            Endpoint("GET", pool, self.get),
            Endpoint("PUT", pool, self.update),
            Endpoint("DELETE", pool, self.delete),
        ]

    def create(self, call: Call) -> Json:
        """Add a pool; it is PROVISIONING until the operation ends."""
        key = key_of(call)
        record = self._records.get(key)
        body = record["body"]
        if body["status"] != "RUNNING":
            raise busy_error(f"cluster that is {body['status']}", self._operations.running(key))
        sent = read_message(types.CreateNodePoolRequest, body_of(call)).get("nodePool", {})
        check_version(body["currentNodeVersion"], sent.get("version", ""))
        pool = new_pool(body, key.project, sent)
        name = pool["name"]
        self._records.check_capacity(key, record, [pool])
        link = f"{call.base_url}container/v1beta1/{path_of(key)}/nodePools/{name}"
        version = body["currentNodeVersion"]
        pool |= {"status": "PROVISIONING", "selfLink": link, "version": version}

        def add(record: Json) -> None:
            if name in record["sizes"]:
                raise GoogleError(409, f"Already exists: {path_of(key)}/nodePools/{name}.")
            record["body"]["nodePools"].append(pool)
            record["sizes"][name] = pool["initialNodeCount"]

        self._records.change(key, add)
        return self._start("CREATE_NODE_POOL", key, name, lambda: self.bring_up(key, name), call)

    def get(self, call: Call) -> Json:
        """Return one pool."""
        return pool_of(self._records.get(key_of(call)), call.path["pool"])

    def list_pools(self, call: Call) -> Json:
        """List a cluster's pools."""
        return {"nodePools": self._records.get(key_of(call))["body"]["nodePools"]}

    def set_size(self, call: Call) -> Json:
        """Set the number of a pool's nodes in each zone."""
        key, name = key_of(call), call.path["pool"]
        size = read_message(types.SetNodePoolSizeRequest, body_of(call)).get("nodeCount", 0)
        check_size(size)
        pool = self._idle(key, name)
        record = self._records.get(key)
        more = {**pool, "initialNodeCount": size - record["sizes"][name]}
        self._records.check_capacity(key, record, [more])

        def change(record: Json) -> None:
            record["sizes"][name] = size

        def work() -> None:
            self._fleet.resize_pool(key, name, size * len(pool["locations"]))
            self._records.change(key, change)

        return self._start("SET_NODE_POOL_SIZE", key, name, work, call)

    def set_management(self, call: Call) -> Json:
        """Switch a pool's repair and upgrades."""
        key, name = key_of(call), call.path["pool"]
        request = read_message(types.SetNodePoolManagementRequest, body_of(call))
        management = request.get("management", {})
        self._idle(key, name)
        check_management(self._records.get(key)["body"], management)

        def change(record: Json) -> None:
            pool_of(record, name)["management"] = management

        def work() -> None:
            self._records.change(key, change)

        return self._start("SET_NODE_POOL_MANAGEMENT", key, name, work, call)

    def update(self, call: Call) -> Json:
        """Replace the nodes of a pool by changed ones."""
        key, name = key_of(call), call.path["pool"]
        request = read_message(types.UpdateNodePoolRequest, body_of(call))
        pool = self._idle(key, name)
        body = self._records.get(key)["body"]
        check_version(body["currentNodeVersion"], request.pop("nodeVersion", ""))
        changed = {**pool, "config": {**pool["config"], **_take_node_update(request)}}
        if "upgradeSettings" in request:
            changed["upgradeSettings"] = request.pop("upgradeSettings")
        for field in request.keys() - {"name", "etag", "nodePoolId"}:
            raise GoogleError(501, f"The local Google cannot update a node pool's {field}.")
        check_pool(body, changed)

        def change(record: Json) -> None:
            pool_of(record, name).update(changed)

        def work() -> None:
            self._records.change(key, change)
            if changed["config"] != pool["config"]:
                self._fleet.delete_pool(key, name)
                self.bring_up(key, name)

        return self._start("UPGRADE_NODES", key, name, work, call)

    def delete(self, call: Call) -> Json:
        """Remove a pool with its nodes."""
        key, name = key_of(call), call.path["pool"]
        self._idle(key, name)

        def remove(record: Json) -> None:
            record["body"]["nodePools"].remove(pool_of(record, name))
            del record["sizes"][name]

        def work() -> None:
            self._fleet.delete_pool(key, name)
            self._records.change(key, remove)

        return self._start("DELETE_NODE_POOL", key, name, work, call, busy="STOPPING")

    def bring_up(self, key: ClusterKey, name: str) -> None:
        """Start the nodes of an added pool; block until they are Ready."""
        self._fleet.create_pool(key, pool_spec(key, self._records.get(key), name))

    def _idle(self, key: ClusterKey, name: str) -> Json:
        pool = pool_of(self._records.get(key), name)
        if pool["status"] in BUSY:
            raise busy_error(f"pool that is {pool['status']}", self._operations.running(key))
        return pool

    def _start(
        self,
        operation_type: str,
        key: ClusterKey,
        name: str,
        work: Callable[[], None],
        call: Call,
        *,
        busy: str = "RECONCILING",
    ) -> Json:
        """Start work on a pool: `busy` meanwhile, then RUNNING, ERROR or deleted."""
        creating = operation_type == "CREATE_NODE_POOL"
        if not creating:
            self._records.set_pool(key, name, busy)

        def finish() -> None:
            work()
            if name in self._records.get(key)["sizes"]:
                self._records.set_pool(key, name, "RUNNING")

        link = f"{call.base_url}container/v1beta1/{path_of(key)}/nodePools/{name}"
        task = Task(
            operation_type=operation_type,
            key=key,
            target_link=link,
            work=finish,
            failed=lambda reason: self._records.set_pool(key, name, "ERROR", reason),
        )
        return self._operations.start(task, call.base_url)


def _take_node_update(request: Json) -> dict[str, Any]:
    """Take the parts of an update that change a pool's config out of the request."""
    update = {field: request.pop(field) for field in _POOL_UPDATES if field in request}
    for field, (inner, empty) in _WRAPPED_UPDATES.items():
        if field in request:
            update[field] = request.pop(field).get(inner, empty)
    if "diskSizeGb" in update:  # JSON has an int64 as text
        update["diskSizeGb"] = int(update["diskSizeGb"])
    return update
