"""Events out of files, in every form in which people have them."""

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.read.lines import UnreadableFileError
from analysis.read.read_events import NOTES_PER_FILE, Notes, read_events
from analysis.read.unwrap import Read
from tests.analysis.recorded import IMAGES, START, Json, Pod, event, lines, pull_events, uid

POD = Pod("container-pull-0-abcde", "node-a", job_uid=uid("job"))
EVENTS = pull_events(POD, IMAGES[0], START, 7.1)
ONE = json.dumps(EVENTS[2], separators=(",", ":"))
LOG = '{"level":"info","time":"2024-11-10T06:32:27Z","message":"Reading config file"}'
DISCARDED = (
    '{"level":"warn","event age":"5.2s","event namespace":"default","event name":"a.17",'
    '"message":"Event discarded as being older then maxEventAgeSeconds"}'
)


def read(path: Path) -> tuple[list[Read], Notes]:
    notes = Notes()
    return list(read_events(path, notes)), notes


def read_text(
    folder: Path, text: str | bytes, name: str = "events-1.json"
) -> tuple[list[Read], Notes]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def reasons(found: list[Read]) -> list[str | None]:
    return [one.event.reason for one in found]


ALL = ["Scheduled", "Pulling", "Pulled", "Created", "Started"]


def test_lines_of_the_exporter(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, lines(EVENTS))
    assert reasons(found) == ALL
    assert {one.source for one in found} == {"exporter"}
    assert not notes.counts


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    found, _ = read_text(tmp_path, gzip.compress(lines(EVENTS).encode()))
    assert reasons(found) == ALL


def test_other_lines_are_noted_with_file_and_line(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, f"{LOG}\n{ONE}\nError from server\n{DISCARDED}\n\n{ONE}\n")
    assert len(found) == 2
    assert [(note.line, note.kind) for note in notes.listed] == [
        (1, "not-an-event"),
        (3, "unreadable"),
        (4, "discarded"),
    ]
    assert notes.listed[2].detail == "a.17"
    assert notes.listed[1].file.endswith("events-1.json")


def test_two_events_spliced_in_one_line_with_a_cri_prefix(tmp_path: Path) -> None:
    spliced = f"{ONE}2024-11-10T06:49:08.123456789Z stdout F {json.dumps(EVENTS[3])}"
    found, notes = read_text(tmp_path, f"{ONE}\n{spliced}\n{ONE}\n")
    assert reasons(found) == ["Pulled", "Pulled", "Created", "Pulled"]
    assert not notes.counts


def test_an_event_cut_off_by_another_is_read_and_the_loss_noted(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, f"{ONE}\n{ONE[:200]}2024-11-10T06:49:08Z stdout F {ONE}\n")
    assert reasons(found) == ["Pulled", "Pulled"]
    assert [(note.line, note.kind) for note in notes.listed] == [(2, "unreadable")]


def test_prefixes_of_kubectl_logs(tmp_path: Path) -> None:
    text = f"2024-11-10T06:49:08.1Z {ONE}\n[pod/event-exporter/exporter] {ONE}\n"
    found, notes = read_text(tmp_path, text)
    assert len(found) == 2
    assert not notes.counts


def test_a_truncated_last_line_is_noted(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, f"{ONE}\n{ONE}\n{ONE[:-300]}")
    assert len(found) == 2
    assert [(note.line, note.kind) for note in notes.listed] == [(3, "unreadable")]


def test_a_truncated_gzip_gives_what_it_has(tmp_path: Path) -> None:
    data = gzip.compress(lines([*EVENTS] * 200).encode())
    found, notes = read_text(tmp_path, data[: len(data) // 2])
    assert len(found) > 10
    assert notes.total("unreadable") >= 1
    assert any("truncated or damaged" in note.detail for note in notes.listed)


def test_null_times_and_microsecond_event_time(tmp_path: Path) -> None:
    starting = EVENTS[0] | {
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": "2024-11-10T06:47:10.332012Z",
        "source": {},
    }
    del starting["message"]
    found, notes = read_text(tmp_path, lines([starting]))
    assert found[0].event.event_time is not None
    assert found[0].event.event_time.microsecond == 332012
    assert found[0].event.message is None
    assert not notes.counts


def test_a_kubectl_list(tmp_path: Path) -> None:
    document = {"apiVersion": "v1", "items": EVENTS, "kind": "List"}
    found, notes = read_text(tmp_path, json.dumps(document, indent=4))
    assert reasons(found) == ALL
    assert {one.source for one in found} == {"kubectl"}
    assert not notes.counts


def test_a_compact_kubectl_list_on_one_line(tmp_path: Path) -> None:
    found, _ = read_text(tmp_path, json.dumps({"items": EVENTS}))
    assert reasons(found) == ALL


def test_a_truncated_kubectl_list_gives_its_whole_events(tmp_path: Path) -> None:
    text = json.dumps({"apiVersion": "v1", "items": EVENTS, "kind": "List"}, indent=4)
    found, notes = read_text(tmp_path, text[: text.rindex('"Started"')])
    assert reasons(found) == ALL[:4]
    assert notes.total("unreadable") == 1
    assert notes.listed[0].line > 100


def test_objects_printed_one_after_the_other_by_a_watch(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(item, indent=4) for item in EVENTS)
    found, notes = read_text(tmp_path, text)
    assert reasons(found) == ALL
    assert not notes.counts


def test_watch_events(tmp_path: Path) -> None:
    found, _ = read_text(tmp_path, lines([{"type": "ADDED", "object": item} for item in EVENTS]))
    assert reasons(found) == ALL


def log_entry(item: Json, log: str = "stdout") -> Json:
    return {
        "insertId": "x",
        "jsonPayload": json.loads(json.dumps(item).replace('"count": 1', '"count": 1.0')),
        "logName": f"projects/p/logs/{log}",
        "resource": {"type": "k8s_container", "labels": {"cluster_name": "size-16"}},
        "receiveTimestamp": "2024-11-10T06:49:09.000000001Z",
    }


def test_a_cloud_logging_export(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, json.dumps([log_entry(item) for item in EVENTS], indent=2))
    assert reasons(found) == ALL
    assert {(one.source, one.cluster) for one in found} == {("exporter", "size-16")}
    assert not notes.counts


def test_an_object_of_a_cloud_storage_sink_with_native_events(tmp_path: Path) -> None:
    text = lines([log_entry(item, "events") for item in EVENTS])
    found, _ = read_text(tmp_path, text, "06:00:00_06:59:59_S0.json")
    assert {one.source for one in found} == {"native"}


def test_a_log_entry_whose_payload_is_text(tmp_path: Path) -> None:
    entry = {"textPayload": ONE, "logName": "projects/p/logs/stdout"}
    found, _ = read_text(tmp_path, lines([entry, {"textPayload": "plain words"}]))
    assert reasons(found) == ["Pulled"]


def test_records_of_a_run_folder(tmp_path: Path) -> None:
    records = [
        {"source": "watch", "received_at": "2024-11-10T06:49:09Z", "event": e} for e in EVENTS
    ]
    found, _ = read_text(tmp_path, lines(records), "events.watch.jsonl")
    assert reasons(found) == ALL
    assert {one.source for one in found} == {"watch"}


def test_events_of_the_newer_api(tmp_path: Path) -> None:
    item = dict(EVENTS[2])
    item["regarding"] = item.pop("involvedObject")
    item["note"] = item.pop("message")
    item["deprecatedSource"] = item.pop("source")
    item["deprecatedFirstTimestamp"] = item.pop("firstTimestamp")
    found, _ = read_text(tmp_path, lines([item]))
    assert found[0].event.message == EVENTS[2]["message"]
    assert found[0].event.source is not None
    assert found[0].event.source.host == "node-a"


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, b"\xef\xbb\xbf" + lines(EVENTS).encode())
    assert reasons(found) == ALL
    assert not notes.counts


def test_an_event_with_a_field_of_the_wrong_kind_is_unreadable(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, lines([EVENTS[0] | {"metadata": "none"}, EVENTS[1]]))
    assert reasons(found) == ["Pulling"]
    assert [(note.line, note.kind) for note in notes.listed] == [(1, "unreadable")]


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, "")
    assert not found
    assert not notes.counts


def test_a_file_that_is_not_json_is_noted_line_by_line(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, "a\nb\n\x00\xff\n")
    assert not found
    assert notes.total("unreadable") == 3


def test_very_many_bad_lines_are_counted_beyond_those_listed(tmp_path: Path) -> None:
    _, notes = read_text(tmp_path, "x\n" * (NOTES_PER_FILE + 5))
    assert notes.total("unreadable") == NOTES_PER_FILE + 5
    assert len(notes.listed) == NOTES_PER_FILE


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"none\.json cannot be read"):
        read(tmp_path / "none.json")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_never_crashes_and_is_never_silent(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = lines(EVENTS).encode()
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(1, 400))
    filling = data.draw(st.binary(max_size=20))
    found, notes = read_text(
        tmp_path_factory.mktemp("damaged"), text[:start] + filling + text[start + length :]
    )
    assert len(found) <= len(EVENTS)
    if len(found) < len(EVENTS):
        # A whole line that is gone leaves no trace; anything less does.
        lost_whole_lines = text[start : start + length].count(b"\n")
        assert notes.counts or lost_whole_lines


def test_events_of_two_containers_and_of_an_update_are_all_there(tmp_path: Path) -> None:
    later = event(POD, "Pulling", f'Pulling image "{IMAGES[0]}"', START + timedelta(seconds=30))
    found, _ = read_text(tmp_path, lines([*EVENTS, later, EVENTS[0] | {"count": 2}]))
    assert len(found) == 7
