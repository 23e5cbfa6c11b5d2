"""Cloud Storage's buckets and objects, and the log sinks of Cloud Logging that write to them.

Objects are small enough to hold in memory; sinks write them, and uploads of one request with the
metadata (uploadType=multipart), as Google's Go client sends what is below 16 MiB. Each writing has
a generation of its own, and only the last is kept. Lifecycle rules are kept and
shown, nothing is ever deleted by age.

As Google does, a sink writes an hour's entries as one batch, `DELAY` after the hour's end. No
rehearsal lasts that long, so `POST /rehearsal/sinks:flush` writes what there is at once. Entries
that arrive after their batch go into further objects; where the sink's writer lacks the right to
the bucket, nothing is written and no error shown.
https://cloud.google.com/logging/docs/export/storage
"""

import base64
import hashlib
import json
import re
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from aiohttp import web

from rehearsal.cloud_logging.entries import LogStore, parse_time
from rehearsal.cloud_logging.query import FilterError, parse_filter
from rehearsal.google.access.iam import may, read_policy, write_policy
from rehearsal.google.collections import Collection, project_number
from rehearsal.google.http import Endpoint, GoogleError, body_of, now, required
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call

DELAY = timedelta(hours=2)
"""From an hour's end to its batch: Google says "from 2 to 3 hours before the first entries"."""

_HOUR = timedelta(hours=1)
_BUCKET = "/storage/v1/b"
_BUCKET_NAME = re.compile(r"[a-z0-9](?:[-_.a-z0-9]{1,61})[a-z0-9]")
_SINK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_DESTINATION = "storage.googleapis.com/"


class Storage:
    """Cloud Storage over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state
        self._buckets = Collection(
            state=state,
            kind=Kind.BUCKET,
            path=_BUCKET,
            id_of=_bucket_name,
            on_create=self._create,
            on_change=_bucket_change,
            on_delete=self._refuse_unless_empty,
            missing="The specified bucket does not exist.",
            taken="Your previous request to create the named bucket succeeded and you already own "
            "it.",
            reason="conflict",
            plural="items",
        )

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /storage/."""
        bucket = f"{_BUCKET}/{{id}}"
        return [
            Endpoint("GET", f"{bucket}/iam", self._get_policy),
            Endpoint("PUT", f"{bucket}/iam", self._set_policy),
            Endpoint("GET", f"{bucket}/o", self._list_objects),
            Endpoint("POST", f"/upload{bucket}/o", self._upload),
            Endpoint("GET", f"{bucket}/o/{{object}}", self._get_object),
            Endpoint("DELETE", f"{bucket}/o/{{object}}", self._delete_object),
            Endpoint("DELETE", bucket, self._delete),
            *self._buckets.routes(),
        ]

    def _create(self, call: Call, name: str) -> Json:
        """Create a bucket. Bucket names are global."""
        bucket_id = name.rpartition("/")[2]
        project = call.query.get("project", "")
        if not project:
            raise GoogleError(400, "Required parameter: project", reason="required")
        at = now()
        bucket = {
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": False},
                "publicAccessPrevention": "inherited",
            },
            "location": "US",
            "storageClass": "STANDARD",
            **body_of(call),
            "kind": "storage#bucket",
            "id": bucket_id,
            "selfLink": f"{call.base_url}storage/v1/b/{bucket_id}",
            "projectNumber": project_number(project),
            "timeCreated": at,
            "updated": at,
            "metageneration": "1",
        }
        bucket["location"] = bucket["location"].upper()
        bucket["locationType"] = "region" if "-" in bucket["location"] else "multi-region"
        bucket["etag"] = _bucket_etag(bucket_id, "1")
        if self._state.get(Kind.BUCKET, name) is None:
            self._state.put(Kind.POLICY, _policy_name(bucket_id), _first_policy(project))
        return bucket

    def _refuse_unless_empty(self, bucket: Json) -> None:
        if self._state.find(Kind.OBJECT, f"{bucket['name']}/"):
            sentence = "The bucket you tried to delete is not empty."
            raise GoogleError(409, sentence, reason="conflict")

    def _delete(self, call: Call) -> web.Response:
        self._buckets.delete(call)
        return web.Response(status=204)

    def _get_policy(self, call: Call) -> Json:
        return self._policy(self._buckets.get(call)["name"])

    def _set_policy(self, call: Call) -> Json:
        name = self._buckets.get(call)["name"]
        stale = GoogleError(412, "At least one of the pre-conditions you specified did not hold.")
        write_policy(self._state, _policy_name(name), body_of(call), stale)
        return self._policy(name)

    def _policy(self, bucket: str) -> Json:
        policy = read_policy(self._state, _policy_name(bucket))
        resource = f"projects/_/buckets/{bucket}"
        return {"kind": "storage#policy", "resourceId": resource, **policy}

    def _list_objects(self, call: Call) -> Json:
        """List the objects whose names begin with `prefix`, all in one page."""
        prefix = f"{self._buckets.get(call)['name']}/{call.query.get('prefix', '')}"
        return {"kind": "storage#objects", "items": self._state.find(Kind.OBJECT, prefix)}

    def _upload(self, call: Call) -> Json:
        """Write an object from a multipart/related body: its metadata, then its content."""
        if call.query.get("uploadType") != "multipart":
            raise GoogleError(501, "The local Google takes uploads of uploadType=multipart only.")
        bucket = self._buckets.get(call)["name"]
        boundary = call.raw.partition(b"\r\n")[0]
        try:
            parts = [part.partition(b"\r\n\r\n")[2] for part in call.raw.split(boundary)[1:-1]]
            meta, media = json.loads(parts[0]), parts[1].removesuffix(b"\r\n")
        except (ValueError, IndexError) as error:
            raise GoogleError(400, "Malformed multipart body.", reason="badContent") from error
        kind = meta.get("contentType", "application/octet-stream")
        return insert_object(self._state, bucket, required(meta, "name"), media, kind)

    def _delete_object(self, call: Call) -> web.Response:
        name = f"{self._buckets.get(call)['name']}/{call.path['object']}"
        if self._state.get(Kind.OBJECT, name) is None:
            raise GoogleError(404, f"No such object: {name}")
        self._state.delete(Kind.OBJECT, name)
        return web.Response(status=204)

    def _get_object(self, call: Call) -> Json | web.Response:
        """Return an object, or with alt=media its content."""
        bucket, name = self._buckets.get(call)["name"], call.path["object"]
        meta = self._state.get(Kind.OBJECT, f"{bucket}/{name}")
        if meta is None:
            raise GoogleError(404, f"No such object: {bucket}/{name}")
        if call.query.get("alt") != "media":
            return meta
        data = self._state.read_content(bucket, name)
        return web.Response(body=data, content_type=meta["contentType"])


def insert_object(
    state: GoogleState,
    bucket: str,
    name: str,
    data: bytes,
    content_type: str = "application/octet-stream",
) -> Json:
    """Write an object; return its metadata."""
    at = now()
    generation = str(time.time_ns() // 1000)
    meta = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "generation": generation,
        "metageneration": "1",
        "name": name,
        "bucket": bucket,
        "contentType": content_type,
        "size": str(len(data)),
        "md5Hash": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        "selfLink": f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}",
        "timeCreated": at,
        "updated": at,
    }
    state.write_content(bucket, name, data)
    state.put(Kind.OBJECT, f"{bucket}/{name}", meta)
    return meta


def _policy_name(bucket: str) -> str:
    return f"buckets/{bucket}"


def _bucket_name(call: Call) -> str:
    name = required(body_of(call), "name")
    if not _BUCKET_NAME.fullmatch(name):
        raise GoogleError(400, f"Invalid bucket name: '{name}'", reason="invalid")
    return name


def _bucket_change(call: Call, present: Json) -> Json:
    generation = str(int(present["metageneration"]) + 1)
    changed = {"metageneration": generation, "updated": now()}
    return {**body_of(call), **changed, "etag": _bucket_etag(present["name"], generation)}


def _bucket_etag(name: str, generation: str) -> str:
    return base64.b64encode(f"{name}#{generation}".encode()).decode()


def _first_policy(project: str) -> Json:
    roles = {
        "legacyBucketOwner": ("projectEditor", "projectOwner"),
        "legacyBucketReader": ("projectViewer",),
    }
    return {
        "version": 1,
        "bindings": [
            {
                "role": f"roles/storage.{role}",
                "members": [f"{member}:{project}" for member in members],
            }
            for role, members in roles.items()
        ],
    }


class Sinks:
    """Cloud Logging's sinks over a state, which archive the entries of a store."""

    def __init__(self, state: GoogleState, logs: LogStore) -> None:
        self._state = state
        self._logs = logs
        self._written_at: datetime | None = None
        self._sinks = Collection(
            state=state,
            kind=Kind.SINK,
            path="/logging/v2/projects/{project}/sinks",
            id_of=_sink_name,
            on_create=_new_sink,
            on_change=lambda call, sink: {
                **_checked_sink(body_of(call)),
                "name": sink["name"],
                "updateTime": now(),
            },
            missing="Sink {id} does not exist",
            taken="Sink {id} already exists",
            plural="sinks",
        )

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /logging/, and one that Google does not have."""
        return [*self._sinks.routes(), Endpoint("POST", "/rehearsal/sinks:flush", self._flush)]

    def tick(self, at: datetime) -> None:
        """Write the batches that have become due, once a minute."""
        minute = at.replace(second=0, microsecond=0)
        if minute != self._written_at:
            self._written_at = minute
            export_sinks(self._state, self._logs, at - DELAY)

    def _flush(self, _call: Call) -> Json:
        return {"objects": export_sinks(self._state, self._logs)}


def _sink_name(call: Call) -> str:
    name = required(body_of(call), "name")
    if not _SINK_NAME.fullmatch(name):
        raise GoogleError(400, f'The sink name "{name}" is not valid.')
    return name


def _new_sink(call: Call, _name: str) -> Json:
    project = call.path["project"]
    own = call.query.get("uniqueWriterIdentity") == "true"
    service = f"service-{project_number(project)}@gcp-sa-logging.iam.gserviceaccount.com"
    writer = service if own else "cloud-logs@system.gserviceaccount.com"
    at = now()
    return {
        **_checked_sink(body_of(call)),
        "resourceName": f"projects/{project}",
        "writerIdentity": f"serviceAccount:{writer}",
        "createTime": at,
        "updateTime": at,
    }


def _checked_sink(sink: Json) -> Json:
    try:
        parse_filter(sink.get("filter", ""))
    except FilterError as error:
        raise GoogleError(400, f"The sink's filter is not valid: {error}") from error
    destination = sink.get("destination", _DESTINATION)
    if not destination.startswith(_DESTINATION):
        raise GoogleError(501, f"The local Google has no sinks to {destination}, only buckets.")
    return sink


def export_sinks(state: GoogleState, store: LogStore, before: datetime | None = None) -> int:
    """Write what the sinks archive: an object of JSON lines for each log and hour.

    Idempotent. Only hours that ended by `before`, if given. Returns the number of objects written.
    """
    objects = 0
    for sink in state.find(Kind.SINK):
        bucket = sink["destination"].removeprefix(_DESTINATION)
        writer = sink["writerIdentity"]
        if state.get(Kind.BUCKET, f"b/{bucket}") is None:
            continue
        if may(state, _policy_name(bucket), writer, "storage.objects.create"):
            for stem, lines in _batches(sink, store, before).items():
                objects += _write(state, bucket, stem, lines)
    return objects


def _write(state: GoogleState, bucket: str, stem: str, lines: list[Json]) -> int:
    """Write a batch, or what of it arrived since it was written; return the number of objects."""
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
    """Return entries by the stem of an object's name: `stdout/2026/11/24/02:00:00_02:59:59`."""
    matches = parse_filter(sink.get("filter", ""))
    since = parse_time(sink["createTime"])
    batches = defaultdict(list)
    for entry in store.entries():
        here = entry.data["logName"].startswith(f"{sink['resourceName']}/logs/")
        if here and entry.received >= since and matches(entry):
            hour = datetime.fromtimestamp(entry.timestamp // 10**9, UTC)
            hour = hour.replace(minute=0, second=0)
            if before is None or hour + _HOUR <= before:
                stem = f"{quote(entry.log_id, safe='')}/{hour:%Y/%m/%d/%H:00:00_%H:59:59}"
                batches[stem].append(entry.data)
    return batches
