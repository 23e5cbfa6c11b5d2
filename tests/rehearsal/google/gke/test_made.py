"""What GKE makes for a cluster is in Compute Engine's lists while the cluster exists."""

from __future__ import annotations

from typing import Any

import pytest

from rehearsal.google.state import Kind
from tests.rehearsal.local_google import ZONE, Google

LISTS = "compute/beta/projects/p"


@pytest.fixture
def up(google: Google) -> Google:
    body = {"name": "c", "initialNodeCount": 2, "resourceLabels": {"stack": "s"}}
    google.done("POST", f"{ZONE}/clusters", {"cluster": body})
    return google


def named(google: Google, collection: str) -> list[dict[str, Any]]:
    scopes = google.ok("GET", f"{LISTS}/aggregated/{collection}")["items"]
    return [each for scope in scopes.values() for each in scope[collection]]


@pytest.mark.parametrize("collection", ["instances", "disks"])
def test_machines_and_their_disks_have_the_labels_of_the_cluster(
    up: Google, collection: str
) -> None:
    found = named(up, collection)
    assert len(found) == 2
    assert {each["labels"]["goog-k8s-cluster-name"] for each in found} == {"c"}
    assert {each["labels"]["stack"] for each in found} == {"s"}
    up.done("DELETE", f"{ZONE}/clusters/c")
    assert named(up, collection) == []


def test_firewall_rules_begin_with_the_name_of_the_cluster(up: Google) -> None:
    rules = up.ok("GET", f"{LISTS}/global/firewalls")["items"]
    assert [each["name"].startswith("gke-c-") for each in rules] == [True] * 4


def test_what_is_left_behind_stays_in_the_lists(google: Google) -> None:
    disk = {"name": "pvc-1", "zone": "projects/p/zones/us-central1-a"}
    google.state.put(Kind.DISK, "projects/p/zones/us-central1-a/disks/pvc-1", disk)
    address = {"name": "a", "region": "projects/p/regions/us-central1"}
    google.state.put(Kind.ADDRESS, "projects/p/regions/us-central1/addresses/a", address)
    assert [each["name"] for each in named(google, "disks")] == ["pvc-1"]
    assert [each["name"] for each in named(google, "addresses")] == ["a"]
