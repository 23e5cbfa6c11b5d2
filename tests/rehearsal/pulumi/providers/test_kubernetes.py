"""Decisions of the kubernetes stand-in; its calls are tested live, against an API server."""

from threading import Event
from typing import Any, cast

import pytest
import yaml
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.base import Checked, NotReadyError, ProviderError, Resource
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider, KubernetesSession
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi, load_kubeconfig
from rehearsal.pulumi.providers.kubernetes_waits import timeout_of, unready, wait_gone, wait_ready

Props = dict[str, Any]
TYPES = {
    "Deployment": "apps/v1:Deployment",
    "ConfigMap": "core/v1:ConfigMap",
    "Namespace": "core/v1:Namespace",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "Widget": "example.org/v1:Widget",
    "DeploymentPatch": "apps/v1:DeploymentPatch",
}
SPEC: Props = {
    "replicas": 1,
    "selector": {"matchLabels": {"a": "b"}},
    "template": {
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}
    },
}


class Cluster(ClusterApi):
    """A cluster that is a list of what is read one after the other."""

    def __init__(self, *bodies: Props | None) -> None:
        super().__init__("", None, "default")
        self.bodies = list(bodies)
        self.pods: list[Props] = []
        self.events: list[Props] = []

    def find(self, api_version: str, kind: str, namespace: str | None, name: str) -> Props | None:
        return self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]

    def objects(
        self, api_version: str, kind: str, namespace: str | None, **selectors: str
    ) -> list[Props]:
        return self.pods if kind == "Pod" else self.events


def _session(*bodies: Props | None) -> KubernetesSession:
    return KubernetesSession(Cluster(*bodies), delete_unreachable=False)


def _at(kind: str, name: str = "it") -> Resource:
    return Resource(f"kubernetes:{TYPES[kind]}", name)


def _check(kind: str, new: Props, old: Props | None = None) -> Checked:
    return _session(None).check(_at(kind), old or {}, new, b"seed")


def _kubeconfig(server: str, authority: str = "Y2E=") -> str:
    return yaml.safe_dump(
        {
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": server, "certificate-authority-data": authority},
                }
            ],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
            "users": [],
        }
    )


def test_a_misspelt_property_is_refused() -> None:
    (failure,) = _check("ConfigMap", {"dat": {}}).failures
    assert failure.reason == "ConfigMap 'it' has no property dat; did you mean data?"


def test_a_custom_resource_may_hold_anything() -> None:
    checked = _check("Widget", {"spec": {"anything": 1}, "metadata": {"name": "w"}})
    assert checked.failures == []


def test_the_sdk_s_patches_are_refused() -> None:
    (failure,) = _check("DeploymentPatch", {"metadata": {"name": "x"}}).failures
    assert "does not implement kubernetes:apps/v1:DeploymentPatch" in failure.reason


def test_a_name_is_made_up_and_kept() -> None:
    first = _check("ConfigMap", {"data": {}}).inputs
    assert first["metadata"]["name"].startswith("it-")
    assert first["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    again = _session(None).check(_at("ConfigMap"), first, {"data": {}}, b"other").inputs
    assert again["metadata"]["name"] == first["metadata"]["name"]


def test_a_given_name_stays() -> None:
    new = {"metadata": {"name": "mine"}}
    assert _check("ConfigMap", new).inputs == new


@pytest.mark.parametrize(
    ("kind", "old", "new", "effect"),
    [
        ("Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}, "same"),
        ("Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}, "replace"),
        (
            "Namespace", {"metadata": {"name": "a"}},
            {"metadata": {"name": "a", "labels": {"x": "y"}}}, "update",
        ),
        (
            "ConfigMap", {"metadata": {"namespace": "a"}}, {"metadata": {"namespace": "b"}},
            "replace",
        ),
        ("ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "2"}}, "replace"),
        ("Deployment", {"spec": SPEC}, {"spec": {**SPEC, "replicas": 2}}, "update"),
        (
            "Deployment", {"spec": SPEC},
            {"spec": {**SPEC, "selector": {"matchLabels": {"a": "c"}}}}, "replace",
        ),
        (
            "Deployment", {"spec": SPEC},
            {"spec": {**SPEC, "template": {"spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": "0.5"}}}]}}}}, "same",
        ),
        (
            "Deployment", {"spec": SPEC},
            {"spec": {**SPEC, "template": {"spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": "0.6"}}}]}}}}, "update",
        ),
        ("ClusterRoleBinding", {"roleRef": {"name": "a"}}, {"roleRef": {"name": "b"}}, "replace"),
        ("ClusterRoleBinding", {"subjects": [{"name": "a"}]}, {"subjects": []}, "update"),
    ],
)  # fmt: skip
def test_decisions(kind: str, old: Props, new: Props, effect: str) -> None:
    difference = _session(None).diff(_at(kind), {}, old, new)
    replaced = any(change.replace for change in difference.changes)
    assert ("replace" if replaced else "update" if difference.changes else "same") == effect


def test_a_fixed_name_is_deleted_before_it_is_made_anew() -> None:
    old: Props = {"metadata": {"name": "a"}, "data": {"a": "1"}}
    new: Props = {"metadata": {"name": "a"}, "data": {"a": "2"}}
    assert _session(None).diff(_at("ConfigMap"), {}, old, new).delete_first
    made_up = {**new, "metadata": {"name": "a", "annotations": {"pulumi.com/autonamed": "true"}}}
    assert not _session(None).diff(_at("ConfigMap"), {}, old, made_up).delete_first


@pytest.mark.parametrize(
    ("old", "new", "replaced"),
    [
        ({"kubeconfig": _kubeconfig("a")}, {"kubeconfig": _kubeconfig("a")}, []),
        ({"kubeconfig": _kubeconfig("a")}, {"kubeconfig": _kubeconfig("b")}, ["kubeconfig"]),
        (
            {"kubeconfig": _kubeconfig("a")}, {"kubeconfig": _kubeconfig("a", "b3RoZXI=")},
            ["kubeconfig"],
        ),
        ({"kubeconfig": _kubeconfig("a")}, {"kubeconfig": _kubeconfig("a") + "kind: C\n"}, []),
        ({"kubeconfig": _kubeconfig("a")}, {"kubeconfig": UNKNOWN}, ["kubeconfig"]),
        ({"kubeconfig": "/nowhere"}, {"kubeconfig": "/elsewhere"}, ["kubeconfig"]),
    ],
)  # fmt: skip
def test_another_cluster_makes_everything_anew(old: Props, new: Props, replaced: list[str]) -> None:
    assert KubernetesProvider().replaced_keys(old, new) == replaced


def test_without_a_kubeconfig_nothing_of_the_machine_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/etc/passwd")
    with pytest.raises(ProviderError, match="needs a kubeconfig"):
        KubernetesProvider().configure({})


def test_kubeconfig_that_is_neither_yaml_nor_a_file() -> None:
    with pytest.raises(ProviderError, match="neither YAML nor a file"):
        load_kubeconfig("/nowhere/kubeconfig")


def _workload(kind: str, generation: int = 1, **status: int) -> Props:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "d", "namespace": "n", "generation": generation},
        "spec": SPEC,
        "status": {"observedGeneration": 1, **status},
    }


_AVAILABLE = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


@pytest.mark.parametrize(
    ("body", "lacking"),
    [
        (_workload("Deployment", **_AVAILABLE), None),
        (_workload("Deployment", 2, **_AVAILABLE), "its controller has not looked at it yet"),
        (
            _workload("Deployment", **{**_AVAILABLE, "availableReplicas": 0}),
            "0 of 1 replicas are available (1 of the new template)",
        ),
        (
            _workload("Deployment", **{**_AVAILABLE, "replicas": 2}),
            "1 of 1 replicas are available (1 of the new template)",
        ),
        (_workload("DaemonSet"), None),
        (
            _workload("DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=2),
            "0 of 2 pods are available (2 of the new template)",
        ),
        (_workload("StatefulSet", updatedReplicas=1, readyReplicas=1), None),
        (_workload("StatefulSet"), "0 of 1 replicas are ready (0 of the new template)"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, None),
    ],
)
def test_what_an_object_lacks(body: Props, lacking: str | None) -> None:
    assert unready(body) == lacking


def test_an_object_that_asks_for_it_is_not_waited_for() -> None:
    body = _workload("Deployment")
    body["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    assert unready(body) is None


def test_waiting_ends_when_it_is_ready() -> None:
    cluster = Cluster(_workload("Deployment"), _workload("Deployment", **_AVAILABLE))
    ready = wait_ready(cluster, _workload("Deployment"), 10, Event())
    assert ready["status"]["availableReplicas"] == 1


def test_a_deployment_that_never_becomes_ready_is_kept_with_its_reasons() -> None:
    cluster = Cluster(_workload("Deployment"))
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    cluster.pods = [
        {
            "metadata": {"name": "d-1"},
            "status": {"containerStatuses": [{"name": "c", "state": {"waiting": waiting}}]},
        }
    ]
    involved = {"kind": "Pod", "name": "d-1"}
    warning = {"involvedObject": involved, "reason": "Failed", "message": "not found"}
    cluster.events = [warning, {**warning, "involvedObject": {"name": "other"}}]
    cluster.apply = lambda body: _workload("Deployment")  # type: ignore[method-assign]
    session = KubernetesSession(cluster, delete_unreachable=False)
    with pytest.raises(NotReadyError) as failure:
        session.create(Resource("kubernetes:apps/v1:Deployment", "d", 0.3), {"spec": SPEC})
    assert failure.value.resource_id == "n/d"
    assert failure.value.reasons == [
        "Deployment d: 0 of 1 replicas are available (0 of the new template) when 0.3 s passed",
        "Pod d-1, container c: ImagePullBackOff: no such image",
        "[Pod/d-1] Failed: not found",
    ]


def test_cancelling_ends_the_wait_and_keeps_the_object() -> None:
    cluster = Cluster(_workload("Deployment"))
    cluster.apply = lambda body: _workload("Deployment")  # type: ignore[method-assign]
    session = KubernetesSession(cluster, delete_unreachable=False)
    session.cancel()
    with pytest.raises(NotReadyError, match="the command was cancelled"):
        session.create(_at("Deployment"), {"spec": SPEC})


def test_a_deletion_that_hangs_names_what_holds_it() -> None:
    held = {"metadata": {"finalizers": ["x/y"]}}
    with pytest.raises(ProviderError, match=r"still being deleted; what holds it: \['x/y'\]"):
        wait_gone(lambda: cast("Props", held), "Namespace n", 0.2, Event())


@pytest.mark.parametrize(
    ("annotations", "custom", "seconds"),
    [({}, 0, 600), ({"pulumi.com/timeoutSeconds": "30"}, 0, 30), ({}, 5, 5)],
)
def test_how_long_is_waited(annotations: dict[str, str], custom: float, seconds: float) -> None:
    assert timeout_of({"metadata": {"annotations": annotations}}, custom) == seconds


def test_read_tells_inputs_as_they_are() -> None:
    live = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "managedFields": [], "labels": {}},
        "data": {"a": "2"},
    }  # fmt: skip
    inputs = {"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "1"}}
    found = _session(live).read(_at("ConfigMap"), "n/c", inputs)
    assert found is not None
    assert found.inputs == {"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "2"}}
    assert "managedFields" not in found.outputs["metadata"]
    imported = _session(live).read(_at("ConfigMap"), "n/c", {})
    assert imported is not None
    assert imported.inputs["metadata"] == {"name": "c", "namespace": "n", "labels": {}}
    assert _session(None).read(_at("ConfigMap"), "n/c", inputs) is None
