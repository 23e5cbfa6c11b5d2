"""Cloud Logging's sinks: entries that match a filter are archived in a bucket.

Google writes hourly batches, the first hours late; here `export_sinks` writes when it is called.
Like Google it writes nothing, and tells no one, where the sink's writer has no right to the bucket.
"""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from urllib.parse import quote

from rehearsal.google_http import Call, Endpoint, GoogleError, required
from rehearsal.google_iam import may, project_number
from rehearsal.google_operations import now
from rehearsal.google_state import AlreadyExistsError, GoogleState, Json, Kind, MissingError
from rehearsal.google_storage import bucket_resource, insert_object
from rehearsal.log_entry import parse_time
from rehearsal.log_filter import FilterError, parse_filter
from rehearsal.log_store import LogStore

_STORAGE = "storage.googleapis.com/"
_SINK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Sinks:
    """Cloud Logging's sinks over a state; `export_sinks` fills their buckets."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

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
        ]

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


def export_sinks(state: GoogleState, store: LogStore) -> int:
    """Write what the sinks archive: an object of JSON lines for each log and hour.

    Written anew as a whole, so it may be called at any time and often.

    Returns:
        The number of objects.
    """
    objects = 0
    for sink in state.find(Kind.SINK):
        bucket = sink["destination"].removeprefix(_STORAGE)
        writer = sink["writerIdentity"]
        exists = state.get(Kind.BUCKET, bucket) is not None
        if not exists or not may(state, bucket_resource(bucket), writer, "storage.objects.create"):
            continue
        for name, lines in _batches(sink, store).items():
            data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
            insert_object(state, bucket, name, data, "application/json")
            objects += 1
    return objects


def _batches(sink: Json, store: LogStore) -> dict[str, list[Json]]:
    """Entries by object, such as `stdout/2026/11/24/02:00:00_02:59:59_S0.json`."""
    matches = parse_filter(sink.get("filter", ""))
    since = parse_time(sink["createTime"])
    project = sink["resourceName"]
    batches = defaultdict(list)
    for entry in store.entries():
        here = entry.data["logName"].startswith(f"{project}/logs/")
        if here and entry.received >= since and matches(entry):
            hour = datetime.fromtimestamp(entry.timestamp // 10**9, UTC)
            name = f"{quote(entry.log_id, safe='')}/{hour:%Y/%m/%d/%H:00:00_%H:59:59}_S0.json"
            batches[name].append(entry.data)
    return batches


def _sink_name(call: Call) -> str:
    return f"projects/{call.path['project']}/sinks/{call.path['sink']}"


def _no_sink(call: Call) -> GoogleError:
    return GoogleError(404, f"Sink {call.path['sink']} does not exist")
