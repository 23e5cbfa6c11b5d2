"""A Kubernetes API over TLS that keeps objects in a dict: what Pulumi's provider needs, no more.

There are no controllers: a Deployment is at once what its spec asks for.
"""

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

_KINDS = {
    "v1": {
        "namespaces": "Namespace",
        "serviceaccounts": "ServiceAccount",
        "configmaps": "ConfigMap",
    },
    "apps/v1": {"deployments": "Deployment"},
    "rbac.authorization.k8s.io/v1": {
        "clusterroles": "ClusterRole",
        "clusterrolebindings": "ClusterRoleBinding",
    },
}
_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


class KubernetesList:
    """The API's answers.

    Attributes:
        objects: by path.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Json]:
        """The status and content of an answer."""
        discovered = _discover(path)
        if discovered is not None:
            return 200, discovered
        if method == "PATCH":
            return 200, self._apply(path, yaml.safe_load(body))
        found = self.objects.pop(path, None) if method == "DELETE" else self.objects.get(path)
        if found is None:
            return 404, {"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}
        return 200, found

    def _apply(self, path: str, sent: Json) -> Json:
        metadata = {"uid": path, "resourceVersion": "1", "generation": 1, **sent["metadata"]}
        applied = {**sent, "metadata": metadata}
        if sent["kind"] == "Deployment":
            count = sent["spec"].get("replicas", 1)
            names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            applied["status"] = {"observedGeneration": 1, **dict.fromkeys(names, count)}
        self.objects[path] = applied
        return applied


def _discover(path: str) -> Json | None:
    if path == "/version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.1"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [version.split("/") for version in _KINDS if "/" in version]
        return {
            "kind": "APIGroupList",
            "groups": [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                    "preferredVersion": {
                        "groupVersion": f"{group}/{version}",
                        "version": version,
                    },
                }
                for group, version in groups
            ],
        }
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in _KINDS:
        return None
    return {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [
            {
                "name": plural,
                "kind": kind,
                "namespaced": kind not in _CLUSTER_WIDE,
                "singularName": kind.lower(),
                "verbs": ["get", "patch", "delete"],
            }
            for plural, kind in _KINDS[version].items()
        ],
    }


@contextmanager
def kubernetes_list(folder: Path) -> Iterator[ControlPlane]:
    """Serve it on loopback until the block ends; where it answers."""
    authority = make_authority()
    certificate = certify_administrator(authority)
    certificate.write(folder, "tls")
    api = KubernetesList()

    def respond(call: Call) -> Response:
        status, content = api.answer(call.method, call.url_path, call.raw)
        return json_response(content, status=status)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with serving([route("*", "/{path:.*}", respond)], tls=tls) as url:
        yield ControlPlane(url.removeprefix("https://"), authority.pem.decode("ascii"), "v1.34.1")
