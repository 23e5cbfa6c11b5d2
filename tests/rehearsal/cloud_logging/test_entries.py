import threading
from datetime import UTC, datetime

import pytest

from rehearsal.cloud_logging.entries import LogStore, entry_of_event, parse_time
from rehearsal.cluster.fleet import ClusterKey, LogLine

KEY = ClusterKey("p", "us-central1-a", "size-4")
NOON = datetime(2020, 11, 24, 12, tzinfo=UTC)


def line(text: str, at: datetime = NOON, stream: str = "stdout") -> LogLine:
    return LogLine(KEY, "monitoring", "exporter-1", "event-exporter", stream, text, at)


def texts(store: LogStore, *, newest_first: bool = False) -> list[str]:
    return [entry.data["textPayload"] for entry in store.entries(newest_first=newest_first)]


def test_line_becomes_the_entry_that_gke_makes_of_it() -> None:
    store = LogStore()
    store.append(line("hello"))
    (entry,) = store.entries()
    assert entry.data == {
        "logName": "projects/p/logs/stdout",
        "resource": {
            "type": "k8s_container",
            "labels": {
                "project_id": "p",
                "location": "us-central1-a",
                "cluster_name": "size-4",
                "namespace_name": "monitoring",
                "pod_name": "exporter-1",
                "container_name": "event-exporter",
            },
        },
        "timestamp": "2020-11-24T12:00:00.000000Z",
        "receiveTimestamp": entry.data["receiveTimestamp"],
        "insertId": "0000000000000001",
        "severity": "INFO",
        "textPayload": "hello",
    }
    assert parse_time(entry.data["receiveTimestamp"]) > entry.timestamp


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ('{"a": 1}', {"jsonPayload": {"a": 1}}),
        ('{"a": {"b": [null]}}', {"jsonPayload": {"a": {"b": [None]}}}),
        ("[1]", {"textPayload": "[1]"}),
        ("{broken", {"textPayload": "{broken"}),
        ('{"a": NaN}', {"textPayload": '{"a": NaN}'}),
        (r'{"a": "\ud800"}', {"textPayload": r'{"a": "\ud800"}'}),
        ("", {"textPayload": ""}),
    ],
)
def test_json_object_becomes_a_structured_payload(text: str, payload: dict[str, object]) -> None:
    store = LogStore()
    store.append(line(text))
    (entry,) = store.entries()
    found = {name: entry.data[name] for name in entry.data if name.endswith("Payload")}
    assert found == payload
    assert entry.message.insert_id


def test_severity_is_the_streams_or_the_lines_own() -> None:
    store = LogStore()
    store.append(line("a", stream="stderr"))
    store.append(line('{"severity": "warning", "a": 1}'))
    store.append(line('{"severity": "loud"}'))
    found = [(entry.data["severity"], entry.data.get("jsonPayload")) for entry in store.entries()]
    assert found == [("ERROR", None), ("WARNING", {"a": 1}), ("INFO", {"severity": "loud"})]


def test_entries_after_a_key_leave_out_the_key() -> None:
    store = LogStore()
    for text in "abc":
        store.append(line(text))
    keys = [entry.key for entry in store.entries()]
    assert [entry.key for entry in store.entries(after=keys[0])] == keys[1:]
    assert [entry.key for entry in store.entries(newest_first=True, after=keys[2])] == keys[1::-1]


def test_duplicate_is_kept_once() -> None:
    store = LogStore()
    written = {
        "logName": "projects/p/logs/events",
        "timestamp": "2026-11-24T12:00:00Z",
        "insertId": "a",
    }
    for log_name in ("events", "events", "other"):
        store.append_entry({**written, "logName": f"projects/p/logs/{log_name}"})
    assert [entry.log_id for entry in store.entries()] == ["events", "other"]


def test_lines_of_many_threads_are_all_kept() -> None:
    store = LogStore()

    def work() -> None:
        for n in range(250):
            store.append(line(str(n)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({entry.data["insertId"] for entry in store.entries()}) == 1000


EVENT = {
    "kind": "Event",
    "apiVersion": "v1",
    "metadata": {"name": "p.17", "namespace": "pull-study", "uid": "u"},
    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "pull-study"},
    "type": "Normal",
    "reason": "Pulled",
}
TIMES = {
    "count": 3,
    "firstTimestamp": "2020-11-24T11:59:00Z",
    "lastTimestamp": "2020-11-24T12:00:00Z",
}


def test_event_becomes_the_entry_that_gkes_exporter_makes_of_it() -> None:
    store = LogStore()
    store.append_event(KEY, {**EVENT, **TIMES})
    (entry,) = store.entries()
    labels = {"project_id": "p", "location": "us-central1-a", "cluster_name": "size-4"}
    pod = {"pod_name": "p", "namespace_name": "pull-study"}
    assert entry.data == {
        "logName": "projects/p/logs/events",
        "resource": {"type": "k8s_pod", "labels": {**labels, **pod}},
        "severity": "INFO",
        "jsonPayload": EVENT,
        "timestamp": "2020-11-24T12:00:00Z",
        "insertId": entry.data["insertId"],
        "receiveTimestamp": entry.data["receiveTimestamp"],
    }


@pytest.mark.parametrize(
    ("kind", "namespace", "resource"),
    [
        ("Pod", "other", "k8s_cluster"),
        ("Node", "default", "k8s_node"),
        ("Node", "pull-study", "k8s_cluster"),
        ("Job", "pull-study", "k8s_cluster"),
    ],
)
def test_event_is_attributed_to_a_pod_or_node_in_its_own_namespace(
    kind: str, namespace: str, resource: str
) -> None:
    about = {"kind": kind, "name": "n", "namespace": "pull-study"}
    metadata = {"metadata": {"name": "n.17", "namespace": namespace}}
    entry = entry_of_event(KEY, {**EVENT, **metadata, "involvedObject": about, "type": "Warning"})
    assert (entry["resource"]["type"], entry["severity"]) == (resource, "WARNING")
    assert "timestamp" not in entry  # that of its receipt


def test_gkes_log_of_events_begins_with_a_warning() -> None:
    store = LogStore()
    store.append_event(KEY, None)
    (entry,) = store.entries()
    assert entry.data["textPayload"].startswith("Event exporter started watching. Some events may")
    assert entry.data["resource"]["type"] == "k8s_cluster"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
    ],
)
def test_time_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-24T02:00:00", "2026-13-01T00:00:00Z", "2026-11-24"],
)
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)
