"""Reading the archive, against a local Google; of a whole run: tests/live/simulated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from experiment.collect.archive import collect_archive
from experiment.errors import MeasureError, PlanError
from experiment.run_folder import RunFolder
from rehearsal.google.environment import PROJECT
from rehearsal.google.storage import insert_object
from schema.run_records import EventRecord, Phase, PhaseRecord, RunRecord, Source
from schema.stack_outputs import StackOutputs
from schema.study import Study
from tests.rehearsal.local_google import Google, lead_to, serving

BEGUN = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)
ENDED = datetime(2026, 11, 25, 0, 20, tzinfo=UTC)
BUCKET = "events"
OUTPUTS = StackOutputs(
    project=PROJECT,
    location="us-central1-a",
    cluster_name="pull-study-size-4",
    node_count=4,
    machine_type="n1-standard-16",
    kubeconfig="",
    exporter_namespace="monitoring",
    exporter_deployment="event-exporter",
    log_filter="",
    archive_bucket=BUCKET,
)


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with serving() as google:
        lead_to(google, tmp_path, monkeypatch)
        google.ok("POST", "storage/v1/b", {"name": BUCKET}, project=PROJECT)
        yield google


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path, "a-run")
    phase = PhaseRecord(phase=Phase.MEASURE, started_at=BEGUN, ended_at=ENDED)
    folder.add(phase)
    return folder


def record(**changes: Any) -> RunRecord:
    study = Study.model_validate({"name": "s", "images": [{"repository": "r/a", "tags": ["t"]}]})
    return RunRecord(
        run_id="a-run", started_at=BEGUN, stack="size-4", study=study, study_file="s.yaml",
        seed=1, trials=(), versions={}, outputs=OUTPUTS,
    ).model_copy(update=changes)  # fmt: skip


def entry(uid: str, at: datetime, **changes: Any) -> dict[str, Any]:
    labels = {"cluster_name": OUTPUTS.cluster_name, "location": OUTPUTS.location}
    return {
        "logName": f"projects/{PROJECT}/logs/stdout",
        "insertId": f"id-{uid}",
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "receiveTimestamp": (at + timedelta(seconds=2)).isoformat().replace("+00:00", "Z"),
        "resource": {"type": "k8s_container", "labels": labels},
        "jsonPayload": {"metadata": {"uid": uid}, "involvedObject": {"kind": "Pod"}},
    } | changes


def store(google: Google, name: str, *entries: dict[str, Any] | bytes) -> None:
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in entries]
    insert_object(google.state, BUCKET, name, b"\n".join([*lines, b""]), "application/json")


def uids(folder: RunFolder) -> list[str]:
    return [each.event["metadata"]["uid"] for each in folder.events(Source.EXPORTER)]


def test_events_of_the_runs_time_are_read_whichever_objects_hold_them(
    google: Google, folder: RunFolder
) -> None:
    native = f"projects/{PROJECT}/logs/events"
    store(google, "stdout/2026/11/24/23:00:00_23:59:59_S0.json", entry("a", BEGUN))
    store(google, "stdout/2026/11/24/23:00:00_23:59:59_S1.json", entry("b", BEGUN))
    store(google, "stdout/2026/11/25/00:00:00_00:59:59_S0.json", entry("c", ENDED))
    store(google, "stdout/2026/11/25/00:00:00_00:59:59_A0.json", entry("d", ENDED))
    store(google, "events/2026/11/25/00:00:00_00:59:59_S0.json", entry("e", ENDED, logName=native))
    assert collect_archive(folder, record()) == 5
    assert sorted(uids(folder)) == list("abcde")
    sources = {each.event["metadata"]["uid"]: each.source for each in folder.events()}
    assert (sources["a"], sources["e"]) == (Source.EXPORTER, Source.NATIVE)


def test_what_is_of_others_is_left_out(google: Google, folder: RunFolder) -> None:
    other = {"cluster_name": "pull-study-size-8", "location": OUTPUTS.location}
    elsewhere = {"cluster_name": OUTPUTS.cluster_name, "location": "us-east1-b"}
    store(
        google,
        "stdout/2026/11/24/23:00:00_23:59:59_S0.json",
        entry("ours", BEGUN),
        entry("earlier", BEGUN - timedelta(minutes=20)),
        entry("other", BEGUN, resource={"labels": other}),
        entry("elsewhere", BEGUN, resource={"labels": elsewhere}),
        entry("own line", BEGUN, jsonPayload={"msg": "started"}),
        entry("text", BEGUN, jsonPayload={}, textPayload="watching"),
    )
    store(google, "stdout/2026/11/24/21:00:00_21:59:59_S0.json", entry("old object", BEGUN))
    store(google, "stdout/2026/11/26/21:00:00_21:59:59_S0.json", entry("new object", BEGUN))
    assert collect_archive(folder, record()) == 1
    assert uids(folder) == ["ours"]


def test_an_entry_that_is_there_twice_or_known_already_counts_once(
    google: Google, folder: RunFolder
) -> None:
    known = EventRecord(
        source=Source.EXPORTER, received_at=BEGUN, insert_id="id-known",
        event={"metadata": {"uid": "known"}},
    )  # fmt: skip
    folder.add(known)
    twice = entry("twice", BEGUN)
    name = "stdout/2026/11/24/23:00:00_23:59:59"
    store(google, f"{name}_S0.json", twice, entry("known", BEGUN))
    store(google, f"{name}_A0.json", twice)
    assert collect_archive(folder, record()) == 1
    assert uids(folder) == ["known", "twice"]
    assert collect_archive(folder, record()) == 0


def test_an_unreadable_line_is_ignored_and_logged(google: Google, folder: RunFolder) -> None:
    name = "stdout/2026/11/24/23:00:00_23:59:59_S0.json"
    half = json.dumps(entry("half", BEGUN)).encode()[:-9]
    store(google, name, half, b'{"insertId": "x"}', b"[]", entry("whole", BEGUN))
    assert collect_archive(folder, record()) == 1
    assert uids(folder) == ["whole"]
    assert (folder.path / "run.log").read_text().count(f"unreadable line in {name}") == 3


@pytest.mark.usefixtures("google")
def test_an_empty_archive_is_reported_with_when_to_retry(folder: RunFolder) -> None:
    with pytest.raises(MeasureError) as caught:
        collect_archive(folder, record())
    assert "has no events of the run a-run" in caught.value.problem
    assert caught.value.fix


@pytest.mark.usefixtures("google")
def test_a_missing_bucket_and_a_run_without_one_are_reported(folder: RunFolder) -> None:
    gone = OUTPUTS.model_copy(update={"archive_bucket": "gone"})
    with pytest.raises(PlanError, match="gs://gone of the run's events no longer exists"):
        collect_archive(folder, record(outputs=gone))
    with pytest.raises(PlanError, match="its stack never came up"):
        collect_archive(folder, record(outputs=None))
