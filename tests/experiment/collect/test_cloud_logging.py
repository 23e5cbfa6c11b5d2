"""Reading a run's events back, against the local Cloud Logging."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.collect.judge import collect_late
from experiment.run_folder import RunFolder
from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cloud_logging.service import serve
from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.faults.faults import Faults
from schema.names import LOGGING_ENDPOINT_VARIABLE
from schema.run_records import RunRecord, Source, Status
from schema.stack_outputs import StackOutputs
from schema.study import ImageSet, Study
from tests.experiment.conftest import NODES, START, TAG, Story

KEY = ClusterKey("p", "us-central1-a", "size-4")
OUTPUTS = StackOutputs(
    project="p",
    location="us-central1-a",
    cluster_name="size-4",
    node_count=4,
    machine_type="n1-standard-16",
    kubeconfig="",
    exporter_namespace="monitoring",
    exporter_deployment="event-exporter",
    log_filter='log_id("stdout") OR log_id("events")',
    archive_bucket="b",
)


@pytest.fixture
def store() -> LogStore:
    return LogStore()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    return Faults.read(getattr(request, "param", ()))


@pytest.fixture
def reader(store: LogStore, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogReader]:
    server, port = serve(store, faults=faults)
    monkeypatch.setenv(LOGGING_ENDPOINT_VARIABLE, f"127.0.0.1:{port}")
    reader = LogReader(OUTPUTS, START)
    yield reader
    reader.close()
    server.stop(0).wait()


@pytest.fixture
def folder(tmp_path: Path, story: Story) -> RunFolder:
    """A run whose watch saw every event of a trial."""
    folder = RunFolder(tmp_path)
    folder.write_nodes([{"metadata": {"name": node}} for node in NODES], 1)
    folder.add(*story.events)
    folder.add(story.trial)
    return folder


def export(store: LogStore, story: Story, skip: int = 0) -> None:
    for number, record in enumerate(story.events[skip:], start=skip):
        at = START + timedelta(milliseconds=number)
        text = json.dumps(record.event)
        store.append(LogLine(KEY, "monitoring", "pod", "event-exporter", "stdout", text, at))


def collected(folder: RunFolder, reader: LogReader, since: datetime | None = None) -> bool:
    return Collection(folder, reader, since).run(0.0, lambda _found, _wanted: None)


def uids(folder: RunFolder) -> list[str]:
    return [record.event["metadata"]["uid"] for record in folder.events(Source.EXPORTER)]


def test_all_that_the_watch_saw_is_read_back_once(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    export(store, story)
    assert collected(folder, reader)
    assert collected(folder, reader)
    assert sorted(uids(folder)) == sorted(e.event["metadata"]["uid"] for e in story.events)


def test_what_is_late_is_reported_and_read_later(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    export(store, story, skip=3)
    assert not collected(folder, reader)
    assert len(uids(folder)) == len(story.events) - 3
    export(store, story)
    assert collected(folder, reader)
    assert len(set(uids(folder))) == len(story.events)


def test_entries_of_an_earlier_attempt_are_taken_and_not_waited_for(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    export(store, story, skip=3)
    assert collected(folder, reader, since=START + timedelta(minutes=5))
    assert len(uids(folder)) == len(story.events) - 3


@pytest.mark.parametrize("faults", [["logging:how=token,count=3,page=4"]], indirect=True)
def test_an_expired_page_token_loses_and_repeats_nothing(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    export(store, story)
    assert collected(folder, reader)
    assert len(uids(folder)) == len(set(uids(folder))) == len(story.events)


@pytest.mark.parametrize("faults", [["logging:how=429,count=1"]], indirect=True)
def test_too_many_reads_a_minute_are_waited_out(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    export(store, story)
    assert collected(folder, reader)


def test_a_native_log_that_restarted_is_a_gap_and_its_beginning_is_none(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    store.append_event(KEY, None)
    collected(folder, reader)
    assert list(folder.gaps()) == []
    store.append_event(KEY, story.events[0].event)
    store.append_event(KEY, None)
    collected(folder, reader)
    collected(folder, reader)
    (gap,) = folder.gaps()
    assert gap.source is Source.NATIVE
    assert not gap.recovered


def test_entries_that_come_late_make_an_excluded_cell_valid(
    store: LogStore, reader: LogReader, tmp_path: Path, story: Story
) -> None:
    del reader  # the server that it reads is the one that is read again
    export(store, story)
    folder = RunFolder(tmp_path / "late")
    folder.path.mkdir()
    folder.write_nodes([{"metadata": {"name": node}} for node in NODES], 1)
    folder.add(*(record for record in story.events if record.event["reason"] != "Pulled"))
    folder.add(story.trial)
    record = RunRecord(
        run_id="run",
        started_at=START,
        stack="size-4",
        study=Study(name="s", images=(ImageSet(repository="ghcr.io/owner/images", tags=(TAG,)),)),
        study_file="s.yaml",
        seed=1,
        trials=(story.planned,),
        outputs=OUTPUTS,
    )
    assert collect_late(folder, record, 0.0, lambda _found, _wanted: None)
    assert {cell.status for cell in folder.cells()} == {Status.VALID}
    counts = folder.evidence()[-1].sources
    assert counts[Source.WATCH].lost == len(NODES)
    assert counts[Source.EXPORTER].lost == 0
