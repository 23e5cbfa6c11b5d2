import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rehearsal.cloud_logging.entries import Entry, parse_time
from rehearsal.cloud_logging.store import LogStore
from rehearsal.cluster.fleet import ClusterKey, LogLine

KEY = ClusterKey("p", "us-central1-a", "size-4")
NOON = datetime(2020, 11, 24, 12, tzinfo=UTC)


def line(text: str, at: datetime = NOON, stream: str = "stdout") -> LogLine:
    return LogLine(KEY, "monitoring", "exporter-1", "event-exporter", stream, text, at)


def texts(store: LogStore, *, newest_first: bool = False) -> list[str]:
    return [entry.data["textPayload"] for entry in store.entries(newest_first=newest_first)]


def test_line_becomes_the_entry_that_gke_makes_of_it(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
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
def test_json_object_becomes_a_structured_payload(
    tmp_path: Path, text: str, payload: dict[str, object]
) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
    store.append(line(text))
    (entry,) = store.entries()
    found = {name: entry.data[name] for name in entry.data if name.endswith("Payload")}
    assert found == payload
    assert entry.message.insert_id


def test_severity_is_the_streams_or_the_lines_own(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
    store.append(line("a", stream="stderr"))
    store.append(line('{"severity": "warning", "a": 1}'))
    store.append(line('{"severity": "loud"}'))
    found = [(entry.data["severity"], entry.data.get("jsonPayload")) for entry in store.entries()]
    assert found == [("ERROR", None), ("WARNING", {"a": 1}), ("INFO", {"severity": "loud"})]


def test_entries_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
    for text, second in (("b", 2), ("c", 3), ("a", 1), ("d", 3)):
        store.append(line(text, NOON + timedelta(seconds=second)))
    assert texts(store) == ["a", "b", "c", "d"]
    assert texts(store, newest_first=True) == ["d", "c", "b", "a"]


def test_entries_after_a_key_leave_out_the_key(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
    for text in "abc":
        store.append(line(text))
    keys = [entry.key for entry in store.entries()]
    assert [entry.key for entry in store.entries(after=keys[0])] == keys[1:]
    assert [entry.key for entry in store.entries(newest_first=True, after=keys[2])] == keys[1::-1]


def test_duplicate_is_kept_once(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")
    written = {
        "logName": "projects/p/logs/events",
        "timestamp": "2026-11-24T12:00:00Z",
        "insertId": "a",
    }
    for log_name in ("events", "events", "other"):
        store.append_entry({**written, "logName": f"projects/p/logs/{log_name}"})
    assert [entry.log_id for entry in store.entries()] == ["events", "other"]


def test_next_store_has_every_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "entries.jsonl"
    first = LogStore(path)
    for text in "ab":
        first.append(line(text))
    first.close()
    with path.open("a") as file:
        file.write('{"logName": "projects/p/logs/std')
    second = LogStore(path)
    second.append(line("c"))
    second.close()
    assert texts(LogStore(path)) == ["a", "b", "c"]
    ids = [json.loads(text)["insertId"] for text in path.read_text().splitlines()]
    assert ids == sorted(set(ids))
    assert len(ids) == 3


def test_lines_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "entries.jsonl")

    def work() -> None:
        for n in range(250):
            store.append(line(str(n)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    store.close()
    entries = list(LogStore(tmp_path / "entries.jsonl").entries())
    assert len({entry.data["insertId"] for entry in entries}) == 1000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
        ("1970-01-02", 86_400_000_000_000),
    ],
)
def test_time_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-24T02:00:00", "2026-13-01", "2026-11-24 02:00"]
)
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_log_id_is_unescaped() -> None:
    data = {
        "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
        "insertId": "a",
        "timestamp": "2026-11-24T12:00:00Z",
        "receiveTimestamp": "2026-11-24T12:00:00Z",
    }
    assert Entry(data).log_id == "cloudaudit.googleapis.com/activity"
