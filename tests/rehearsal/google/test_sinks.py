import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.google.storage import Sinks, export_sinks
from tests.rehearsal.local_google import ZONE, Google

SINKS = "logging/v2/projects/p/sinks"
KEY = ClusterKey("p", "us-central1-a", "c")
HOUR = datetime(2026, 11, 24, 2, tzinfo=UTC)
SINK = {
    "name": "size-4",
    "destination": "storage.googleapis.com/events",
    "filter": 'resource.type="k8s_container" AND log_id("stdout")',
}


@pytest.fixture
def sink(google: Google) -> dict[str, Any]:
    """A sink and its bucket."""
    google.ok("POST", "storage/v1/b", {"name": "events"}, project="p")
    return google.ok("POST", SINKS, SINK, uniqueWriterIdentity="true")


def grant(google: Google, sink: dict[str, Any]) -> None:
    policy = google.ok("GET", "storage/v1/b/events/iam")
    member = {"role": "roles/storage.objectCreator", "members": [sink["writerIdentity"]]}
    policy["bindings"].append(member)
    google.ok("PUT", "storage/v1/b/events/iam", policy)


def write(google: Google, text: str, at: datetime, stream: str = "stdout") -> None:
    google.logs.append(LogLine(KEY, "monitoring", "pod", "event-exporter", stream, text, at))


def objects(google: Google) -> dict[str, list[Any]]:
    items = google.ok("GET", "storage/v1/b/events/o")["items"]
    return {
        item["name"]: [
            json.loads(line)["textPayload"]
            for line in google.state.read_content("events", item["name"]).splitlines()
        ]
        for item in items
    }


def test_sink_has_a_writer_of_its_own(google: Google, sink: dict[str, Any]) -> None:
    assert sink["writerIdentity"].startswith("serviceAccount:service-")
    assert google.ok("GET", f"{SINKS}/size-4") == sink
    assert google.ok("GET", SINKS)["sinks"] == [sink]
    shared = google.ok("POST", SINKS, {**SINK, "name": "shared"})
    assert shared["writerIdentity"] == "serviceAccount:cloud-logs@system.gserviceaccount.com"


@pytest.mark.usefixtures("sink")
def test_wrong_sinks_are_refused(google: Google) -> None:
    assert google.error("POST", SINKS, SINK)["code"] == 409
    error = google.error("POST", SINKS, {**SINK, "name": "b", "filter": 'resource.typ="1"'})
    assert "position 0" in error["message"]
    assert google.error("POST", SINKS, {**SINK, "name": "a b"})["code"] == 400
    bigquery = {**SINK, "name": "b", "destination": "bigquery.googleapis.com/x"}
    assert google.error("POST", SINKS, bigquery)["code"] == 501


def test_entries_are_archived_by_log_and_hour(google: Google, sink: dict[str, Any]) -> None:
    grant(google, sink)
    write(google, "a", HOUR)
    write(google, "b", HOUR + timedelta(minutes=59, seconds=59))
    write(google, "c", HOUR + timedelta(hours=1))
    write(google, "not matched", HOUR, "stderr")
    assert export_sinks(google.state, google.logs) == 2
    assert objects(google) == {
        "stdout/2026/11/24/02:00:00_02:59:59_S0.json": ["a", "b"],
        "stdout/2026/11/24/03:00:00_03:59:59_S0.json": ["c"],
    }


def test_what_comes_after_its_batch_is_an_object_of_its_own(
    google: Google, sink: dict[str, Any]
) -> None:
    grant(google, sink)
    stem = "stdout/2026/11/24/02:00:00_02:59:59"
    expected = {}
    for text, name in (("a", "S0"), ("b", "A0"), ("c", "A1")):
        write(google, text, HOUR)
        assert export_sinks(google.state, google.logs) == 1
        expected[f"{stem}_{name}.json"] = [text]
        assert objects(google) == expected
    assert export_sinks(google.state, google.logs) == 0


def test_an_hour_is_archived_two_hours_after_it_ended(google: Google, sink: dict[str, Any]) -> None:
    grant(google, sink)
    sinks = Sinks(google.state, google.logs)
    write(google, "a", HOUR)
    write(google, "b", HOUR + timedelta(hours=1))
    sinks.tick(HOUR + timedelta(hours=2, minutes=59))
    assert objects(google) == {}
    sinks.tick(HOUR + timedelta(hours=3))
    assert objects(google) == {"stdout/2026/11/24/02:00:00_02:59:59_S0.json": ["a"]}


@pytest.mark.usefixtures("sink")
def test_writer_without_a_right_to_the_bucket_archives_nothing(google: Google) -> None:
    write(google, "a", HOUR)
    assert export_sinks(google.state, google.logs) == 0
    assert objects(google) == {}


def test_entries_from_before_the_sink_are_not_archived(google: Google) -> None:
    google.ok("POST", "storage/v1/b", {"name": "events"}, project="p")
    write(google, "early", HOUR)
    grant(google, google.ok("POST", SINKS, SINK))
    assert export_sinks(google.state, google.logs) == 0


def test_the_archive_outlives_its_cluster(google: Google, sink: dict[str, Any]) -> None:
    grant(google, sink)
    google.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    write(google, "a", HOUR)
    google.done("DELETE", f"{ZONE}/clusters/c")
    assert objects(google) == {}, "Google is late"
    google.ok("POST", "rehearsal/sinks:flush")
    assert objects(google) == {"stdout/2026/11/24/02:00:00_02:59:59_S0.json": ["a"]}
    assert google.error("DELETE", "storage/v1/b/events")["code"] == 409
