"""Clusters in the local Google's state: found, changed, shown as GKE shows them.

A record is {"body": the cluster as GKE's message, "sizes": nodes in each zone by pool}: GKE's
messages tell a pool's first size only, the present one is the instance groups' business.
"""

from collections.abc import Callable

from rehearsal.cluster.fleet import ClusterKey, PoolSpec
from rehearsal.google.cluster_body import check_room, fingerprint
from rehearsal.google.compute import check_quota
from rehearsal.google.http import Call, GoogleError
from rehearsal.google.places import is_zone, region_of
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError

BUSY = {"PROVISIONING", "RECONCILING", "STOPPING"}
"""Statuses of a pool that something is being done to."""
_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
    "NO_EXECUTE": "NoExecute",
}


def key_of(call: Call) -> ClusterKey:
    """The cluster that a call's path names."""
    return ClusterKey(call.path["project"], call.path["location"], call.path["cluster"])


def path_of(key: ClusterKey) -> str:
    """A cluster's path as GKE writes it in links and messages."""
    where = "zones" if is_zone(key.location) else "locations"
    return f"projects/{key.project}/{where}/{key.location}/clusters/{key.name}"


def not_now(what: str, operation: Json | None) -> GoogleError:
    """The answer to a call that must wait for an operation to end, or for better times."""
    sentence = (
        f"Cluster is running incompatible operation {operation['name']}."
        if operation
        else f"This cannot be done to a {what}."
    )
    return GoogleError(400, sentence, status="FAILED_PRECONDITION", reason="failedPrecondition")


def pool_of(record: Json, name: str) -> Json:
    """A pool of a record, to look at or to change.

    Raises:
        GoogleError: there is none of that name.
    """
    body = record["body"]
    for pool in body["nodePools"]:
        if pool["name"] == name:
            found: Json = pool
            return found
    raise GoogleError(404, f"Not found: {body['name']}/nodePools/{name}.")


def answer(record: Json) -> Json:
    """The cluster as GET shows it: GKE repeats the first pool's nodes at the top."""
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
    """What the fleet is asked for: the pool's nodes with the labels that GKE adds."""
    pool = pool_of(record, name)
    config = pool["config"]
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
        parallel_pulls=int(config.get("kubeletConfig", {}).get("maxParallelImagePulls", 1)),
    )


class ClusterRecords:
    """The records of one state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def add(self, key: ClusterKey, record: Json) -> None:
        """Keep a new cluster.

        Raises:
            GoogleError: 409, there is one of that name.
        """
        try:
            self._state.create(Kind.CLUSTER, _name(key), record)
        except AlreadyExistsError:
            raise GoogleError(409, f"Already exists: {path_of(key)}.") from None

    def get(self, key: ClusterKey) -> Json:
        """A cluster's record.

        Raises:
            GoogleError: 404, there is none.
        """
        record = self._state.get(Kind.CLUSTER, _name(key))
        if record is None:
            raise GoogleError(404, f"Not found: {path_of(key)}.")
        return record

    def find(self, project: str, location: str) -> list[Json]:
        """The clusters of a project in a location, `-` for all."""
        where = "" if location == "-" else f"{location}/"
        return self._state.find(Kind.CLUSTER, f"projects/{project}/locations/{where}")

    def change(self, key: ClusterKey, change: Callable[[Json], None]) -> None:
        """Change a record, alone.

        Raises:
            GoogleError: 404, there is none; or what `change` raised.
        """
        try:
            self._state.update(Kind.CLUSTER, _name(key), change)
        except MissingError:
            raise GoogleError(404, f"Not found: {path_of(key)}.") from None

    def remove(self, key: ClusterKey) -> None:
        """Forget a cluster."""
        self._state.delete(Kind.CLUSTER, _name(key))

    def fail(self, key: ClusterKey, reason: str) -> None:
        """Put a cluster into ERROR, and the pools that were being worked on."""

        def change(record: Json) -> None:
            _mark(record["body"], "ERROR", reason)
            _fail_busy_pools(record, reason)

        self.change(key, change)

    def set_pool(self, key: ClusterKey, name: str, status: str, reason: str = "") -> None:
        """Give a pool a status."""
        self.change(key, lambda record: _mark(pool_of(record, name), status, reason))

    def check_capacity(self, key: ClusterKey, record: Json, added: list[Json]) -> None:
        """Refuse nodes for which there is no address or no quota.

        Args:
            key: the cluster.
            record: the cluster as it is.
            added: pools whose initialNodeCount is what comes on top.

        Raises:
            GoogleError: with the limit.
        """
        new = sum(pool["initialNodeCount"] * len(pool["locations"]) for pool in added)
        check_room(record["body"], _node_count(record) + new)
        check_quota(self._state, key.project, region_of(key.location), added)

    def mark_interrupted(self, reason: str) -> None:
        """Put everything that was being worked on into ERROR."""
        for record in self._state.find(Kind.CLUSTER):
            body = record["body"]
            project = body["selfLink"].partition("/projects/")[2].partition("/")[0]
            key = ClusterKey(project, body["location"], body["name"])
            if body["status"] in BUSY:
                self.fail(key, reason)
            else:
                self.change(key, lambda record: _fail_busy_pools(record, reason))


def _name(key: ClusterKey) -> str:
    return f"projects/{key.project}/locations/{key.location}/clusters/{key.name}"


def _node_count(record: Json) -> int:
    return sum(
        record["sizes"][pool["name"]] * len(pool["locations"])
        for pool in record["body"]["nodePools"]
    )


def _fail_busy_pools(record: Json, reason: str) -> None:
    for pool in record["body"]["nodePools"]:
        if pool["status"] in BUSY:
            _mark(pool, "ERROR", reason)


def _mark(resource: Json, status: str, reason: str) -> None:
    resource["status"] = status
    resource.pop("statusMessage", None)
    if reason:
        resource["statusMessage"] = reason
