"""Reading a run's events back, against the local Cloud Logging."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from google.oauth2.credentials import Credentials

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.collect.judge import collect_late, judge
from experiment.errors import MeasureError
from experiment.run_folder import RunFolder
from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cloud_logging.service import serve
from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.faults.faults import Faults
from rehearsal.google.environment import google_variables
from rehearsal.machine.home import Home
from schema.errors import ExitCode
from schema.events import parse_event
from schema.names import LOGGING_ENDPOINT_VARIABLE
from schema.run_records import ExistingCluster, RunRecord, Source, Status
from schema.stack_outputs import StackOutputs
from schema.study import ImageSet, Study
from tests.experiment.conftest import NODES, START, TAG, Story
from tests.experiment.fakes import FakeClock
from tests.rehearsal.local_google import LOGIN

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


def test_google_charges_the_reads_to_the_project_whatever_the_login_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    variables = google_variables(
        Home(tmp_path / "home"), LOGIN, url="http://127.0.0.1:1", logging=""
    )
    login = "GOOGLE_APPLICATION_CREDENTIALS"
    monkeypatch.setenv(login, variables[login])
    monkeypatch.delenv(LOGGING_ENDPOINT_VARIABLE, raising=False)
    reader = LogReader(OUTPUTS, START)
    login_used = reader._client.transport._credentials
    assert getattr(login_used, "quota_project_id", "") == OUTPUTS.project
    reader.close()


@pytest.fixture
def store() -> LogStore:
    return LogStore()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    return Faults.read(getattr(request, "param", ()))


@pytest.fixture
def reader(
    store: LogStore, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LogReader]:
    server, port = serve(store, faults=faults, accepts=LOGIN.accepts)
    monkeypatch.setenv(LOGGING_ENDPOINT_VARIABLE, f"127.0.0.1:{port}")
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "login.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "login.json"))
    monkeypatch.setattr(Credentials, "refresh", lambda self, _: setattr(self, "token", LOGIN.token))
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


def recorded(story: Story) -> RunRecord:
    """The record of a run of one trial."""
    return RunRecord(
        run_id="run",
        started_at=START,
        stack="size-4",
        study=Study(name="s", images=(ImageSet(repository="ghcr.io/owner/images", tags=(TAG,)),)),
        study_file="s.yaml",
        seed=1,
        trials=(story.planned,),
        outputs=OUTPUTS,
    )


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


@pytest.mark.parametrize("faults", [["logging:how=429,count=0"]], indirect=True)
def test_reads_that_are_refused_for_good_end_at_the_deadline_and_leave_the_cells_of_the_watch_valid(
    store: LogStore,
    reader: LogReader,
    folder: RunFolder,
    story: Story,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del reader  # its server is the one that refuses
    monkeypatch.setattr("experiment.collect.cloud_logging._REFUSED_S", 0.1)
    export(store, story)
    record = recorded(story)
    with pytest.raises(MeasureError, match=r"Quota exceeded .* 0 of the 20 events") as raised:
        collect_late(folder, record, 0.0, lambda _found, _wanted: None)
    assert raised.value.exit_code is ExitCode.EVENT_SOURCE_DOWN
    assert "pull-study collect" in raised.value.fix
    assert {cell.status for cell in folder.cells()} == {Status.VALID}
    assert not folder.evidence()[-1].complete


def test_a_killed_run_on_an_existing_cluster_is_not_said_to_lack_entries_of_cloud_logging(
    folder: RunFolder, story: Story
) -> None:
    mine = ExistingCluster(kubeconfig="/k", context="mine", selector="")
    judge(folder, recorded(story).model_copy(update={"existing": mine}), 1, complete=False)
    assert folder.evidence()[-1].complete


def test_reading_keeps_to_the_quota_of_reads_a_minute(
    store: LogStore, reader: LogReader, story: Story
) -> None:
    export(store, story)
    clock = reader.clock = FakeClock()
    for _ in range(130):
        list(reader.read())
    assert clock.now == 2 * 60


def test_waiting_for_late_entries_begins_after_the_first_reading_and_grows_with_the_events(
    store: LogStore,
    reader: LogReader,
    folder: RunFolder,
    story: Story,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiment.collect.cloud_logging._PAGE", 10)
    export(store, story, skip=3)
    clock = reader.clock = FakeClock()
    assert not Collection(folder, reader).run(20.0, lambda _found, _wanted: None)
    assert clock.now == pytest.approx(20.0 + 2 * len(story.events) / 10 * 10)


def test_only_the_exporters_entry_of_an_event_proves_that_the_exporter_works(
    store: LogStore, reader: LogReader, story: Story
) -> None:
    event = story.events[0].event
    store.append_event(KEY, event)
    reader.clock = FakeClock()
    assert not reader.await_event(event["metadata"]["name"], 10)
    export(store, story)
    assert reader.await_event(event["metadata"]["name"], 10)


def test_the_last_time_of_a_native_event_is_its_entrys(
    store: LogStore, reader: LogReader, folder: RunFolder, story: Story
) -> None:
    again = START + timedelta(minutes=7)
    store.append_event(KEY, {**story.events[0].event, "lastTimestamp": again.isoformat()})
    collected(folder, reader)
    (record,) = (each for each in folder.events() if each.source is Source.NATIVE)
    assert parse_event(record.event).last_timestamp == again


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
    record = recorded(story)
    assert collect_late(folder, record, 0.0, lambda _found, _wanted: None)
    assert {cell.status for cell in folder.cells()} == {Status.VALID}
    counts = folder.evidence()[-1].sources
    assert counts[Source.WATCH].lost == len(NODES)
    assert counts[Source.EXPORTER].lost == 0
