"""A Kubernetes API over TLS that keeps objects in a dict: what the fake provider needs, no more.

There are no controllers: a Deployment is at once what its spec asks for.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp.web import Response, json_response

from rehearsal.cluster.certificates import certify_administrator, make_authority
from rehearsal.cluster.fleet import ControlPlane
from rehearsal.machine.web import Call, route, serving

Json = dict[str, Any]


@contextmanager
def kubernetes_list(folder: Path) -> Iterator[ControlPlane]:
    """Serve it on loopback until the block ends; give where it answers."""
    authority = make_authority()
    certify_administrator(authority).write(folder, "tls")
    objects: dict[str, Json] = {}

    def answer(call: Call) -> Response:
        path = call.url_path
        if call.method == "PATCH":
            objects[path] = _applied(path, yaml.safe_load(call.raw))
        found = objects.pop(path, None) if call.method == "DELETE" else objects.get(path)
        if found is None:
            return json_response({"kind": "Status", "message": "not found"}, status=404)
        return json_response(found)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with serving([route("*", "/{path:.*}", answer)], tls=tls) as url:
        yield ControlPlane(url.removeprefix("https://"), authority.pem.decode("ascii"), "v1.34.1")


def _applied(path: str, sent: Json) -> Json:
    metadata = {"uid": path, "resourceVersion": "1", "generation": 1, **sent["metadata"]}
    applied = {**sent, "metadata": metadata}
    if sent["kind"] == "Deployment":
        count = sent["spec"].get("replicas", 1)
        names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        applied["status"] = {"observedGeneration": 1, **dict.fromkeys(names, count)}
    return applied
