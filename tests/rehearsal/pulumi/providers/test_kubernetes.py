"""The fake kubernetes provider; tests/live runs it against real control planes."""

import base64
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp.web import Response, json_response
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.machine.programs import AUTH_PLUGIN
from rehearsal.machine.web import Call, route, serving
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider, KubernetesSession, unready
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi, UnreachableError
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import NotReadyError, ProviderError, Resource

TYPES = {
    "CustomResourceDefinition": "apiextensions.k8s.io/v1:CustomResourceDefinition",
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
        self.applied: Props = {}

    def apply(self, body: Props) -> Props:
        self.applied = body
        return body if body["kind"] == "CustomResourceDefinition" else deployment()

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


def kubeconfig(server: str, authority: str = "Y2E=", command: str = AUTH_PLUGIN) -> str:
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


def test_extensions_of_a_schema_have_dashes_in_the_cluster_alone() -> None:
    sdk, served = (
        {"metadata": {"name": "c"}, "spec": {"versions": [{"schema": {key: True}}]}}
        for key in ("x_kubernetes_int_or_string", "x-kubernetes-int-or-string")
    )
    cluster = Cluster(None)
    opened = KubernetesSession(cluster, delete_unreachable=False)
    resource_id, outputs = opened.create(at("CustomResourceDefinition"), sdk)
    assert cluster.applied["spec"] == served["spec"]
    assert (resource_id, outputs["spec"]) == ("c", sdk["spec"])


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


class Server:
    """An API server with one ConfigMap, and a kubeconfig with a plugin for it."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self._plugin = folder / AUTH_PLUGIN
        self.authority = base64.b64encode(authority.cert_pem.bytes()).decode()
        self.url = ""

    def answer(self, call: Call) -> Response:
        sent = json.loads(call.raw) if call.raw else None
        self.calls.append((call.method, f"{call.url_path}?{call.query_string}", sent))
        if call.authorization != "Bearer secret":
            return json_response({"message": "Unauthorized"}, status=401)
        if "missing" in call.url_path:
            return json_response({"message": "not found"}, status=404)
        return json_response(sent or {"items": [{"metadata": {"name": "p"}}]})

    def api(self, token: str = "secret", url: str = "") -> ClusterApi:
        answer = f"""echo '{{"status": {{"token": "{token}"}}}}'""" if token else "exit 3"
        self._plugin.write_text(f"#!/bin/sh\n{answer}\n")
        self._plugin.chmod(0o700)
        return ClusterApi(kubeconfig(url or self.url, self.authority))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = Server(tmp_path, authority)
    with serving([route("*", "/{path:.*}", server.answer)], tls=tls) as server.url:
        yield server


def test_objects_are_applied_found_listed_and_removed(server: Server) -> None:
    api, body = server.api(), {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}}
    assert api.apply(body) == body
    assert api.find("Deployment", "n", "missing") is None
    assert api.objects("Pod", "n", labelSelector="a=b") == [{"metadata": {"name": "p"}}]
    api.remove("Namespace", "", "missing")
    path = "/api/v1/namespaces/n/configmaps/c?fieldManager=pulumi-kubernetes&force=false"
    assert server.calls == [
        ("PATCH", path, body),
        ("GET", "/apis/apps/v1/namespaces/n/deployments/missing?", None),
        ("GET", "/api/v1/namespaces/n/pods?labelSelector=a%3Db", None),
        ("DELETE", "/api/v1/namespaces/missing?", {"propagationPolicy": "Foreground"}),
    ]


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"token": "other"}, ProviderError, "Unauthorized"),
        ({"token": ""}, ProviderError, "which the kubeconfig names, returned no cred"),
        ({"url": "https://127.0.0.1:1"}, UnreachableError, "cluster is unreachable"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_an_error_of_its_kind(
    server: Server, options: dict[str, str], error: type[ProviderError], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        server.api(**options).find("Namespace", "", "n")


@pytest.mark.parametrize("command", ["/bin/sh", "sh", f"./{AUTH_PLUGIN}"])
def test_no_other_program_of_a_kubeconfig_is_run(server: Server, command: str) -> None:
    api = ClusterApi(kubeconfig(server.url, server.authority, command))
    with pytest.raises(ProviderError, match="runs no other program"):
        api.find("Namespace", "", "n")
