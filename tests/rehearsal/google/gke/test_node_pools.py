from typing import Any

import pytest

from rehearsal.cluster.fleet import ClusterKey, PoolSpec
from rehearsal.google.state import Kind
from rehearsal.google.storage import insert_object
from tests.rehearsal.local_google import ZONE, Google

KEY = ClusterKey("p", "us-central1-a", "c")
CLUSTER = f"{ZONE}/clusters/c"
POOLS = f"{CLUSTER}/nodePools"
TAINT = {"key": "pull-study/measured", "value": "true", "effect": "NO_SCHEDULE"}


def pool_body(name: str = "measured", **fields: Any) -> dict[str, Any]:
    config = {
        "machineType": "n1-standard-16",
        "labels": {"pull-study/measured": "true"},
        "taints": [TAINT],
    }
    pool = {"name": name, "initialNodeCount": 4, "config": config}
    return {"nodePool": {**pool, **fields}}


@pytest.fixture
def running(google: Google) -> Google:
    """With a cluster whose default pool was removed, as remove_default_node_pool does."""
    google.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    google.done("DELETE", f"{POOLS}/default-pool")
    google.fleet.specs.clear()
    return google


def test_pool_is_started_with_gkes_labels_and_kubernetes_taints(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    assert running.fleet.specs == [
        PoolSpec(
            name="measured",
            node_count=4,
            machine_type="n1-standard-16",
            labels={
                "cloud.google.com/gke-nodepool": "measured",
                "node.kubernetes.io/instance-type": "n1-standard-16",
                "topology.kubernetes.io/region": "us-central1",
                "topology.kubernetes.io/zone": "us-central1-a",
                "pull-study/measured": "true",
            },
            taints=(("pull-study/measured", "true", "NoSchedule"),),
        )
    ]
    pool = running.ok("GET", f"{POOLS}/measured")
    assert pool["status"] == "RUNNING"
    assert pool["config"]["taints"] == [TAINT]
    assert pool["version"] == "1.34.1-gke.0"
    assert running.ok("GET", CLUSTER)["nodeConfig"] == pool["config"]


NODES = "nodes-c@p.iam.gserviceaccount.com"


def pool_with_script(running: Google, *, readable: bool = True) -> dict[str, Any]:
    running.state.put(Kind.BUCKET, "b/scripts", {"name": "scripts"})
    meta = insert_object(running.state, "scripts", "a.sh", b"echo a")
    if readable:
        binding = {"role": "roles/storage.objectViewer", "members": [f"serviceAccount:{NODES}"]}
        running.state.put(Kind.POLICY, "buckets/scripts", {"version": 1, "bindings": [binding]})
    script = {"gcsUri": "gs://scripts/a.sh", "gcsGeneration": meta["generation"]}
    config = pool_body()["nodePool"]["config"]
    config |= {
        "serviceAccount": NODES,
        "linuxNodeConfig": {"customNodeInit": {"initScript": script}},
    }
    return pool_body(config=config)


def test_nodes_get_the_init_script_that_their_pool_names(running: Google) -> None:
    running.done("POST", POOLS, pool_with_script(running))
    (spec,) = running.fleet.specs
    assert spec.init_script == "echo a"


def test_a_script_that_the_nodes_cannot_read_or_of_another_generation_fails_the_pool(
    running: Google,
) -> None:
    body = pool_with_script(running, readable=False)
    operation = running.finish(running.ok("POST", POOLS, body))
    assert "cannot read the init script gs://scripts/a.sh" in operation["error"]["message"]
    body = pool_with_script(running)
    script = body["nodePool"]["config"]["linuxNodeConfig"]["customNodeInit"]["initScript"]
    script["gcsGeneration"] = "1"
    body["nodePool"]["name"] = "other"
    operation = running.finish(running.ok("POST", POOLS, body))
    assert "no such generation" in operation["error"]["message"]


def test_cluster_reconciles_while_a_pool_starts(running: Google) -> None:
    running.fleet.gate.clear()
    operation = running.ok("POST", POOLS, pool_body())
    assert running.ok("GET", CLUSTER)["status"] == "RECONCILING"
    assert running.ok("GET", f"{POOLS}/measured")["status"] == "PROVISIONING"
    running.fleet.gate.set()
    running.finish(operation)
    assert running.ok("GET", CLUSTER)["status"] == "RUNNING"


def test_two_pools_can_be_created_at_once(running: Google) -> None:
    running.fleet.gate.clear()
    operations = [running.ok("POST", POOLS, pool_body(name)) for name in ("measured", "monitoring")]
    running.fleet.gate.set()
    for operation in operations:
        assert "error" not in running.finish(operation)
    assert running.fleet.clusters == {KEY: {"measured": 4, "monitoring": 4}}
    names = [pool["name"] for pool in running.ok("GET", POOLS)["nodePools"]]
    assert names == ["measured", "monitoring"]


def test_instance_group_has_the_present_size(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    running.done("POST", f"{POOLS}/measured:setSize", {"nodeCount": 2})
    pool = running.ok("GET", f"{POOLS}/measured")
    assert (pool["status"], pool["initialNodeCount"]) == ("RUNNING", 4)
    assert running.fleet.clusters == {KEY: {"measured": 2}}
    (url,) = pool["instanceGroupUrls"]
    group = running.ok("GET", "compute/beta/projects/" + url.partition("/projects/")[2])
    assert group["targetSize"] == 2
    groups = running.ok("GET", "compute/beta/projects/p/zones/us-central1-a/instanceGroupManagers")
    assert groups["items"] == [group]
    assert running.ok("GET", CLUSTER)["currentNodeCount"] == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"initialNodeCount": 1001}, "1000"),
        ({"initialNodeCount": 1000}, "quota of '15984.0'"),
        ({"version": "1.33.5"}, '"1.33.5"'),
        ({"management": {"autoRepair": True}}, "Auto_upgrade and auto_repair cannot be false"),
        ({"config": {"taints": [{"key": "a", "effect": "NEVER"}]}}, "NEVER"),
        ({"nodeCount": 3}, "nodeCount"),
    ],
    ids=["nodes", "quota", "version", "management", "effect", "unknown-field"],
)
def test_pool_that_gke_refuses_is_refused(
    running: Google, fields: dict[str, Any], said: str
) -> None:
    running.state.put(Kind.QUOTA, "projects/p/regions/us-central1", {"CPUS": 15_984})
    error = running.error("POST", POOLS, pool_body(**fields))
    assert said in error["message"]
    assert running.ok("GET", POOLS) == {"nodePools": []}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"minCpuPlatform": "Intel Skylark"}, "CPU platform unavailable in requested zone"),
        ({"machineType": "n1-standard-8"}, "does not exist in zone"),
    ],
)
def test_machine_that_the_zone_lacks_is_refused(
    running: Google, config: dict[str, str], sentence: str
) -> None:
    running.state.put(Kind.ABSENT, "zones/us-central1-a/machineTypes/n1-standard-8", {})
    error = running.error("POST", POOLS, pool_body(config={"machineType": "e2-small", **config}))
    assert error["code"] == 400
    assert sentence in error["message"]


def test_pool_beyond_the_projects_quota_is_forbidden(running: Google) -> None:
    running.state.put(Kind.QUOTA, "projects/p", {"CPUS_ALL_REGIONS": 60})
    error = running.error("POST", POOLS, pool_body())
    assert 'Insufficient project quota to satisfy request: resource "CPUS_ALL_' in error["message"]
    assert "requires '64.0' and is short '4.0'" in error["message"]


def test_resize_beyond_quota_is_forbidden(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    running.state.put(Kind.QUOTA, "projects/p/regions/us-central1", {"CPUS": 80})
    error = running.error("POST", f"{POOLS}/measured:setSize", {"nodeCount": 6})
    assert error["code"] == 403
    running.done("POST", f"{POOLS}/measured:setSize", {"nodeCount": 5})


def test_resize_that_the_machine_cannot_do_leaves_the_pool_in_error(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    running.fleet.refusals["resize_pool"] = "There is no room."
    path = f"{POOLS}/measured:setSize"
    operation = running.finish(running.ok("POST", path, {"nodeCount": 9}))
    assert operation["error"]["message"] == "There is no room."
    pool = running.ok("GET", f"{POOLS}/measured")
    assert (pool["status"], pool["statusMessage"]) == ("ERROR", "There is no room.")
    assert running.ok("GET", CLUSTER)["currentNodeCount"] == 4
    running.fleet.refusals.clear()
    running.done("POST", path, {"nodeCount": 9})
    assert "statusMessage" not in running.ok("GET", f"{POOLS}/measured")


def test_pool_is_busy_while_it_is_changed(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    running.fleet.gate.clear()
    operation = running.ok("POST", f"{POOLS}/measured:setSize", {"nodeCount": 2})
    error = running.error("DELETE", f"{POOLS}/measured")
    assert error["status"] == "FAILED_PRECONDITION"
    assert f"incompatible operation {operation['name']}" in error["message"]
    running.fleet.gate.set()
    running.finish(operation)
    running.done("DELETE", f"{POOLS}/measured")


def test_change_of_machines_replaces_the_nodes(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    update = {"machineType": "n1-standard-64", "labels": {"labels": {"a": "b"}}}
    running.done("PUT", f"{POOLS}/measured", update)
    old, new = running.fleet.specs
    assert (old.machine_type, new.machine_type) == ("n1-standard-16", "n1-standard-64")
    assert new.labels["a"] == "b"
    assert new.taints == old.taints
    assert running.ok("GET", f"{POOLS}/measured")["config"]["machineType"] == "n1-standard-64"


@pytest.mark.parametrize(
    ("update", "field", "stored"),
    [
        ({"diskSizeGb": "200"}, "diskSizeGb", 200),
        ({"resourceLabels": {"labels": {"run": "a"}}}, "resourceLabels", {"run": "a"}),
        ({"taints": {}}, "taints", []),
    ],
)
def test_update_is_stored_as_a_pool_has_it(
    running: Google, update: dict[str, Any], field: str, stored: object
) -> None:
    running.done("POST", POOLS, pool_body())
    running.done("PUT", f"{POOLS}/measured", update)
    assert running.ok("GET", f"{POOLS}/measured")["config"][field] == stored


def test_change_of_upgrades_leaves_the_nodes(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    running.done("PUT", f"{POOLS}/measured", {"upgradeSettings": {"maxSurge": 2}})
    assert running.ok("GET", f"{POOLS}/measured")["upgradeSettings"] == {"maxSurge": 2}
    assert len(running.fleet.specs) == 1


def test_management_is_set_within_what_the_channel_allows(running: Google) -> None:
    running.done("POST", POOLS, pool_body())
    path = f"{POOLS}/measured:setManagement"
    error = running.error("POST", path, {"management": {"autoRepair": False}})
    assert "REGULAR" in error["message"]
    channel = {"update": {"desiredReleaseChannel": {"channel": "UNSPECIFIED"}}}
    running.done("PUT", CLUSTER, channel)
    running.done("POST", path, {"management": {"autoRepair": False}})
    assert running.ok("GET", f"{POOLS}/measured")["management"] == {}


def test_pool_of_a_broken_cluster_is_refused(google: Google) -> None:
    google.fleet.refusals["create_pool"] = "No."
    cluster = {"cluster": {"name": "c", "initialNodeCount": 1}}
    google.finish(google.ok("POST", f"{ZONE}/clusters", cluster))
    error = google.error("POST", POOLS, pool_body())
    assert error["status"] == "FAILED_PRECONDITION"
    assert "ERROR" in error["message"]
