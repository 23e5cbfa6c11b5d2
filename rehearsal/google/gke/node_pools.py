"""The GKE API's node pools. Changed nodes of a pool are replaced by new ones."""

from collections.abc import Callable
from typing import Any

from google.cloud.container_v1beta1 import types

from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.gke.bodies import (
    check_management,
    check_pool,
    check_size,
    check_version,
    new_pool,
    read_message,
)
from rehearsal.google.gke.control_planes import ControlPlanes
from rehearsal.google.gke.operations import Operations, Task, refused
from rehearsal.google.gke.records import ClusterRecords, key_of, path_of, pool_of
from rehearsal.google.http import Endpoint, GoogleError, body_of
from rehearsal.google.state import Json
from rehearsal.machine.web import Call

_POOL_UPDATES = (
    "containerdConfig",
    "diskSizeGb",
    "diskType",
    "gcfsConfig",
    "gvnic",
    "kubeletConfig",
    "linuxNodeConfig",
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


class NodePools:
    """The API's methods for pools."""

    def __init__(
        self,
        records: ClusterRecords,
        fleet: Fleet,
        operations: Operations,
        planes: ControlPlanes,
    ) -> None:
        self._records = records
        self._planes = planes
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
        if body["status"] in {"ERROR", "DEGRADED"}:
            raise refused(f"This cannot be done to a cluster that is {body['status']}.")
        sent = read_message(types.CreateNodePoolRequest, body_of(call)).get("nodePool", {})
        check_version(body["currentNodeVersion"], sent.get("version", ""))
        pool = new_pool(body, key.project, sent)
        name = pool["name"]
        self._operations.refuse_if_busy(key, name)
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
        self._fleet.create_pool(key, self._records.nodes_of(key, name))

    def _idle(self, key: ClusterKey, name: str) -> Json:
        pool = pool_of(self._records.get(key), name)
        self._operations.refuse_if_busy(key, name)
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
            then=lambda: self._planes.fit(key, call.base_url),
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
