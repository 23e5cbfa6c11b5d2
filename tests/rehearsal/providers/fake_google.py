"""A Google small enough to be read at a glance, for tests of what the gcp provider asks.

It stores what it is sent, answers with it, and keeps a list of the calls. It decides nothing; the
local Google of a rehearsal is rehearsal.google_api.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASES = {
    "container": "container/v1beta1/",
    "compute": "compute/beta/",
    "iamBeta": "iam/v1/",
    "resourceManager": "crm/v1/",
    "storage": "storage/v1/",
    "logging": "logging/v2/",
    "cloudScheduler": "scheduler/v1/",
    "artifactRegistry": "artifacts/v1/",
    "serviceUsage": "serviceusage/v1beta1/",
}
_IDS = {"serviceAccounts": "accountId", "roles": "roleId"}
Json = dict[str, Any]


@dataclass
class Call:
    """One request."""

    method: str
    path: str
    body: Json
    params: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class FakeGoogle:
    """What is there, what was asked, and what to answer out of turn.

    Attributes:
        things: REST objects by service-prefixed path.
        calls: requests in their order.
        answers: (method, path) to answers given once each before the normal ones: (status, body).
        failing: substring of a path whose operations end with this message.
        polls: polls that an operation takes.
    """

    url: str = ""
    things: dict[str, Json] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    answers: dict[tuple[str, str], list[tuple[int, Json]]] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    polls: int = 1

    def config(self) -> dict[str, str]:
        """Configuration of the gcp provider that leads here."""
        endpoints = {f"{name}CustomEndpoint": self.url + base for name, base in BASES.items()}
        return {**endpoints, "accessToken": "test", "project": "p", "zone": "us-central1-a"}

    def written(self) -> list[str]:
        """The calls other than GET, as METHOD PATH."""
        return [str(call) for call in self.calls if call.method != "GET"]

    def answer(self, call: Call) -> tuple[int, Json]:
        """The answer to a call."""
        queued = self.answers.get((call.method, call.path))
        if queued:
            return queued.pop(0)
        if "/operations/" in call.path:
            return 200, self._poll(call.path)
        if call.path.endswith("getIamPolicy") or call.path.endswith("/iam"):
            return self._policy(call)
        if call.path.endswith("setIamPolicy"):
            return self._policy(call)
        return getattr(self, f"_{call.method.lower()}")(call)  # type: ignore[no-any-return]

    def _get(self, call: Call) -> tuple[int, Json]:
        if call.path.endswith("/services"):
            services = [
                {"name": path.removeprefix("serviceusage/v1beta1/")}
                for path in self.things
                if path.startswith("serviceusage") and "/operations/" not in path
            ]
            return 200, {"services": services}
        found = self.things.get(call.path)
        return (200, found) if found else (404, _error(404, f"Not found: {call.path}"))

    def _post(self, call: Call) -> tuple[int, Json]:
        path, _, verb = call.path.partition(":")
        if verb:
            return self._verb(path, verb, call)
        parent, _, collection = path.rpartition("/")
        body = call.body.get(collection.rstrip("s"), call.body)
        body = call.body.get("serviceAccount", call.body.get("role", body))
        name = call.body.get(_IDS.get(collection, ""), body.get("name", "").rpartition("/")[2])
        name = call.params.get("repository_id", name)
        if collection == "serviceAccounts":
            project = parent.rpartition("/")[2]
            name = f"{name}@{project}.iam.gserviceaccount.com"
            full = f"projects/{project}/serviceAccounts/{name}"
            body = {**body, "email": name, "name": full}
        where = f"{parent}/{collection}/{name}"
        if where in self.things:
            return 409, _error(409, f"Already exists: {where}")
        self.things[where] = {**body, **self._added(where, body)}
        return 200, self._operation(where) if parent.startswith(("cont", "art")) else body

    def _added(self, where: str, body: Json) -> Json:
        if where.endswith(f"/clusters/{body.get('name')}"):
            pool = {
                "name": "default-pool",
                "config": body.get("nodeConfig", {}),
                "status": "RUNNING",
            }
            self.things[f"{where}/nodePools/default-pool"] = pool
            return {
                "endpoint": "127.0.0.1:1",
                "masterAuth": {"clusterCaCertificate": "Y2E="},
                "currentMasterVersion": "1.34.1-gke.1",
                "labelFingerprint": "f",
                "status": "RUNNING",
            }
        if "/sinks/" in where:
            return {"writerIdentity": "serviceAccount:sink@logging"}
        return {"status": "RUNNING"} if "/nodePools/" in where else {}

    def _verb(self, path: str, verb: str, call: Call) -> tuple[int, Json]:
        if verb == "enable":
            self.things[path] = {"state": "ENABLED"}
            return 200, self._operation(path)
        if verb == "disable":
            self.things.pop(path, None)
            return 200, self._operation(path)
        thing = self.things.get(path)
        if thing is None:
            return 404, _error(404, f"Not found: {path}")
        if verb in {"pause", "resume"}:
            thing["state"] = {"pause": "PAUSED", "resume": "ENABLED"}[verb]
            return 200, thing
        if verb == "undelete":
            thing.pop("deleted", None)
            return 200, thing
        thing |= call.body
        return 200, self._operation(path)

    def _put(self, call: Call) -> tuple[int, Json]:
        return self._patch(call)

    def _patch(self, call: Call) -> tuple[int, Json]:
        thing = self.things.get(call.path)
        if thing is None:
            return 404, _error(404, f"Not found: {call.path}")
        thing |= call.body.get("serviceAccount", call.body)
        return 200, self._operation(call.path) if call.path.startswith("container") else thing

    def _delete(self, call: Call) -> tuple[int, Json]:
        if self.things.pop(call.path, None) is None:
            return 404, _error(404, f"Not found: {call.path}")
        return 200, self._operation(call.path) if call.path.startswith(("cont", "art")) else {}

    def _policy(self, call: Call) -> tuple[int, Json]:
        path = call.path.partition(":")[0].removesuffix("/iam")
        held = self.things.setdefault(f"{path} policy", {"etag": "e0", "bindings": []})
        sent = call.body.get("policy", call.body) if call.method != "GET" else {}
        if "bindings" not in sent:
            return 200, dict(held)
        if sent.get("etag") != held["etag"]:
            return 409, _error(409, "There were concurrent policy changes.")
        self.things[f"{path} policy"] = {**sent, "etag": f"e{int(held['etag'][1:]) + 1}"}
        return 200, self.things[f"{path} policy"]

    def _operation(self, where: str) -> Json:
        base, _, rest = where.partition("/projects/")
        parts = rest.split("/")
        parent = "projects/" + "/".join(parts[:3] if len(parts) > 2 else parts[:1])
        name = f"operation-{len(self.calls)}"
        said = next((text for part, text in self.failing.items() if part in where), "")
        content = {"polls": self.polls, "said": said}
        self.things[f"{base}/{parent}/operations/{name}"] = content
        return {"name": f"{parent}/operations/{name}", "status": "RUNNING"}

    def _poll(self, path: str) -> Json:
        operation = self.things[path]
        operation["polls"] -= 1
        name = path.partition("/projects/")[2]
        if operation["polls"] > 0:
            return {"name": f"projects/{name}", "status": "RUNNING"}
        return {"name": name, "status": "DONE", "done": True, "statusMessage": operation["said"]}


def _error(status: int, message: str) -> Json:
    return {"error": {"code": status, "message": message, "errors": [{"reason": "test"}]}}


@contextmanager
def fake_google() -> Iterator[FakeGoogle]:
    """A fake Google that answers on the loopback address."""
    google = FakeGoogle()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            content = json.loads(self.rfile.read(length)) if length else {}
            params = {key: values[0] for key, values in parse_qs(url.query).items()}
            call = Call(self.command, url.path.lstrip("/"), content, params)
            with lock:
                google.calls.append(call)
                status, body = google.answer(call)
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: the calls are in the list."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    google.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
