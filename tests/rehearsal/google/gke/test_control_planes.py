from collections.abc import Iterator
from typing import Any

import pytest

from tests.rehearsal.google.gke.test_node_pools import pool_body
from tests.rehearsal.local_google import ZONE, Google, serving
from tests.until import until

CLUSTER = f"{ZONE}/clusters/c"
POOLS = f"{CLUSTER}/nodePools"


@pytest.fixture
def google() -> Iterator[Google]:
    with serving(resize_s=7) as google:
        yield google


def create(google: Google, zone: str, nodes: int) -> None:
    body = {"name": "c", "initialNodeCount": 1, "locations": ["us-central1-a"]}
    google.done("POST", f"{zone}/clusters", {"cluster": body})
    google.done("POST", f"{zone}/clusters/c/nodePools", pool_body(initialNodeCount=nodes))


def resizes(google: Google, zone: str = ZONE) -> list[dict[str, Any]]:
    operations = google.ok("GET", f"{zone}/operations")["operations"]
    return [each for each in operations if each["operationType"] == "UPGRADE_MASTER"]


def test_no_resize_for_five_nodes(google: Google) -> None:
    create(google, ZONE, 4)
    assert resizes(google) == []


def test_cluster_is_reconciling_after_the_pools_operation(google: Google) -> None:
    google.fleet.resize_gate.clear()
    create(google, ZONE, 5)
    (operation,) = until(lambda: resizes(google))
    assert operation["status"] == "RUNNING"
    assert google.ok("GET", CLUSTER)["status"] == "RECONCILING"
    google.fleet.resize_gate.set()
    google.finish(operation)
    assert google.ok("GET", CLUSTER)["status"] == "RUNNING"
    assert google.fleet.resizes == [("us-central1-a", 7, False)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", CLUSTER, None),
        ("PUT", CLUSTER, {"update": {"desiredShieldedNodes": {"enabled": False}}}),
        ("POST", f"{CLUSTER}:setResourceLabels", {"resourceLabels": {}}),
        ("POST", POOLS, pool_body("other")),
        ("PUT", f"{POOLS}/measured", {"machineType": "n1-standard-8"}),
        ("DELETE", f"{POOLS}/measured", None),
        ("POST", f"{POOLS}/measured:setSize", {"nodeCount": 1}),
        ("POST", f"{POOLS}/measured:setManagement", {"management": {}}),
    ],
)
def test_every_change_is_refused_meanwhile(
    google: Google, method: str, path: str, body: Any
) -> None:
    google.fleet.resize_gate.clear()
    create(google, ZONE, 5)
    (operation,) = until(lambda: resizes(google))
    error = google.error(method, path, body)
    assert error["message"] == f"Cluster is running incompatible operation {operation['name']}."
    assert error["errors"][0]["reason"] == "failedPrecondition"


def test_a_regional_control_plane_stays_reachable(google: Google) -> None:
    region = ZONE.replace("us-central1-a", "us-central1")
    create(google, region, 5)
    google.finish(until(lambda: resizes(google, region))[0])
    assert google.fleet.resizes == [("us-central1", 7, True)]


def test_one_resize_for_each_size(google: Google) -> None:
    create(google, ZONE, 5)
    google.finish(until(lambda: resizes(google))[0])
    google.done("POST", f"{POOLS}/measured:setSize", {"nodeCount": 9})
    google.done("POST", f"{POOLS}/measured:setSize", {"nodeCount": 10})
    until(lambda: len(google.fleet.resizes) == 2)
