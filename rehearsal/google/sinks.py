"""Cloud Logging's sinks: entries that match a filter are archived in a bucket.

As Google does, an hour's entries are written as one batch, and late: `DELAY` after the hour's end.
Nobody rehearses for so long, so `POST /rehearsal/sinks:flush` writes what there is at once. Entries
that came after their batch go into objects of their own, and nothing is written, nor anybody told,
where the sink's writer has no right to the bucket.
https://cloud.google.com/logging/docs/export/storage
"""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from rehearsal.cloud_logging.entries import parse_time
from rehearsal.cloud_logging.filter import FilterError, parse_filter
from rehearsal.cloud_logging.store import LogStore
from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.iam import may, project_number
from rehearsal.google.operations import now
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError
from rehearsal.google.storage import bucket_resource, insert_object

DELAY = timedelta(hours=2)
"""From an hour's end to its batch: Google says "from 2 to 3 hours before the first entries"."""

_HOUR = timedelta(hours=1)
_STORAGE = "storage.googleapis.com/"
_SINK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Sinks:
    """Cloud Logging's sinks over a state.

    Args:
        state: where sinks and buckets are kept.
        logs: what they export; None for no entries.
    """

    def __init__(self, state: GoogleState, logs: LogStore | None = None) -> None:
        self._state = state
        self._logs = logs
        self._written_at: datetime | None = None

    def routes(self) -> list[Endpoint]:
        """Routes below /logging/."""
        sinks = "/logging/{version}/projects/{project}/sinks"
        return [
            Endpoint("POST", sinks, self.create),
            Endpoint("GET", sinks, self.list_sinks),
            Endpoint("GET", f"{sinks}/{{sink}}", self.get),
            Endpoint("PATCH", f"{sinks}/{{sink}}", self.patch),
            Endpoint("PUT", f"{sinks}/{{sink}}", self.patch),
            Endpoint("DELETE", f"{sinks}/{{sink}}", self.delete),
            Endpoint("POST", "/rehearsal/sinks:flush", self.flush),
        ]

    def tick(self, at: datetime) -> None:
        """Write the batches that have become due; once a minute."""
        minute = at.replace(second=0, microsecond=0)
        if self._logs is not None and minute != self._written_at:
            self._written_at = minute
            export_sinks(self._state, self._logs, at - DELAY)

    def flush(self, _call: Call) -> Json:
        """Write all entries now: not a method of Google's, but the passing of hours."""
        return {"objects": export_sinks(self._state, self._logs) if self._logs else 0}

    def create(self, call: Call) -> Json:
        """Make a sink with a writer identity."""
        project = call.path["project"]
        name = required(call.body, "name")
        if not _SINK_NAME.fullmatch(name):
            raise GoogleError(400, f'The sink name "{name}" is not valid.')
        own = call.query.get("uniqueWriterIdentity") == "true"
        service = f"service-{project_number(project)}@gcp-sa-logging.iam.gserviceaccount.com"
        writer = service if own else "cloud-logs@system.gserviceaccount.com"
        time = now()
        sink = {
            **self._checked(call.body),
            "resourceName": f"projects/{project}",
            "writerIdentity": f"serviceAccount:{writer}",
            "createTime": time,
            "updateTime": time,
        }
        try:
            self._state.create(Kind.SINK, f"projects/{project}/sinks/{name}", sink)
        except AlreadyExistsError:
            raise GoogleError(409, f"Sink {name} already exists") from None
        return sink

    def get(self, call: Call) -> Json:
        """One sink."""
        sink = self._state.get(Kind.SINK, _sink_name(call))
        if sink is None:
            raise _no_sink(call)
        return sink

    def list_sinks(self, call: Call) -> Json:
        """The sinks of a project."""
        return {"sinks": self._state.find(Kind.SINK, f"projects/{call.path['project']}/sinks/")}

    def patch(self, call: Call) -> Json:
        """Change fields of a sink."""
        sent = self._checked(call.body)

        def change(sink: Json) -> None:
            sink |= {**sent, "name": sink["name"], "updateTime": now()}

        try:
            return self._state.update(Kind.SINK, _sink_name(call), change)
        except MissingError:
            raise _no_sink(call) from None

    def delete(self, call: Call) -> Json:
        """Delete a sink; what it exported stays."""
        if not self._state.delete(Kind.SINK, _sink_name(call)):
            raise _no_sink(call)
        return {}

    def _checked(self, sink: Json) -> Json:
        try:
            parse_filter(sink.get("filter", ""))
        except FilterError as error:
            raise GoogleError(400, f"The sink's filter is not valid: {error}") from None
        destination = sink.get("destination", _STORAGE)
        if not destination.startswith(_STORAGE):
            raise GoogleError(501, f"The local Google has no sinks to {destination}, only buckets.")
        return sink


def export_sinks(state: GoogleState, store: LogStore, before: datetime | None = None) -> int:
    """Write what the sinks archive: an object of JSON lines for each log and hour.

    What was written stays as it is; entries that came later go into further objects. So it may be
    called at any time and often.

    Args:
        state: holds sinks and buckets.
        store: holds the entries.
        before: only hours that ended by then; None for all.

    Returns:
        The number of objects written.
    """
    objects = 0
    for sink in state.find(Kind.SINK):
        bucket = sink["destination"].removeprefix(_STORAGE)
        writer = sink["writerIdentity"]
        exists = state.get(Kind.BUCKET, bucket) is not None
        if not exists or not may(state, bucket_resource(bucket), writer, "storage.objects.create"):
            continue
        for stem, lines in _batches(sink, store, before).items():
            objects += _write(state, bucket, stem, lines)
    return objects


def _write(state: GoogleState, bucket: str, stem: str, lines: list[Json]) -> int:
    """Write a batch, or of one that was written what came later; the number of objects."""
    names = [each["name"] for each in state.find(Kind.OBJECT, f"{bucket}/{stem}")]
    written = {
        json.loads(line)["insertId"]
        for name in names
        for line in state.read_content(bucket, name).splitlines()
    }
    new = [line for line in lines if line["insertId"] not in written]
    if not new:
        return 0
    name = f"{stem}_A{len(names) - 1}.json" if names else f"{stem}_S0.json"
    data = "".join(f"{json.dumps(line)}\n" for line in new).encode()
    insert_object(state, bucket, name, data, "application/json")
    return 1


def _batches(sink: Json, store: LogStore, before: datetime | None) -> dict[str, list[Json]]:
    """Entries by the beginning of an object's name: `stdout/2026/11/24/02:00:00_02:59:59`."""
    matches = parse_filter(sink.get("filter", ""))
    since = parse_time(sink["createTime"])
    project = sink["resourceName"]
    batches = defaultdict(list)
    for entry in store.entries():
        here = entry.data["logName"].startswith(f"{project}/logs/")
        if here and entry.received >= since and matches(entry):
            hour = datetime.fromtimestamp(entry.timestamp // 10**9, UTC)
            hour = hour.replace(minute=0, second=0)
            if before is None or hour + _HOUR <= before:
                stem = f"{quote(entry.log_id, safe='')}/{hour:%Y/%m/%d/%H:00:00_%H:59:59}"
                batches[stem].append(entry.data)
    return batches


def _sink_name(call: Call) -> str:
    return f"projects/{call.path['project']}/sinks/{call.path['sink']}"


def _no_sink(call: Call) -> GoogleError:
    return GoogleError(404, f"Sink {call.path['sink']} does not exist")
