"""The GKE API's clusters and node pools, as far as Pulumi's gcp provider and the runner call it.

A cluster created here is a real control plane with nodes, run by a Fleet. The answers are GKE's own
messages. What is not modelled answers 501. A cluster has no deletion protection here because it has
none in GKE: that is a matter of the provider. Changed nodes of a pool are replaced by new ones.
"""

import base64
from collections.abc import Callable
from datetime import datetime

from google.cloud.container_v1beta1 import types

from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.gke.bodies import (
    check_version,
    fingerprint,
    maintenance,
    new_cluster,
    read_message,
)
from rehearsal.google.gke.control_planes import ControlPlanes, plane_size
from rehearsal.google.gke.node_pools import NodePools
from rehearsal.google.gke.operations import Operations, Start, Task, in_thread
from rehearsal.google.gke.records import ClusterRecords, answer, key_of, node_count, path_of
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


class Clusters:
    """The API's methods over a state and a fleet."""

    def __init__(
        self,
        state: GoogleState,
        fleet: Fleet,
        faults: GoogleFaults,
        resize_s: float,
        start: Start = in_thread,
    ) -> None:
        self._fleet = fleet
        self._faults = faults
        self._records = ClusterRecords(state)
        self._operations = Operations(state, faults, start)
        planes = ControlPlanes(self._records, fleet, self._operations, resize_s)
        self._pools = NodePools(self._records, fleet, self._operations, planes)

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /container/."""
        place = "/container/v1beta1/projects/{project}/locations/{location}"
        cluster = f"{place}/clusters/{{cluster}}"
        return [
            *self._pools.routes(cluster),
            Endpoint("POST", f"{cluster}:setResourceLabels", self.set_labels),
            Endpoint("POST", f"{cluster}:setMaintenancePolicy", self.set_maintenance),
            Endpoint("POST", f"{place}/clusters", self.create),
            Endpoint("GET", f"{place}/clusters", self.list_clusters),
            Endpoint("GET", cluster, self.get),
            Endpoint("PUT", cluster, self.update),
            Endpoint("DELETE", cluster, self.delete),
            Endpoint("GET", f"{place}/operations", self.list_operations),
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
        record = {"body": body, "sizes": sizes}
        self._records.add(key, {**record, "planeSize": plane_size(node_count(record))})
        return self._start("CREATE_CLUSTER", key, lambda: self._bring_up(key), call.base_url)

    def get(self, call: Call) -> Json:
        """Return one cluster."""
        key = key_of(call)
        return answer(self._records.get(key), busy=self._is_busy(key))

    def list_clusters(self, call: Call) -> Json:
        """List the clusters of a location, `-` for all."""
        records = self._records.find(call.path["project"], call.path["location"])
        project = call.path["project"]
        clusters: list[Json] = []
        missing: set[str] = set()
        for record in records:
            body = record["body"]
            lacks, says_so = self._faults.unlisted(datetime.fromisoformat(body["createTime"]))
            if not lacks:
                key = ClusterKey(project, body["location"], body["name"])
                clusters.append(answer(record, busy=self._is_busy(key)))
            elif says_so:
                missing.add(body["location"])
        return {"clusters": clusters, **({"missingZones": sorted(missing)} if missing else {})}

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

    def set_maintenance(self, call: Call) -> Json:
        """Replace a cluster's windows and exclusions, unless they changed since they were read."""
        key = key_of(call)
        request = read_message(types.SetMaintenancePolicyRequest, body_of(call))
        policy = request.get("maintenancePolicy", {})
        present = self._idle(key)["body"]["maintenancePolicy"]["resourceVersion"]
        if policy.get("resourceVersion") not in {None, present}:
            raise GoogleError(412, "The maintenance policy changed since it was read.")

        kept = maintenance(policy)

        def change(record: Json) -> None:
            record["body"]["maintenancePolicy"] = kept

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

    def list_operations(self, call: Call) -> Json:
        """List the operations of a location, `-` for all; those that ended too."""
        return {"operations": self._operations.find(call.path["project"], call.path["location"])}

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
        self._operations.refuse_if_busy(key)
        return record

    def _is_busy(self, key: ClusterKey) -> bool:
        return any(self._operations.running(key))

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
