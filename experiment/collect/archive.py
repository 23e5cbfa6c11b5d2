"""Reads a run's events out of the bucket that its stack's log sink filled, at any later time.

The bucket outlives cluster and stack. Google writes it in hourly batches, two to three hours late,
as objects such as stdout/2026/11/24/02:00:00_02:59:59_S0.json of one LogEntry a line; later
entries are in further objects, and an entry may be there twice
(https://cloud.google.com/logging/docs/export/storage). Whether the events suffice is decided in
the ledger.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from experiment.collect.cloud_logging import identity, with_last_time
from experiment.errors import MeasureError, PlanError
from experiment.provision.google_api import GoogleApi
from experiment.run_folder import RunFolder
from experiment.waiting import now
from schema.run_records import EventRecord, RunRecord, Source
from schema.stack_outputs import StackOutputs

_LOGS = {"stdout": Source.EXPORTER, "events": Source.NATIVE}
"""First part of an object's name: the id of the log."""
_HOURS = re.compile(
    r"/(?P<day>\d{4}/\d\d/\d\d)/(?P<first>\d\d:\d\d:\d\d)_(?P<last>\d\d:\d\d:\d\d)_"
)
_DAY = timedelta(days=1)
_EARLIER = timedelta(minutes=1)  # for clocks that differ
_LATER = timedelta(minutes=10)  # for entries of what was under way when the run ended
_DELAY = timedelta(hours=3)
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Window:
    """The time in which a run's events happened, in UTC."""

    since: datetime
    until: datetime

    def days(self) -> Iterator[datetime]:
        """Yield every day of it."""
        day = self.since.replace(hour=0, minute=0, second=0, microsecond=0)
        while day <= self.until:
            yield day
            day += _DAY

    def overlaps(self, name: str) -> bool:
        """Return whether an object of this name may hold entries of it."""
        match = _HOURS.search(name)
        if match is None:
            return True
        first, last = (_moment(f"{match['day']} {match[end]}") for end in ("first", "last"))
        return first <= self.until and last >= self.since


def collect_archive(folder: RunFolder, record: RunRecord) -> int:
    """Add to a run's folder the events that the archive holds and the folder does not.

    Args:
        folder: of the run.
        record: its plan and its stack's outputs.

    Returns:
        How many events are new.

    Raises:
        PlanError: the run's stack never came up, so there is no archive of it.
        MeasureError: the archive holds nothing of the time of the run, or not yet.
        RunError: Google refused or did not answer.
    """
    outputs = record.outputs
    if outputs is None or not outputs.archive_bucket:
        raise PlanError(
            f"The run {record.run_id} has no archive of events: its stack never came up.",
            f"pull-study run --resume {record.run_id}",
        )
    api, window = GoogleApi(outputs.project), _window(folder, record)
    names = [
        name
        for log in _LOGS
        for day in window.days()
        for name in _names(api, outputs.archive_bucket, f"{log}/{day:%Y/%m/%d}/")
        if window.overlaps(name)
    ]
    if not names:
        raise _nothing(record, outputs, window)
    held = {identity(each) for each in folder.events(Source.EXPORTER)}
    new = 0
    batch: list[EventRecord] = []
    for event in _events(api, outputs, names, window, folder):
        if identity(event) not in held:
            held.add(identity(event))
            batch.append(event)
        if len(batch) == _BATCH:
            folder.add(*batch)
            new, batch = new + len(batch), []
    folder.add(*batch)
    return new + len(batch)


def _window(folder: RunFolder, record: RunRecord) -> _Window:
    """Return the time from the run's start to its last record."""
    ends = [phase.ended_at for phase in folder.phases()]
    ends += [trial.last_finished_at for trial in folder.trials() if trial.last_finished_at]
    until = max(ends, default=now())
    return _Window(record.started_at.astimezone(UTC) - _EARLIER, until.astimezone(UTC) + _LATER)


def _names(api: GoogleApi, bucket: str, prefix: str) -> Iterator[str]:
    """Yield the names of the bucket's objects with this prefix."""
    params = {"prefix": prefix, "fields": "items(name),nextPageToken"}
    while True:
        page = api.get("STORAGE", f"b/{bucket}/o", **params)
        if page is None:
            raise PlanError(
                f"The archive gs://{bucket} of the run's events no longer exists.",
                f"gcloud storage buckets list --project {api.project}",
            )
        yield from (str(item["name"]) for item in page.get("items", []))
        if not page.get("nextPageToken"):
            return
        params["pageToken"] = page["nextPageToken"]


def _events(
    api: GoogleApi, outputs: StackOutputs, names: list[str], window: _Window, folder: RunFolder
) -> Iterator[EventRecord]:
    """Yield the events of this run's cluster and time; a bucket may be shared by many."""
    for name in names:
        path = f"b/{outputs.archive_bucket}/o/{quote(name, safe='')}"
        for line in api.get_lines("STORAGE", path, alt="media"):
            try:
                entry = json.loads(line)
                event = _event(entry, outputs, window)
            except (ValueError, KeyError, TypeError, AttributeError):
                folder.log(f"unreadable line in {name} ignored: {line[:80]!r}")
                continue
            if event is not None:
                yield event


def _event(entry: dict[str, Any], outputs: StackOutputs, window: _Window) -> EventRecord | None:
    """Return an entry's event; None for other lines, other clusters and other times."""
    labels = entry["resource"]["labels"]
    ours = (outputs.cluster_name, outputs.location)
    at = datetime.fromisoformat(entry["timestamp"])
    payload = entry.get("jsonPayload", {})
    if (labels.get("cluster_name"), labels.get("location")) != ours:
        return None
    if "involvedObject" not in payload or not window.since <= at <= window.until:
        return None
    source = _LOGS.get(entry["logName"].rpartition("/")[2], Source.EXPORTER)
    if source is Source.NATIVE:
        payload = with_last_time(payload, at)
    return EventRecord(
        source=source,
        received_at=entry["receiveTimestamp"],
        insert_id=entry["insertId"],
        event=payload,
    )


def _nothing(record: RunRecord, outputs: StackOutputs, window: _Window) -> MeasureError:
    due = window.until.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) + _DELAY
    late = now() < due
    return MeasureError(
        f"The archive gs://{outputs.archive_bucket} has no events of the run {record.run_id}"
        + (" yet: Google fills it hourly, two to three hours late." if late else "."),
        f"again after {due:%Y-%m-%dT%H:%MZ}: pull-study collect {record.run_id} --from-archive"
        if late
        else f"gcloud storage ls --recursive gs://{outputs.archive_bucket}",
    )


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC)
