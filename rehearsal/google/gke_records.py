"""Clusters in the local Google's state, and the long-running operations that work on them.

A record is {"body": the cluster as GKE's message, "sizes": nodes in each zone by pool}: in GKE's
messages a pool has its first size only, the present one is that of its instance groups.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rehearsal.cluster.fleet import ClusterKey, FleetError, PoolSpec
from rehearsal.google.compute import check_quota, is_zone, region_of
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.gke_bodies import check_room, fingerprint
from rehearsal.google.http import GoogleError, now
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError
from rehearsal.machine.web import Call

BUSY = {"PROVISIONING", "RECONCILING", "STOPPING"}
"""Statuses of a pool that an operation works on."""
_LOG = logging.getLogger(__name__)
_RESOURCE_EXHAUSTED = 8
_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
    "NO_EXECUTE": "NoExecute",
}
_PARALLEL_PULLS = 1
"""Of a pool without maxParallelImagePulls: the kubelet's own default. What GKE sets is unknown: one
logged cluster of 2024 (1.30.5, e2-medium) answers 2 where nothing was requested."""


def key_of(call: Call) -> ClusterKey:
    """Return the cluster that a call's path names."""
    return ClusterKey(call.path["project"], call.path["location"], call.path["cluster"])


def path_of(key: ClusterKey) -> str:
    """Return a cluster's path as GKE writes it in links and messages."""
    return f"{_place(key)}/clusters/{key.name}"


def busy_error(what: str, operation: Json | None) -> GoogleError:
    """Return the answer to a call that must wait for an operation, or for a better state."""
    sentence = (
        f"Cluster is running incompatible operation {operation['name']}."
        if operation
        else f"This cannot be done to a {what}."
    )
    return GoogleError(400, sentence, status="FAILED_PRECONDITION", reason="failedPrecondition")


def pool_of(record: Json, name: str) -> Json:
    """Return a pool of a record, to read or to change; 404 if there is none of that name."""
    body = record["body"]
    for pool in body["nodePools"]:
        if pool["name"] == name:
            found: Json = pool
            return found
    raise GoogleError(404, f"Not found: {body['name']}/nodePools/{name}.")


def answer(record: Json) -> Json:
    """Return the cluster as GET shows it: GKE repeats the first pool's nodes at the top."""
    body: Json = dict(record["body"])
    pools = body["nodePools"]
    if pools:
        body["nodeConfig"] = pools[0]["config"]
    if body["status"] == "RUNNING" and any(pool["status"] in BUSY for pool in pools):
        body["status"] = "RECONCILING"
    body["instanceGroupUrls"] = [url for pool in pools for url in pool["instanceGroupUrls"]]
    body["currentNodeCount"] = _node_count(record)
    body["etag"] = fingerprint(body)
    return body


def pool_spec(key: ClusterKey, record: Json, name: str) -> PoolSpec:
    """Return the pool's nodes for the fleet, with the labels that GKE adds."""
    pool = pool_of(record, name)
    config = pool["config"]
    pulls = config.get("kubeletConfig", {}).get("maxParallelImagePulls", _PARALLEL_PULLS)
    return PoolSpec(
        name=name,
        node_count=record["sizes"][name] * len(pool["locations"]),
        machine_type=config["machineType"],
        labels={
            "cloud.google.com/gke-nodepool": name,
            "node.kubernetes.io/instance-type": config["machineType"],
            "topology.kubernetes.io/region": region_of(key.location),
            "topology.kubernetes.io/zone": pool["locations"][0],
            **config.get("labels", {}),
        },
        taints=tuple(
            (taint["key"], taint.get("value", ""), _EFFECTS[taint["effect"]])
            for taint in config.get("taints", [])
        ),
        disk_gb=int(config.get("diskSizeGb", 100)),
        parallel_pulls=int(pulls),
    )


class ClusterRecords:
    """The records of one state. Methods raise a 404 where there is no such cluster."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def add(self, key: ClusterKey, record: Json) -> None:
        """Add a new cluster; 409 if there is one of that name."""
        try:
            self._state.create(Kind.CLUSTER, _name(key), record)
        except AlreadyExistsError as error:
            raise GoogleError(409, f"Already exists: {path_of(key)}.") from error

    def get(self, key: ClusterKey) -> Json:
        """Return a cluster's record."""
        record = self._state.get(Kind.CLUSTER, _name(key))
        if record is None:
            raise GoogleError(404, f"Not found: {path_of(key)}.")
        return record

    def find(self, project: str, location: str) -> list[Json]:
        """Return the clusters of a project in a location, `-` for all."""
        where = "" if location == "-" else f"{location}/"
        return self._state.find(Kind.CLUSTER, f"projects/{project}/locations/{where}")

    def change(self, key: ClusterKey, change: Callable[[Json], None]) -> None:
        """Change a record atomically."""
        try:
            self._state.update(Kind.CLUSTER, _name(key), change)
        except MissingError as error:
            raise GoogleError(404, f"Not found: {path_of(key)}.") from error

    def remove(self, key: ClusterKey) -> None:
        """Remove a cluster."""
        self._state.delete(Kind.CLUSTER, _name(key))

    def fail(self, key: ClusterKey, reason: str) -> None:
        """Put a cluster into ERROR, with the pools that an operation worked on."""

        def change(record: Json) -> None:
            _mark(record["body"], "ERROR", reason)
            for pool in record["body"]["nodePools"]:
                if pool["status"] in BUSY:
                    _mark(pool, "ERROR", reason)

        self.change(key, change)

    def set_pool(self, key: ClusterKey, name: str, status: str, reason: str = "") -> None:
        """Give a pool a status."""
        self.change(key, lambda record: _mark(pool_of(record, name), status, reason))

    def check_capacity(self, key: ClusterKey, record: Json, added: list[Json]) -> None:
        """Refuse pools for which there is no address or no quota; `initialNodeCount` is added."""
        new = sum(pool["initialNodeCount"] * len(pool["locations"]) for pool in added)
        check_room(record["body"], _node_count(record) + new)
        check_quota(self._state, key.project, region_of(key.location), added)


@dataclass(frozen=True, slots=True)
class Task:
    """What an operation does."""

    operation_type: str
    """GKE's name, for example CREATE_CLUSTER."""
    key: ClusterKey
    target_link: str
    work: Callable[[], None]
    """Blocks; raises FleetError or GoogleError with the reason why it fails."""
    failed: Callable[[str], None]
    """Records that reason in the resource."""


class Operations:
    """Starts operations, each in a thread; those of one cluster run one after the other."""

    def __init__(self, state: GoogleState, faults: GoogleFaults) -> None:
        self._state = state
        self._faults = faults
        self._guard = threading.Lock()
        self._locks: dict[ClusterKey, threading.Lock] = {}

    def start(self, task: Task, base_url: str) -> Json:
        """Start an operation and return it."""
        key = task.key
        name = f"operation-{uuid.uuid4()}"
        operation = {
            "name": name,
            "operationType": task.operation_type,
            "status": "RUNNING",
            "startTime": now(),
            "zone": key.location,
            "location": key.location,
            "selfLink": f"{base_url}container/v1beta1/{_place(key)}/operations/{name}",
            "targetLink": task.target_link,
        }
        full_name = _operation_name(key.project, key.location, name)
        self._state.put(Kind.OPERATION, full_name, operation)
        thread = threading.Thread(target=self._run, args=(task, full_name), name=name, daemon=True)
        thread.start()
        return operation

    def get(self, project: str, location: str, name: str) -> Json:
        """Return an operation; 404 if there is none of that name."""
        full_name = _operation_name(project, location, name)
        operation = self._state.get(Kind.OPERATION, full_name)
        if operation is None:
            raise GoogleError(404, f"Not found: {full_name}.")
        return operation

    def running(self, key: ClusterKey) -> Json | None:
        """Return an operation that works on a cluster, None if there is none."""
        end = f"/clusters/{key.name}"
        prefix = _operation_name(key.project, key.location, "")
        for operation in self._state.find(Kind.OPERATION, prefix):
            target = operation["targetLink"].partition("/nodePools/")[0]
            if operation["status"] == "RUNNING" and target.endswith(end):
                return operation
        return None

    def lock_of(self, key: ClusterKey) -> threading.Lock:
        """Return the lock of a cluster's operations, always the same one."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def _run(self, task: Task, full_name: str) -> None:
        error = ""
        with self.lock_of(task.key):
            try:
                self._faults.work(task.operation_type, task.key)
                task.work()
            except (FleetError, GoogleError) as refused:
                error = str(refused)
            except Exception as bug:  # noqa: BLE001 (a client would wait 40 minutes for the end)
                _LOG.exception("operation %s failed", full_name)
                error = f"The local Google failed: {type(bug).__name__}: {bug}"
            if error:
                with suppress(GoogleError):  # what it was about may be deleted
                    task.failed(error)
            self._end(full_name, error)

    def _end(self, full_name: str, error: str) -> None:
        def change(operation: Json) -> None:
            operation["status"] = "DONE"
            operation["endTime"] = now()
            if error:
                # Clients of different age look at one or the other.
                operation["statusMessage"] = error
                operation["error"] = {"code": _RESOURCE_EXHAUSTED, "message": error}

        self._state.update(Kind.OPERATION, full_name, change)


def _place(key: ClusterKey) -> str:
    where = "zones" if is_zone(key.location) else "locations"
    return f"projects/{key.project}/{where}/{key.location}"


def _name(key: ClusterKey) -> str:
    return f"projects/{key.project}/locations/{key.location}/clusters/{key.name}"


def _operation_name(project: str, location: str, name: str) -> str:
    return f"projects/{project}/locations/{location}/operations/{name}"


def _node_count(record: Json) -> int:
    return sum(
        record["sizes"][pool["name"]] * len(pool["locations"])
        for pool in record["body"]["nodePools"]
    )


def _mark(resource: Json, status: str, reason: str) -> None:
    resource["status"] = status
    resource.pop("statusMessage", None)
    if reason:
        resource["statusMessage"] = reason
