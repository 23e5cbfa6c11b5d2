from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rehearsal.faults.faults import Faults
from rehearsal.google.environment import PROJECT
from tests.rehearsal.local_google import ZONE, Google, serving

CLUSTER = {"cluster": {"name": "c", "initialNodeCount": 1}}
CLUSTERS = f"{ZONE}/clusters"

Start = Callable[..., tuple[Google, Faults]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a local Google with the given faults."""
    with ExitStack() as stack:

        def run(*texts: str) -> tuple[Google, Faults]:
            faults = Faults.read(texts)
            return stack.enter_context(serving(faults=faults)), faults

        yield run


@pytest.mark.parametrize(
    ("fault", "code", "status", "sentence"),
    [
        (
            "google:status=409",
            409,
            "ALREADY_EXISTS",
            "Already exists: projects/p/zones/us-central1-a/clusters/c.",
        ),
        ("google:how=quota", 403, "PERMISSION_DENIED", "Insufficient regional quota to satisfy"),
        ("google:status=502", 502, "UNKNOWN", ""),
        ("google:status=503", 503, "UNAVAILABLE", "currently unavailable"),
        ("google:status=429,reason=rateLimitExceeded", 429, "RESOURCE_EXHAUSTED", ""),
        (
            "google:how=quota,message=Quota 'CPUS' exceeded, alas.",
            403,
            "",
            "Quota 'CPUS' exceeded,",
        ),
    ],
)
def test_a_call_is_refused_as_google_does(
    start: Start, fault: str, code: int, status: str, sentence: str
) -> None:
    google, faults = start(fault)
    error = google.error("POST", CLUSTERS, CLUSTER)
    assert error["code"] == code
    assert status in error["status"]
    assert sentence in error["message"]
    assert [line["call"] for line in faults.injected] == [f"POST /{CLUSTERS}"]
    assert google.ok("GET", CLUSTERS) == {"clusters": []}


def test_a_fault_refuses_the_call_that_it_names_and_no_other(start: Start) -> None:
    google, _ = start("google:status=500,method=GET,path=clusters/c")
    google.done("POST", CLUSTERS, CLUSTER)
    assert google.error("GET", f"{CLUSTERS}/c")["code"] == 500
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "RUNNING"


def test_a_cluster_that_is_stuck_without_limit_ends_with_the_server(start: Start) -> None:
    google, faults = start("operation:how=stuck,type=DELETE_CLUSTER")
    google.done("POST", CLUSTERS, CLUSTER)
    google.ok("DELETE", f"{CLUSTERS}/c")
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "STOPPING"
    assert len(faults.injected) == 1


def test_a_new_project_has_its_default_quotas(start: Start) -> None:
    google, faults = start("new-project")
    region = google.ok("GET", f"compute/beta/projects/{PROJECT}/regions/europe-west4")
    limits = {quota["metric"]: quota["limit"] for quota in region["quotas"]}
    assert (limits["CPUS"], limits["IN_USE_ADDRESSES"]) == (24, 8)
    config = {"machineType": "n1-standard-16"}
    body: Any = {"cluster": {"name": "c", "initialNodeCount": 4, "nodeConfig": config}}
    error = google.error("POST", CLUSTERS.replace("projects/p/", f"projects/{PROJECT}/"), body)
    assert "request requires '64.0' and is short '40.0'" in error["message"]
    assert faults.injected[0]["fault"] == "new-project"


@pytest.mark.parametrize(
    ("fault", "listed", "missing"),
    [
        ("list:how=late,s=60", [], []),
        ("list:how=late,s=0", ["c"], []),
        ("list:how=zone", [], ["us-central1-a"]),
    ],
)
def test_a_list_lacks_a_cluster_that_a_read_has(
    start: Start, fault: str, listed: list[str], missing: list[str]
) -> None:
    google, _faults = start(fault)
    google.done("POST", CLUSTERS, CLUSTER)
    found = google.ok("GET", CLUSTERS)
    assert [cluster["name"] for cluster in found["clusters"]] == listed
    assert found.get("missingZones", []) == missing
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "RUNNING"
