from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client, transports
from google.cloud.logging_v2.types import (
    DeleteLogRequest,
    ListLogEntriesRequest,
    LogEntry,
)
from google.oauth2.credentials import Credentials
from google.protobuf.json_format import MessageToDict

from experiment.collect.cloud_logging import _Login
from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cloud_logging.service import serve
from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.faults.faults import Faults

KEY = ClusterKey("p", "us-central1-a", "size-4")
NOON = datetime(2020, 11, 24, 12, tzinfo=UTC)
EVENT = (
    '{"metadata": {"name": "pod-%d.17", "uid": "%d"}, "reason": "Pulled", "count": 1, '
    '"involvedObject": {"kind": "Pod", "labels": {"job": "trial-1"}}, "message": "'
    + "x" * 600
    + '"}'
)


@pytest.fixture
def store() -> LogStore:
    """An empty store."""
    return LogStore()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """What strikes readers: the texts of a test's parameter; nothing by default."""
    return Faults.read(getattr(request, "param", ()))


@pytest.fixture
def client(store: LogStore, faults: Faults) -> Iterator[LoggingServiceV2Client]:
    """Google's own client of a server of the store."""
    server, port = serve(store, faults=faults, accepts=lambda header: header == "Bearer t")
    with logged_in(port, "t") as client:
        yield client
    server.stop(0).wait()


@contextmanager
def logged_in(port: int, token: str) -> Iterator[LoggingServiceV2Client]:
    """Google's own client, with this access token as the runner sends it."""
    login = _Login(Credentials(token=token))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        intercepted = grpc.intercept_channel(channel, login)
        transport = transports.LoggingServiceV2GrpcTransport(channel=intercepted)
        yield LoggingServiceV2Client(transport=transport)


def test_another_access_token_is_refused(store: LogStore) -> None:
    server, port = serve(store, accepts=lambda header: header == "Bearer t")
    with logged_in(port, "T") as client, pytest.raises(exceptions.Unauthenticated):
        client.list_log_entries(ask())
    server.stop(0).wait()


def fill(store: LogStore, count: int) -> None:
    for n in range(count):
        at = NOON + timedelta(milliseconds=n // 3)
        text = EVENT % (n, n)
        store.append(LogLine(KEY, "monitoring", "pod", "event-exporter", "stdout", text, at))


def ask(**fields: object) -> ListLogEntriesRequest:
    return ListLogEntriesRequest(**{"resource_names": ["projects/p"], **fields})


def uids(entries: list[LogEntry]) -> list[str]:
    return [MessageToDict(LogEntry.pb(entry).json_payload)["metadata"]["uid"] for entry in entries]


def test_entries_come_as_messages_with_float_numbers(
    store: LogStore, client: LoggingServiceV2Client
) -> None:
    fill(store, 1)
    (entry,) = client.list_log_entries(ask())
    assert entry.log_name == "projects/p/logs/stdout"
    assert entry.resource.labels["cluster_name"] == "size-4"
    assert entry.severity == 200
    assert entry.timestamp == NOON
    payload = MessageToDict(LogEntry.pb(entry).json_payload)
    assert payload["reason"] == "Pulled"
    assert isinstance(payload["count"], float)


def test_many_entries_are_paged_without_loss(
    store: LogStore, client: LoggingServiceV2Client
) -> None:
    fill(store, 3_000)
    found = list(client.list_log_entries(ask(page_size=1000, order_by="timestamp asc")))
    assert uids(found) == [str(n) for n in range(3_000)]


def test_page_is_cut_where_a_client_would_refuse_its_bytes(
    store: LogStore, client: LoggingServiceV2Client
) -> None:
    for n in range(9):
        store.append(LogLine(KEY, "n", "pod", "c", "stdout", f"{n}" + "y" * (1 << 20), NOON))
    pages = list(client.list_log_entries(ask(page_size=1000)).pages)
    assert len(pages) > 1
    texts = [entry.text_payload[0] for page in pages for entry in page.entries]
    assert texts == list("012345678")


def test_later_entries_do_not_disturb_the_pages(
    store: LogStore, client: LoggingServiceV2Client
) -> None:
    fill(store, 90)
    pages = client.list_log_entries(ask(order_by="timestamp desc")).pages
    first = list(next(pages).entries)
    at = NOON + timedelta(hours=1)
    store.append(LogLine(KEY, "monitoring", "pod", "c", "stdout", EVENT % (999, 999), at))
    rest = [entry for page in pages for entry in page.entries]
    assert uids(first + rest) == [str(n) for n in reversed(range(90))]


def test_filter_and_project_choose(store: LogStore, client: LoggingServiceV2Client) -> None:
    fill(store, 10)
    other = ClusterKey("q", "us-central1-a", "size-4")
    store.append(LogLine(other, "monitoring", "pod", "c", "stdout", "q", NOON))
    chosen = client.list_log_entries(ask(filter='jsonPayload.metadata.name="pod-7.17"'))
    assert uids(list(chosen)) == ["7"]
    assert len(list(client.list_log_entries(ask()))) == 10
    both = ask(resource_names=["projects/p", "projects/q"])
    assert len(list(client.list_log_entries(both))) == 11
    view = "projects/q/locations/global/buckets/_Default/views/_AllLogs"
    assert len(list(client.list_log_entries(ask(resource_names=[view])))) == 1
    assert not list(client.list_log_entries(ask(resource_names=["projects/none"])))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"filter": "jsonPayload.a=="}, "at position 14"),
        ({"page_size": 1001}, "1001"),
        ({"page_size": -1}, "-1"),
        ({"order_by": "severity"}, "order_by"),
        ({"page_token": "made-up"}, "page_token"),
        ({"page_token": "W10="}, "page_token"),
        ({"resource_names": []}, "resource_names"),
        ({"resource_names": ["folders/1"]}, "folders/1"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_request_that_google_refuses_is_refused(
    client: LoggingServiceV2Client, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=said):
        client.list_log_entries(ask(**fields))


def test_token_belongs_to_its_request(store: LogStore, client: LoggingServiceV2Client) -> None:
    fill(store, 60)
    token = next(client.list_log_entries(ask()).pages).next_page_token
    assert len(client.list_log_entries(ask(page_token=token)).entries) == 10
    with pytest.raises(exceptions.InvalidArgument, match="other parameters"):
        client.list_log_entries(ask(page_token=token, order_by="timestamp desc"))


def test_other_methods_say_that_they_are_not_there(client: LoggingServiceV2Client) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        client.delete_log(DeleteLogRequest(log_name="projects/p/logs/stdout"))


@pytest.mark.parametrize("faults", [["logging:how=429,count=1"]], indirect=True)
def test_reads_of_the_trials_events_alone_are_throttled(
    store: LogStore, client: LoggingServiceV2Client, faults: Faults
) -> None:
    fill(store, 1)
    assert len(list(client.list_log_entries(ask(), retry=None))) == 1
    text = (EVENT % (2, 2)).replace('"Pod"', '"Pod", "namespace": "pull-study"')
    store.append(LogLine(KEY, "monitoring", "pod", "event-exporter", "stdout", text, NOON))
    with pytest.raises(exceptions.ResourceExhausted, match="Read requests per minute"):
        list(client.list_log_entries(ask(), retry=None))
    assert len(list(client.list_log_entries(ask(), retry=None))) == 2
    assert len(faults.injected) == 1


@pytest.mark.parametrize("faults", [["logging:how=token,count=1,page=2"]], indirect=True)
def test_the_token_of_a_short_page_expires(
    store: LogStore, client: LoggingServiceV2Client, faults: Faults
) -> None:
    fill(store, 5)
    pages = client.list_log_entries(ask(order_by="timestamp asc", page_size=1000), retry=None).pages
    assert len(next(pages).entries) == 2
    with pytest.raises(exceptions.InvalidArgument, match="page_token has expired"):
        next(pages)
    assert len(list(client.list_log_entries(ask(), retry=None))) == 5
    assert len(faults.injected) == 1
