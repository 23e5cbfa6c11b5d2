"""The fake kubernetes provider; tests/live runs it against real control planes."""

import base64
import json
import ssl
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.kubernetes import KubernetesProvider, KubernetesSession, unready
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi, UnreachableError
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import NotReadyError, ProviderError, Resource

TYPES = {
    "Deployment": "apps/v1:Deployment",
    "ConfigMap": "core/v1:ConfigMap",
    "Namespace": "core/v1:Namespace",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "StatefulSet": "apps/v1:StatefulSet",
}
SPEC: Props = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {}}
AVAILABLE = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


class Cluster(ClusterApi):
    """A cluster that answers one read after the other."""

    def __init__(self, *bodies: Props | None) -> None:
        super().__init__("")
        self.bodies = list(bodies)
        self.pods: list[Props] = []
        self.events: list[Props] = []

    def apply(self, body: Props) -> Props:
        return deployment()

    def find(self, kind: str, namespace: str, name: str) -> Props | None:
        return self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]

    def objects(self, kind: str, namespace: str, **selectors: str) -> list[Props]:
        return self.pods if kind == "Pod" else self.events

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Leave it to what is read."""


def session(*bodies: Props | None) -> KubernetesSession:
    return KubernetesSession(Cluster(*bodies), delete_unreachable=False)


def at(kind: str, timeout_s: float = 0) -> Resource:
    return Resource(f"kubernetes:{TYPES[kind]}", "it", timeout_s)


def deployment(generation: int = 1, **status: int) -> Props:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "generation": generation},
        "spec": SPEC,
        "status": {"observedGeneration": 1, **status},
    }


def kubeconfig(server: str, authority: str = "Y2E=", command: str = "plugin") -> str:
    cluster = {"server": server, "certificate-authority-data": authority}
    login = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": command}
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
        "users": [{"name": "u", "user": {"exec": login}}],
    }
    return yaml.safe_dump(content)


class TestCheck:
    def test_refuses_an_object_without_a_name(self) -> None:
        (failure,) = session().check(at("ConfigMap"), {}, {"data": {}}, b"1").failures
        assert failure.path == "metadata.name"

    def test_refuses_a_kind_that_infra_does_not_declare(self) -> None:
        with pytest.raises(
            ProviderError, match="does not implement kubernetes:apps/v1:StatefulSet"
        ):
            session().check(at("StatefulSet"), {}, {}, b"1")


@pytest.mark.parametrize(
    ("kind", "old", "new", "effect"),
    [
        ("Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}, "same"),
        ("Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}, "replace"),
        (
            "Namespace", {"metadata": {"name": "a"}},
            {"metadata": {"name": "a", "labels": {"x": "y"}}}, "update",
        ),
        ("ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "2"}}, "replace"),
        ("Deployment", {"spec": SPEC}, {"spec": {**SPEC, "replicas": 2}}, "update"),
        (
            "Deployment", {"spec": SPEC},
            {"spec": {**SPEC, "selector": {"matchLabels": {"a": "c"}}}}, "replace",
        ),
        ("ClusterRoleBinding", {"roleRef": {"name": "a"}}, {"roleRef": {"name": "b"}}, "replace"),
        ("ClusterRoleBinding", {"subjects": [{"name": "a"}]}, {"subjects": []}, "update"),
    ],
)  # fmt: skip
def test_decisions(kind: str, old: Props, new: Props, effect: str) -> None:
    difference = session().diff(at(kind), {}, old, new)
    replaced = any(change.replace for change in difference.changes)
    assert ("replace" if replaced else "update" if difference.changes else "same") == effect
    same_name = old.get("metadata") == new.get("metadata")
    assert difference.delete_first is (replaced and same_name)


@pytest.mark.parametrize(
    ("new", "replaced"),
    [
        (kubeconfig("a"), []),
        (kubeconfig("a") + "kind: Config\n", []),
        (kubeconfig("b"), ["kubeconfig"]),
        (kubeconfig("a", "b3RoZXI="), ["kubeconfig"]),
        (UNKNOWN, ["kubeconfig"]),
    ],
)
def test_another_cluster_replaces_everything(new: str, replaced: list[str]) -> None:
    old = {"kubeconfig": kubeconfig("a")}
    assert KubernetesProvider().replaced_keys(old, {"kubeconfig": new}) == replaced


def test_without_a_kubeconfig_nothing_of_the_machine_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/etc/passwd")
    with pytest.raises(ProviderError, match="needs a kubeconfig"):
        KubernetesProvider().configure({})


@pytest.mark.parametrize(
    ("body", "lacking"),
    [
        (deployment(**AVAILABLE), ""),
        (deployment(2, **AVAILABLE), "its controller has not seen it yet"),
        (
            deployment(**{**AVAILABLE, "availableReplicas": 0}),
            "0 of 1 replicas are available (1 of the new template)",
        ),
        (
            deployment(**{**AVAILABLE, "replicas": 2}),
            "1 of 1 replicas are available (1 of the new template)",
        ),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, ""),
    ],
)
def test_what_an_object_lacks(body: Props, lacking: str) -> None:
    assert unready(body) == lacking


class TestWait:
    def test_ends_when_the_deployment_is_ready(self) -> None:
        opened = session(deployment(), deployment(**AVAILABLE))
        resource_id, outputs = opened.create(at("Deployment"), {"spec": SPEC})
        assert resource_id == "n/d"
        assert outputs["status"]["availableReplicas"] == 1

    def test_that_is_too_long_keeps_the_deployment_with_its_pods_reasons(self) -> None:
        cluster = Cluster(deployment())
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        statuses = [{"name": "c", "state": {"waiting": waiting}}]
        cluster.pods = [
            {"metadata": {"name": "d-1"}, "status": {"containerStatuses": statuses}},
        ]
        involved = {"kind": "Pod", "name": "d-1"}
        warning = {"involvedObject": involved, "reason": "Failed", "message": "not found"}
        cluster.events = [warning, {**warning, "involvedObject": {"name": "other"}}]
        opened = KubernetesSession(cluster, delete_unreachable=False)
        with pytest.raises(NotReadyError) as failure:
            opened.create(at("Deployment", 0.2), {"spec": SPEC})
        assert failure.value.resource_id == "n/d"
        assert failure.value.reasons == [
            "Deployment d: 0 of 1 replicas are available (0 of the new template) when 0.2 s passed",
            "Pod d-1, container c: ImagePullBackOff: no such image",
            "[Pod/d-1] Failed: not found",
        ]

    def test_is_ended_by_cancelling(self) -> None:
        opened = session(deployment())
        opened.cancel()
        with pytest.raises(NotReadyError, match="the command was cancelled"):
            opened.create(at("Deployment"), {"spec": SPEC})

    def test_for_a_deletion_names_what_holds_the_object(self) -> None:
        opened = session({"metadata": {"finalizers": ["x/y"]}})
        with pytest.raises(ProviderError, match=r"still being deleted, held by \['x/y'\]"):
            opened.delete(at("Namespace", 0.2), "n", {})

    def test_for_a_deletion_ends_when_the_object_is_missing(self) -> None:
        session({"metadata": {}}, None).delete(at("Namespace"), "n", {})


def test_read_returns_inputs_as_they_are() -> None:
    live = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "managedFields": [], "labels": {}},
        "data": {"a": "2"},
    }  # fmt: skip
    inputs = {"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "1"}}
    found = session(live).read(at("ConfigMap"), "n/c", inputs)
    assert found is not None
    assert found.inputs == {"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "2"}}
    assert "managedFields" not in found.outputs["metadata"]
    assert session(None).read(at("ConfigMap"), "n/c", inputs) is None
    with pytest.raises(ProviderError, match="cannot import"):
        session(live).read(at("ConfigMap"), "n/c", {})


class Server(ThreadingHTTPServer):
    """An API server with one ConfigMap."""

    calls: list[tuple[str, str, str, Any]]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = json.loads(body) if body else None
        kind = self.headers.get("Content-Type", "")
        self.server.calls.append((self.command, self.path, kind, sent))
        if self.headers["Authorization"] != "Bearer secret":
            status, content = 401, {"message": "Unauthorized"}
        elif "missing" in self.path:
            status, content = 404, {"message": "not found"}
        else:
            status, content = 200, sent or {"items": [{"metadata": {"name": "p"}}]}
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_DELETE = do_GET = do_PATCH = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """The server, and its certificate in base64."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Server(("127.0.0.1", 0), _Handler) as server:
        server.calls = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server, base64.b64encode(authority.cert_pem.bytes()).decode()
        server.shutdown()
        thread.join(10)


def plugin(tmp_path: Path, answer: str) -> str:
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class TestClusterApi:
    @pytest.fixture
    def api(self, server: tuple[Server, str], tmp_path: Path) -> ClusterApi:
        command = plugin(tmp_path, """echo '{"status": {"token": "secret"}}'""")
        return ClusterApi(kubeconfig(server[0].url, server[1], command))

    def test_applies_server_side(self, server: tuple[Server, str], api: ClusterApi) -> None:
        body = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}}
        assert api.apply(body) == body
        path = "/api/v1/namespaces/n/configmaps/c?fieldManager=pulumi-kubernetes&force=false"
        assert server[0].calls == [("PATCH", path, "application/apply-patch+yaml", body)]

    def test_finds_lists_and_removes(self, server: tuple[Server, str], api: ClusterApi) -> None:
        assert api.find("Deployment", "n", "missing") is None
        assert api.objects("Pod", "n", labelSelector="a=b") == [{"metadata": {"name": "p"}}]
        api.remove("Namespace", "", "missing")
        assert [call[:2] for call in server[0].calls] == [
            ("GET", "/apis/apps/v1/namespaces/n/deployments/missing"),
            ("GET", "/api/v1/namespaces/n/pods?labelSelector=a%3Db"),
            ("DELETE", "/api/v1/namespaces/missing"),
        ]
        assert server[0].calls[-1][3] == {"propagationPolicy": "Foreground"}

    def test_raises_the_servers_message(self, server: tuple[Server, str], tmp_path: Path) -> None:
        command = plugin(tmp_path, """echo '{"status": {"token": "other"}}'""")
        api = ClusterApi(kubeconfig(server[0].url, server[1], command))
        with pytest.raises(ProviderError, match="Unauthorized"):
            api.find("Namespace", "", "n")

    def test_names_a_plugin_that_fails(self, server: tuple[Server, str], tmp_path: Path) -> None:
        api = ClusterApi(kubeconfig(server[0].url, server[1], plugin(tmp_path, "exit 3")))
        with pytest.raises(ProviderError, match="which the kubeconfig names, returned no cred"):
            api.find("Namespace", "", "n")

    def test_names_a_cluster_that_does_not_answer(
        self, server: tuple[Server, str], tmp_path: Path
    ) -> None:
        command = plugin(tmp_path, """echo '{"status": {"token": "secret"}}'""")
        api = ClusterApi(kubeconfig("https://127.0.0.1:1", server[1], command))
        with pytest.raises(UnreachableError, match="cluster is unreachable"):
            api.find("Namespace", "", "n")
