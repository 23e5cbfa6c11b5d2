"""Reads a cluster's events back from Cloud Logging: the only module that knows its client.

It returns entries as records; whether they suffice is decided in the ledger. Google's entries
arrive seconds late, so collecting continues until all that the watch saw is there, or the timeout.
Reading keeps to the quota of Google's API. Transient refusals (429, no answer) are retried until a
deadline; after an expired page token reading continues from the last entry.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import google.auth
import google.auth.exceptions
import grpc
from google.api_core import exceptions, retry
from google.api_core.client_options import ClientOptions
from google.auth.transport.requests import Request
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client, transports
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from google.protobuf.json_format import MessageToDict

from experiment.errors import Failure, MeasureError, PreflightError
from experiment.run_folder import RunFolder
from experiment.waiting import Clock, wait_until
from schema.logs import LOG
from schema.names import JOB_NAMESPACE, LOGGING_ENDPOINT_VARIABLE
from schema.run_records import EventRecord, GapRecord, Source
from schema.stack_outputs import StackOutputs

LATE_ENTRIES_S = 120.0
"""How long a run, and `collect` afterwards, wait for log entries that come late, in seconds."""

_SCOPE = "https://www.googleapis.com/auth/logging.read"
_PAGE = 1000
_PAGE_S = 10.0
"""Longer waiting for late entries, and longest reading, for each page that is expected."""
_REFUSED_S = 300.0
"""How long reads may be refused."""
_READS = 55
_MINUTE_S = 60.0
"""Cloud Logging allows 60 reads a minute and project (its quotas page)."""
_RESTARTS = 5
_RESTARTED = "Some events may have been lost"
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
        clock: measures how long reads are refused.

    Raises:
        PreflightError: there are no Google credentials.
    """

    def __init__(self, outputs: StackOutputs, since: datetime, clock: Clock = time) -> None:
        self._project = f"projects/{outputs.project}"
        self.clock = clock
        self._reads: deque[float] = deque(maxlen=_READS)
        self._filter = f"({outputs.log_filter})"
        self._since = since - _EARLIER
        self._client = _client(outputs.project)
        self.restarts_at: set[datetime] = set()
        """Restarts of GKE's native event log: events before them may be lost."""

    def read(self, also: str = "", until: float | None = None) -> Iterator[EventRecord]:
        """Yield all events so far, oldest first; some twice if reading was interrupted.

        Args:
            also: a further condition in the logging query language.
            until: when (by the clock's monotonic time) to give up; by default in five minutes.

        Raises:
            MeasureError: Cloud Logging refused, or did not answer in time.
        """
        since = self._since
        until = self.clock.monotonic() + _REFUSED_S if until is None else until
        for restarts in range(_RESTARTS + 1):
            try:
                for entry in self._entries(since, also, until):
                    since = max(since, _time(entry.timestamp))
                    record = self._record(entry)
                    if record is not None:
                        yield record
            except exceptions.InvalidArgument as error:
                # A page token holds for some minutes only: go on from the last entry's time.
                if "token" not in error.message.lower() or restarts == _RESTARTS:
                    raise self._refused(error) from error
            except exceptions.GoogleAPIError as error:
                raise self._refused(error) from error
            else:
                return

    def close(self) -> None:
        """Close the connection."""
        self._client.transport.close()

    def await_event(self, name: str, timeout_s: float) -> bool:
        """Wait until the exporter's entry of an event is there; return False at the timeout.

        GKE's own event log, which has the event too, proves nothing about the exporter.

        Raises:
            MeasureError: Cloud Logging refused.
        """
        condition = f'log_id("stdout") AND jsonPayload.metadata.name="{name}"'
        return wait_until(
            lambda: any(True for _ in self.read(condition)),
            timeout_s,
            _FIRST_PAUSE_S,
            self.clock,
            longest_pause_s=_LONGEST_PAUSE_S,
        )

    def _entries(self, since: datetime, also: str, until: float) -> Iterable[LogEntry]:
        start = since.astimezone().isoformat(timespec="microseconds")
        conditions = [self._filter, f'timestamp>="{start}"', *([also] if also else [])]
        request = ListLogEntriesRequest(
            resource_names=[self._project],
            filter=" AND ".join(conditions),
            order_by="timestamp asc",
            page_size=_PAGE,
        )
        self._await_quota()
        patience = retry.Retry(
            predicate=retry.if_exception_type(*_TRANSIENT),
            initial=1.0,
            maximum=30.0,
            timeout=max(1.0, min(until - self.clock.monotonic(), _REFUSED_S)),
            on_error=lambda error: LOG.debug("Cloud Logging: %s; retry", error),
        )
        pager = self._client.list_log_entries(request, retry=patience, timeout=60.0)
        for page in pager.pages:
            yield from page.entries
            if page.next_page_token:
                if self.clock.monotonic() > until:
                    raise exceptions.RetryError("reading took too long", None)
                self._await_quota()

    def _await_quota(self) -> None:
        """Wait until another read is allowed."""
        if len(self._reads) == _READS:
            self.clock.sleep(max(0.0, self._reads[0] + _MINUTE_S - self.clock.monotonic()))
        self._reads.append(self.clock.monotonic())
        LOG.debug("read a page of Cloud Logging: %s", self._filter)

    def _refused(self, error: exceptions.GoogleAPIError) -> MeasureError:
        cause = error.cause if isinstance(error, exceptions.RetryError) else error
        denied = isinstance(cause, (exceptions.Forbidden, exceptions.Unauthenticated))
        return MeasureError(
            f"Cloud Logging did not return the events of {self._project}: "
            f"{getattr(cause, 'message', None) or error}.",
            f"gcloud logging read '{self._filter}' --limit 1 --project "
            f"{self._project.removeprefix('projects/')}",
            failure=Failure.PERMISSION if denied else Failure.EVENT_SOURCE_DOWN,
        )

    def _record(self, entry: LogEntry) -> EventRecord | None:
        message = LogEntry.pb(entry)
        source = Source.NATIVE if entry.log_name.endswith("/events") else Source.EXPORTER
        if not message.HasField("json_payload"):
            if source is Source.NATIVE and _RESTARTED in message.text_payload:
                self.restarts_at.add(_time(entry.timestamp))
            return None
        event = MessageToDict(message.json_payload)
        if "involvedObject" not in event:
            return None  # the exporter's own log lines
        if source is Source.NATIVE:
            event = with_last_time(event, _time(entry.timestamp))
        return EventRecord(
            source=source,
            received_at=entry.receive_timestamp,
            insert_id=entry.insert_id,
            event=event,
        )


class Collection:
    """Adds entries of Cloud Logging to a run's folder, each once.

    Args:
        folder: of the run.
        reader: of the run's cluster.
        since: events that the watch saw earlier, of an earlier attempt, are not waited for.
    """

    def __init__(self, folder: RunFolder, reader: LogReader, since: datetime | None = None) -> None:
        self._folder = folder
        self._reader = reader
        self._held: set[tuple[str, str]] = set()
        self._found: set[str] = set()
        for record in folder.events(Source.EXPORTER):
            self._held.add(identity(record))
            self._found.add(_uid(record))
        self._expected = {
            _uid(record)
            for record in folder.events(Source.WATCH)
            if (since is None or record.received_at >= since)
            and record.event.get("involvedObject", {}).get("namespace") == JOB_NAMESPACE
            and record.event["involvedObject"].get("kind") == "Pod"
        }
        self._latest: datetime | None = None

    def run(self, timeout_s: float, progress: Callable[[int, int], None]) -> bool:
        """Read until every event about a pod that the watch saw is there, or the timeout.

        Args:
            timeout_s: how long to wait for late entries after the first reading, which takes its
                own time; longer where many events are expected.
            progress: called after each reading with the number found and expected.

        Returns:
            Whether all are there.

        Raises:
            MeasureError: Cloud Logging refused until the deadline; what was read until then is in
                the folder.
        """
        clock = self._reader.clock
        pages = 2 * len(self._expected) / _PAGE  # the exporter's and GKE's own
        until = clock.monotonic() + _REFUSED_S + timeout_s + 2 * pages * _PAGE_S

        def complete() -> bool:
            self._read(until)
            progress(len(self._expected & self._found), len(self._expected))
            return self._expected <= self._found

        try:
            return wait_until(
                complete,
                timeout_s + pages * _PAGE_S if timeout_s else 0.0,
                _FIRST_PAUSE_S,
                clock,
                longest_pause_s=_LONGEST_PAUSE_S,
            )
        except MeasureError as error:
            found = len(self._expected & self._found)
            raise MeasureError(
                f"{error.problem.rstrip('.')}; {found} of the {len(self._expected)} events of "
                "the watch were read.",
                f"later: pull-study collect {self._folder.path.name}",
                failure=error.failure,
            ) from error
        finally:
            self._keep_gaps()

    def _read(self, until: float) -> None:
        """Add new entries; after the first reading only those received since the one before."""
        also = ""
        if self._latest:
            start = (self._latest - _EARLIER).astimezone().isoformat(timespec="microseconds")
            also = f'receiveTimestamp>="{start}"'
        batch: list[EventRecord] = []
        latest = self._latest
        try:
            for record in self._reader.read(also, until):
                latest = max(latest or record.received_at, record.received_at)
                if identity(record) in self._held:
                    continue
                self._held.add(identity(record))
                self._found.add(_uid(record))
                batch.append(record)
                if len(batch) == _PAGE:
                    self._folder.add(*batch)
                    batch = []
        finally:
            self._folder.add(*batch)
        self._latest = latest

    def _keep_gaps(self) -> None:
        known = {gap.until for gap in self._folder.gaps() if gap.source is Source.NATIVE}
        native = sorted(
            record.received_at
            for record in self._folder.events(Source.NATIVE)
            if record.source is Source.NATIVE
        )
        for until in sorted(self._reader.restarts_at - known):
            since = max((at for at in native if at < until), default=None)
            if since is None:  # the log of a new cluster begins so
                continue
            reason = "GKE's event log restarted and reports that events may be lost"
            gap = GapRecord(source=Source.NATIVE, since=since, until=until, reason=reason)
            self._folder.add(gap)


def with_last_time(event: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Return an event of GKE's own log with its lastTimestamp.

    The log leaves out count, firstTimestamp and lastTimestamp, and the entry's own time is the last
    one (GoogleCloudPlatform/k8s-stackdriver, event-exporter, log_entry_factory.go); where an event
    has none, it is the time at which the log got it.
    """
    last = at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"lastTimestamp": last, **event}


def _time(stamp: Any) -> datetime:
    # proto-plus gives a datetime where its annotations say a protobuf Timestamp
    return cast("datetime", stamp)


def _uid(record: EventRecord) -> str:
    return str(record.event.get("metadata", {}).get("uid", ""))


def identity(record: EventRecord) -> tuple[str, str]:
    """Return what identifies an entry, which Cloud Logging and the archive may return twice."""
    version = str(record.event.get("metadata", {}).get("resourceVersion", ""))
    return record.source.value, record.insert_id or f"{_uid(record)}/{version}"


class _Login(grpc.UnaryUnaryClientInterceptor):
    """Sends the access token; gRPC's own credentials refuse to send one without TLS."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Add the token to one call."""
        headers: dict[str, str] = {}
        self._credentials.before_request(Request(), "POST", "", headers)
        metadata = [*(details.metadata or ()), ("authorization", headers["authorization"])]
        return continuation(details._replace(metadata=metadata), request)


def _client(project: str) -> LoggingServiceV2Client:
    endpoint = os.environ.get(LOGGING_ENDPOINT_VARIABLE)
    try:
        if endpoint:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
            channel = grpc.intercept_channel(grpc.insecure_channel(endpoint), _Login(credentials))
            return LoggingServiceV2Client(
                transport=transports.LoggingServiceV2GrpcTransport(channel=channel)
            )
        # A user's own login has no quota project, and Google refuses its calls without one.
        return LoggingServiceV2Client(client_options=ClientOptions(quota_project_id=project))
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise PreflightError(
            "There are no Google credentials, so events cannot be read from Cloud Logging.",
            "gcloud auth application-default login",
        ) from error
