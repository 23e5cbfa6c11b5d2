from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.faults.faults import Faults
from tests.rehearsal.local_google import ZONE, Google, Loopback, google_in

CLUSTER = {"cluster": {"name": "c", "initialNodeCount": 1}}
CLUSTERS = f"{ZONE}/clusters"

Start = Callable[..., tuple[Google, Faults]]


@pytest.fixture
def start(tmp_path: Path, loopback: Loopback) -> Iterator[Start]:
    """Starts a local Google that suffers the given faults."""
    with ExitStack() as stack:

        def run(*texts: str) -> tuple[Google, Faults]:
            faults = Faults.read(texts)
            return stack.enter_context(google_in(tmp_path, loopback, faults=faults)), faults

        yield run


@pytest.mark.parametrize(
    ("fault", "code", "status", "sentence"),
    [
        (
            "google-conflict",
            409,
            "ALREADY_EXISTS",
            "Already exists: projects/p/zones/us-central1-a/clusters/c.",
        ),
        ("google-quota", 403, "PERMISSION_DENIED", "Insufficient regional quota to satisfy"),
        ("google-unavailable", 503, "UNAVAILABLE", "currently unavailable"),
        ("google-error:status=429,reason=rateLimitExceeded", 429, "RESOURCE_EXHAUSTED", ""),
        ("google-quota:message=Quota 'CPUS' exceeded, alas.", 403, "", "Quota 'CPUS' exceeded,"),
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
    assert [line["call"] for line in faults.struck] == [f"POST /{CLUSTERS}"]
    assert google.ok("GET", CLUSTERS) == {"clusters": []}


def test_a_fault_strikes_as_often_as_it_was_asked_to(start: Start) -> None:
    google, faults = start("google-unavailable:count=2")
    for _ in range(2):
        assert google.error("POST", CLUSTERS, CLUSTER)["code"] == 503
    google.done("POST", CLUSTERS, CLUSTER)
    assert len(faults.struck) == 2


def test_a_fault_strikes_the_call_that_it_names_and_no_other(start: Start) -> None:
    google, _ = start("google-error:status=500,method=GET,path=clusters/c")
    google.done("POST", CLUSTERS, CLUSTER)
    assert google.error("GET", f"{CLUSTERS}/c")["code"] == 500
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "RUNNING"


def test_a_failed_operation_leaves_a_broken_cluster_that_can_be_deleted(start: Start) -> None:
    google, faults = start("google-operation-failed")
    operation = google.finish(google.ok("POST", CLUSTERS, CLUSTER))
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in operation["error"]["message"]
    cluster = google.ok("GET", f"{CLUSTERS}/c")
    assert cluster["status"] == "ERROR"
    assert "does not have enough resources available" in cluster["statusMessage"]
    assert google.fleet.clusters == {}
    google.done("DELETE", f"{CLUSTERS}/c")
    assert google.error("GET", f"{CLUSTERS}/c")["code"] == 404
    assert [line["operation"] for line in faults.struck] == ["CREATE_CLUSTER"]


def test_a_stuck_cluster_stays_provisioning_until_the_time_is_over(start: Start) -> None:
    google, _ = start("google-stuck:s=0.5")
    operation = google.ok("POST", CLUSTERS, CLUSTER)
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "PROVISIONING"
    assert google.error("DELETE", f"{CLUSTERS}/c")["status"] == "FAILED_PRECONDITION"
    assert "error" not in google.finish(operation)
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "RUNNING"


def test_a_cluster_that_is_stuck_for_ever_ends_with_the_server(start: Start) -> None:
    google, faults = start("google-stuck:type=DELETE_CLUSTER")
    google.done("POST", CLUSTERS, CLUSTER)
    google.ok("DELETE", f"{CLUSTERS}/c")
    assert google.ok("GET", f"{CLUSTERS}/c")["status"] == "STOPPING"
    assert len(faults.struck) == 1


def test_a_late_sink_writes_after_the_cluster_was_deleted(start: Start) -> None:
    google, faults = start("sink-late:s=0.5")
    google.ok("POST", "storage/v1/b", {"name": "events"}, project="p")
    sink = {"name": "s", "destination": "storage.googleapis.com/events", "filter": ""}
    writer = google.ok("POST", "logging/v2/projects/p/sinks", sink)["writerIdentity"]
    policy = google.ok("GET", "storage/v1/b/events/iam")
    policy["bindings"].append({"role": "roles/storage.objectCreator", "members": [writer]})
    google.ok("PUT", "storage/v1/b/events/iam", policy)
    google.done("POST", CLUSTERS, CLUSTER)
    key = ClusterKey("p", "us-central1-a", "c")
    google.logs.append(LogLine(key, "ns", "pod", "c", "stdout", "a", datetime.now(UTC)))
    google.done("DELETE", f"{CLUSTERS}/c")
    assert google.ok("GET", "storage/v1/b/events/o").get("items", []) == []
    deadline = time.monotonic() + 10
    while not google.ok("GET", "storage/v1/b/events/o").get("items"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [line["fault"] for line in faults.struck] == ["sink-late"]
