"""Clusters in the local Google's state.

A record is {"body": the cluster as GKE's message, "sizes": nodes in each zone by pool, "planeSize":
of the control plane}: in GKE's messages a pool has its first size only, the present one is that of
its instance groups.
"""

from collections.abc import Callable
from dataclasses import replace

from rehearsal.cluster.fleet import STREAMING_LABEL, ClusterKey, FleetError, Mirror, PoolSpec
from rehearsal.google.access.iam import may
from rehearsal.google.compute import check_quota, is_zone, region_of
from rehearsal.google.gke.bodies import check_room, fingerprint
from rehearsal.google.http import GoogleError
from rehearsal.google.places import check_machine
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError
from rehearsal.machine.web import Call

_BUSY = {"PROVISIONING", "RECONCILING", "STOPPING"}
"""Statuses of a pool that an operation works on."""
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
    return f"{place_of(key)}/clusters/{key.name}"


def place_of(key: ClusterKey) -> str:
    """Return the path of a cluster's location, as GKE writes it."""
    where = "zones" if is_zone(key.location) else "locations"
    return f"projects/{key.project}/{where}/{key.location}"


def pool_of(record: Json, name: str) -> Json:
    """Return a pool of a record, to read or to change; 404 if there is none of that name."""
    body = record["body"]
    for pool in body["nodePools"]:
        if pool["name"] == name:
            found: Json = pool
            return found
    raise GoogleError(404, f"Not found: {body['name']}/nodePools/{name}.")


def answer(record: Json, *, busy: bool) -> Json:
    """Return the cluster as GET shows it: GKE repeats the first pool's nodes at the top.

    A `busy` one, on which an operation works, is RECONCILING.
    """
    body: Json = dict(record["body"])
    pools = body["nodePools"]
    if pools:
        body["nodeConfig"] = pools[0]["config"]
    if body["status"] == "RUNNING" and busy:
        body["status"] = "RECONCILING"
    body["instanceGroupUrls"] = [url for pool in pools for url in pool["instanceGroupUrls"]]
    body["currentNodeCount"] = node_count(record)
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
            **({STREAMING_LABEL: "true"} if config.get("gcfsConfig", {}).get("enabled") else {}),
        },
        taints=tuple(
            (taint["key"], taint.get("value", ""), _EFFECTS[taint["effect"]])
            for taint in config.get("taints", [])
        ),
        disk_gb=int(config.get("diskSizeGb", 100)),
        parallel_pulls=int(pulls),
        preloaded=bool(config.get("secondaryBootDisks")),
        mirrors=tuple(
            Mirror(registry["server"], host["host"], host.get("overridePath", False))
            for registry in config.get("containerdConfig", {}).get("registryHosts", [])
            for host in registry.get("hosts", [])
        ),
    )


def node_count(record: Json) -> int:
    """Return how many nodes a cluster has."""
    return sum(
        record["sizes"][pool["name"]] * len(pool["locations"])
        for pool in record["body"]["nodePools"]
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
                if pool["status"] in _BUSY:
                    _mark(pool, "ERROR", reason)

        self.change(key, change)

    def set_pool(self, key: ClusterKey, name: str, status: str, reason: str = "") -> None:
        """Give a pool a status."""
        self.change(key, lambda record: _mark(pool_of(record, name), status, reason))

    def nodes_of(self, key: ClusterKey, name: str) -> PoolSpec:
        """Return a pool's nodes for the fleet, with the init script that they run.

        Raises:
            FleetError: the nodes' account cannot read the script. What GKE then does is not
                documented; here the pool fails.
        """
        record = self.get(key)
        spec, config = pool_spec(key, record, name), pool_of(record, name)["config"]
        script = config.get("linuxNodeConfig", {}).get("customNodeInit", {}).get("initScript")
        if not script:
            return spec
        bucket, _, object_name = script["gcsUri"].removeprefix("gs://").partition("/")
        found = self._state.get(Kind.OBJECT, f"{bucket}/{object_name}")
        reader = f"serviceAccount:{config.get('serviceAccount', '')}"
        if not may(self._state, f"buckets/{bucket}", reader, "storage.objects.get"):
            raise FleetError(f"{reader} cannot read the init script {script['gcsUri']}.")
        if found is None or found["generation"] != script.get("gcsGeneration"):
            raise FleetError(f"There is no such generation of {script['gcsUri']}.")
        text = self._state.read_content(bucket, object_name).decode()
        return replace(spec, init_script=text)

    def check_capacity(self, key: ClusterKey, record: Json, added: list[Json]) -> None:
        """Refuse pools for which there is no machine, address or quota.

        `initialNodeCount` is what is added of each.
        """
        for pool in added:
            for zone in pool["locations"]:
                check_machine(self._state, zone, pool["config"])
        new = sum(pool["initialNodeCount"] * len(pool["locations"]) for pool in added)
        check_room(record["body"], node_count(record) + new)
        check_quota(self._state, key.project, region_of(key.location), added)


def _name(key: ClusterKey) -> str:
    return f"projects/{key.project}/locations/{key.location}/clusters/{key.name}"


def _mark(resource: Json, status: str, reason: str) -> None:
    resource["status"] = status
    resource.pop("statusMessage", None)
    if reason:
        resource["statusMessage"] = reason
