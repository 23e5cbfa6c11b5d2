"""The GKE API's clusters, as far as Pulumi's gcp provider and the runner call it.

A cluster made here is a real control plane with nodes, run by a Fleet. The answers are GKE's own
messages, kept whole in the state. What is not modelled answers 501 and says so. A cluster has no
deletion protection here because it has none in GKE: that is the provider's own doing.
"""

import base64
from collections.abc import Callable

from google.cloud.container_v1beta1 import types

from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.cluster_body import check_version, fingerprint, new_cluster, read_message
from rehearsal.google.cluster_records import ClusterRecords, answer, key_of, not_now, path_of
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.http import Call, Endpoint, GoogleError
from rehearsal.google.node_pools import NodePools
from rehearsal.google.operations import Operations, Task, now
from rehearsal.google.state import GoogleState, Json, Kind

_INTERRUPTED = "The local Google was stopped while it worked on this."
_UPDATES = {
    # Field of an update: what of the cluster it replaces.
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


class Clusters:
    """The API's methods over a state and a fleet.

    Args:
        state: where clusters and operations are kept.
        fleet: runs them.
        deleted: called after a cluster was deleted.
        faults: what strikes its operations.
    """

    def __init__(
        self, state: GoogleState, fleet: Fleet, deleted: Callable[[], None], faults: GoogleFaults
    ) -> None:
        self._state = state
        self._fleet = fleet
        self._deleted = deleted
        self._records = ClusterRecords(state)
        self._operations = Operations(state, faults)
        self._pools = NodePools(self._records, fleet, self._operations)

    def routes(self) -> list[Endpoint]:
        """Routes below /container/."""
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
            Endpoint("GET", f"{place}/operations", self.list_operations),
            Endpoint("GET", f"{place}/operations/{{operation}}", self.get_operation),
        ]

    def end_interrupted(self) -> None:
        """Mark what a killed server left half done; call it before serving."""
        self._records.mark_interrupted(_INTERRUPTED)
        self._operations.end_interrupted(_INTERRUPTED)

    def create(self, call: Call) -> Json:
        """Answers with an operation; the cluster is PROVISIONING until it ends."""
        sent = read_message(types.CreateClusterRequest, call.body).get("cluster", {})
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
        """One cluster."""
        return answer(self._records.get(key_of(call)))

    def list_clusters(self, call: Call) -> Json:
        """The clusters of a location, `-` for all."""
        records = self._records.find(call.path["project"], call.path["location"])
        return {"clusters": [answer(record) for record in records]}

    def update(self, call: Call) -> Json:
        """Change fields of a cluster, in place."""
        key = key_of(call)
        update = read_message(types.UpdateClusterRequest, call.body).get("update", {})
        update.pop("etag", None)
        version = self._records.get(key)["body"].get("currentMasterVersion", "")
        check_version(version, update.pop("desiredMasterVersion", ""))
        for field in update.keys() - _UPDATES.keys():
            raise GoogleError(501, f"The local Google cannot update a cluster's {field}.")
        self._idle(key)

        def change(record: Json) -> None:
            body = record["body"]
            for field, value in update.items():
                target, _, part = _UPDATES[field].partition(".")
                # What an update of addons or networks does not name stays as it is.
                if part or target == "addonsConfig":
                    body[target] |= {part: value} if part else value
                else:
                    body[target] = value

        return self._start_change(key, change, call)

    def set_labels(self, call: Call) -> Json:
        """Replace a cluster's labels; refused when they changed meanwhile."""
        key = key_of(call)
        request = read_message(types.SetLabelsRequest, call.body)
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
        """The same, for another API's call.

        Raises:
            GoogleError: there is no such cluster, or it is being worked on.
        """
        self._idle(key)

        def change(record: Json) -> None:
            record["body"]["status"] = "STOPPING"

        self._records.change(key, change)
        return self._start("DELETE_CLUSTER", key, lambda: self._take_down(key), base_url)

    def get_operation(self, call: Call) -> Json:
        """One operation."""
        path = call.path
        return self._operations.get(path["project"], path["location"], path["operation"])

    def list_operations(self, call: Call) -> Json:
        """The operations of a location."""
        prefix = f"projects/{call.path['project']}/locations/{call.path['location']}/operations/"
        return {"operations": self._state.find(Kind.OPERATION, prefix)}

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
        self._deleted()

    def _idle(self, key: ClusterKey) -> Json:
        record = self._records.get(key)
        operation = self._operations.running(key)
        if operation is not None:
            raise not_now("cluster", operation)
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
