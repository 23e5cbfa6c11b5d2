"""Cloud Storage's JSON API: buckets, their policies, and objects small enough to hold in memory.

Deliberately left out: versions of objects, resumable and multipart uploads, lifecycle actions (the
rules are kept and shown, nothing is ever deleted by age).
"""

import base64
import hashlib
import re
from urllib.parse import quote

from starlette.responses import Response

from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.iam import project_number, read_policy, write_policy
from rehearsal.google.operations import now
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError

_NAME = re.compile(r"[a-z0-9](?:[-_.a-z0-9]{1,61})[a-z0-9]")
_NO_CONTENT = 204


class Storage:
    """The API's methods over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /storage/ and /upload/storage/."""
        bucket = "/storage/v1/b/{bucket}"
        return [
            Endpoint("POST", "/storage/v1/b", self.create),
            Endpoint("GET", "/storage/v1/b", self.list_buckets),
            Endpoint("GET", f"{bucket}/iam", self.get_policy),
            Endpoint("PUT", f"{bucket}/iam", self.set_policy),
            Endpoint("GET", f"{bucket}/o", self.list_objects),
            Endpoint("POST", f"{bucket}/o", self.insert_object),
            Endpoint("POST", f"/upload{bucket}/o", self.insert_object),
            Endpoint("GET", f"{bucket}/o/{{object:path}}", self.get_object),
            Endpoint("DELETE", f"{bucket}/o/{{object:path}}", self.delete_object),
            Endpoint("GET", bucket, self.get),
            Endpoint("PATCH", bucket, self.patch),
            Endpoint("PUT", bucket, self.patch),
            Endpoint("DELETE", bucket, self.delete),
        ]

    def create(self, call: Call) -> Json:
        """Make a bucket; names are the world's, not the project's."""
        name, project = required(call.body, "name"), call.query.get("project", "")
        if not project:
            raise GoogleError(400, "Required parameter: project", reason="required")
        if not _NAME.fullmatch(name):
            raise GoogleError(400, f"Invalid bucket name: '{name}'", reason="invalid")
        time = now()
        bucket = {
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": False},
                "publicAccessPrevention": "inherited",
            },
            "location": "US",
            "storageClass": "STANDARD",
            **call.body,
            "kind": "storage#bucket",
            "id": name,
            "selfLink": f"{call.base_url}storage/v1/b/{name}",
            "projectNumber": project_number(project),
            "timeCreated": time,
            "updated": time,
            "metageneration": "1",
        }
        bucket["location"] = bucket["location"].upper()
        bucket["locationType"] = "region" if "-" in bucket["location"] else "multi-region"
        bucket["etag"] = _etag(bucket)
        try:
            self._state.create(Kind.BUCKET, name, {"project": project, "body": bucket})
        except AlreadyExistsError:
            sentence = "Your previous request to create the named bucket succeeded and you already"
            raise GoogleError(409, f"{sentence} own it.", reason="conflict") from None
        self._state.put(Kind.POLICY, bucket_resource(name), _first_policy(project))
        return bucket

    def get(self, call: Call) -> Json:
        """One bucket."""
        return self._bucket(call)

    def list_buckets(self, call: Call) -> Json:
        """The buckets of a project."""
        project, prefix = call.query.get("project"), call.query.get("prefix", "")
        records = self._state.find(Kind.BUCKET, prefix)
        items = [record["body"] for record in records if record["project"] == project]
        return {"kind": "storage#buckets", "items": items}

    def patch(self, call: Call) -> Json:
        """Change fields of a bucket; null removes one."""
        sent = call.body

        def change(record: Json) -> None:
            body = {**record["body"], **sent}
            body = {field: value for field, value in body.items() if value is not None}
            body["metageneration"] = str(int(body["metageneration"]) + 1)
            body["updated"] = now()
            body["etag"] = _etag(body)
            record["body"] = body

        try:
            changed: Json = self._state.update(Kind.BUCKET, call.path["bucket"], change)["body"]
        except MissingError:
            raise _no_bucket() from None
        return changed

    def delete(self, call: Call) -> Response:
        """Delete a bucket, if it is empty."""
        name = self._bucket(call)["name"]
        if self._state.find(Kind.OBJECT, f"{name}/"):
            sentence = "The bucket you tried to delete is not empty."
            raise GoogleError(409, sentence, reason="conflict")
        self._state.delete(Kind.BUCKET, name)
        self._state.delete(Kind.POLICY, bucket_resource(name))
        return Response(status_code=_NO_CONTENT)

    def get_policy(self, call: Call) -> Json:
        """Who may do what with a bucket."""
        return self._policy(self._bucket(call)["name"])

    def set_policy(self, call: Call) -> Json:
        """Replace a bucket's policy; refused when it changed meanwhile."""
        name = self._bucket(call)["name"]
        stale = GoogleError(412, "At least one of the pre-conditions you specified did not hold.")
        write_policy(self._state, bucket_resource(name), call.body, stale)
        return self._policy(name)

    def list_objects(self, call: Call) -> Json:
        """The objects of a bucket whose names begin with `prefix`; all in one page."""
        prefix = f"{self._bucket(call)['name']}/{call.query.get('prefix', '')}"
        return {"kind": "storage#objects", "items": self._state.find(Kind.OBJECT, prefix)}

    def insert_object(self, call: Call) -> Json:
        """Write an object whose content is the request's body."""
        bucket = self._bucket(call)["name"]
        if call.query.get("uploadType") != "media":
            raise GoogleError(501, "The local Google takes objects by uploadType=media alone.")
        return insert_object(self._state, bucket, required(call.query, "name"), call.raw)

    def get_object(self, call: Call) -> Json | Response:
        """An object, or with alt=media its content."""
        meta = self._object(call)
        if call.query.get("alt") != "media":
            return meta
        data = self._state.read_content(meta["bucket"], meta["name"])
        return Response(data, media_type=meta["contentType"])

    def delete_object(self, call: Call) -> Response:
        """Delete an object."""
        meta = self._object(call)
        self._state.delete(Kind.OBJECT, f"{meta['bucket']}/{meta['name']}")
        self._state.delete_content(meta["bucket"], meta["name"])
        return Response(status_code=_NO_CONTENT)

    def _bucket(self, call: Call) -> Json:
        record = self._state.get(Kind.BUCKET, call.path["bucket"])
        if record is None:
            raise _no_bucket()
        bucket: Json = record["body"]
        return bucket

    def _object(self, call: Call) -> Json:
        bucket, name = self._bucket(call)["name"], call.path["object"]
        meta = self._state.get(Kind.OBJECT, f"{bucket}/{name}")
        if meta is None:
            raise GoogleError(404, f"No such object: {bucket}/{name}")
        return meta

    def _policy(self, bucket: str) -> Json:
        resource = f"projects/_/buckets/{bucket}"
        policy = read_policy(self._state, bucket_resource(bucket))
        return {"kind": "storage#policy", "resourceId": resource, **policy}


def insert_object(
    state: GoogleState,
    bucket: str,
    name: str,
    data: bytes,
    content_type: str = "application/octet-stream",
) -> Json:
    """Write an object; returns what Cloud Storage tells of it."""
    time = now()
    meta = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}",
        "name": name,
        "bucket": bucket,
        "contentType": content_type,
        "size": str(len(data)),
        "md5Hash": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        "selfLink": f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}",
        "timeCreated": time,
        "updated": time,
    }
    state.write_content(bucket, name, data)
    state.put(Kind.OBJECT, f"{bucket}/{name}", meta)
    return meta


def bucket_resource(bucket: str) -> str:
    """The name of a bucket's policy in the state."""
    return f"buckets/{bucket}"


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


def _etag(body: Json) -> str:
    return base64.b64encode(f"{body['name']}#{body['metageneration']}".encode()).decode()


def _no_bucket() -> GoogleError:
    return GoogleError(404, "The specified bucket does not exist.")
