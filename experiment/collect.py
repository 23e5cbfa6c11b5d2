"""Reads a cluster's events back from Cloud Logging: the only module that knows its client.

It hands on entries as records; whether they suffice is the ledger's judgement. Google's entries
arrive seconds late, so collecting goes on until what the watch saw is there too, or time is over.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import google.auth.exceptions
import grpc
from google.api_core import exceptions, retry
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client, transports
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from google.protobuf.json_format import MessageToDict

from experiment.errors import MeasureError, PreflightError
from schema.names import LOGGING_ENDPOINT_VARIABLE
from schema.run_records import EventRecord, Source
from schema.stack_outputs import StackOutputs

_PAGE = 1000
_EARLIER = timedelta(minutes=1)  # for clocks that differ
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_TRANSIENT = (
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
)


class LogReader:
    """Reads the events of one cluster's exporter and of GKE's native event log.

    Args:
        outputs: of the stack; gives project and filter.
        since: nothing older is read.

    Raises:
        PreflightError: there are no Google credentials.
    """

    def __init__(self, outputs: StackOutputs, since: datetime) -> None:
        self._project = f"projects/{outputs.project}"
        start = (since - _EARLIER).astimezone().isoformat(timespec="seconds")
        self._filter = f'({outputs.log_filter}) AND timestamp>="{start}"'
        self._client = _client()

    def read(self, also: str = "") -> Iterator[EventRecord]:
        """All entries so far that are events, oldest first.

        Args:
            also: a further condition in the logging query language.

        Raises:
            MeasureError: Cloud Logging refused, or did not answer in five minutes.
        """
        request = ListLogEntriesRequest(
            resource_names=[self._project],
            filter=f"{self._filter} AND {also}" if also else self._filter,
            order_by="timestamp asc",
            page_size=_PAGE,
        )
        patience = retry.Retry(
            predicate=retry.if_exception_type(*_TRANSIENT), initial=1.0, maximum=30.0, timeout=300.0
        )
        try:
            for entry in self._client.list_log_entries(request, retry=patience, timeout=60.0):
                record = _record(entry)
                if record is not None:
                    yield record
        except exceptions.GoogleAPICallError as error:
            raise MeasureError(
                f"Cloud Logging did not give the events of {self._project}: {error.message}.",
                f"gcloud logging read '{self._filter}' --limit 1 --project "
                f"{self._project.removeprefix('projects/')}",
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._client.transport.close()

    def await_event(self, name: str, timeout_s: float) -> bool:
        """Wait until the event of this name is there; False when the time is over first."""
        condition = f'jsonPayload.metadata.name="{name}"'
        return _poll(lambda: any(True for _ in self.read(condition)), timeout_s)

    def read_all(
        self, expected: set[str], timeout_s: float, progress: Callable[[int, int], None]
    ) -> list[EventRecord]:
        """Read until every expected event is there, or the time is over.

        Args:
            expected: uids of events that the watch saw.
            timeout_s: how long to wait for late entries.
            progress: called after each reading with the number found and expected.
        """
        records: list[EventRecord] = []

        def complete() -> bool:
            records[:] = self.read()
            found = {record.event.get("metadata", {}).get("uid") for record in records}
            progress(len(expected & found), len(expected))
            return expected <= found

        _poll(complete, timeout_s)
        return records


def _poll(done: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    while not done():
        if time.monotonic() + pause > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
    return True


def _client() -> LoggingServiceV2Client:
    endpoint = os.environ.get(LOGGING_ENDPOINT_VARIABLE)
    if endpoint:
        channel = grpc.insecure_channel(endpoint)
        return LoggingServiceV2Client(
            transport=transports.LoggingServiceV2GrpcTransport(channel=channel)
        )
    try:
        return LoggingServiceV2Client()
    except google.auth.exceptions.DefaultCredentialsError:
        raise PreflightError(
            "There are no Google credentials, so the events could not be read back from Cloud "
            "Logging.",
            "gcloud auth application-default login",
        ) from None


def _record(entry: LogEntry) -> EventRecord | None:
    message = LogEntry.pb(entry)
    if not message.HasField("json_payload"):
        return None
    event = MessageToDict(message.json_payload)
    if "involvedObject" not in event:
        return None  # the exporter's own log lines
    source = Source.NATIVE if entry.log_name.endswith("/events") else Source.EXPORTER
    return EventRecord(
        source=source,
        received_at=entry.receive_timestamp,
        insert_id=entry.insert_id,
        event=event,
    )
