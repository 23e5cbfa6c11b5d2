"""The fake of Pulumi's kubernetes provider, for the kinds that `infra` declares."""

import os
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from rehearsal.pulumi.providers.kubernetes_api import ClusterApi, UnreachableError, active_cluster
from rehearsal.pulumi.providers.properties import Props, Rules, changes, has_unknown, refreshed
from rehearsal.pulumi.providers.protocol import (
    Checked,
    Difference,
    Found,
    NotReadyError,
    ProviderError,
    Resource,
    Session,
    refuse_import,
)
from rehearsal.pulumi.providers.shapes import Failure, input_class, refusals, shape_of

_MODULES = {
    "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition": "apiextensions.v1",
    "kubernetes:apps/v1:Deployment": "apps.v1",
    "kubernetes:core/v1:ConfigMap": "core.v1",
    "kubernetes:core/v1:Namespace": "core.v1",
    "kubernetes:core/v1:ServiceAccount": "core.v1",
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole": "rbac.v1",
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding": "rbac.v1",
}
"""Where the SDK has the input class of a type."""
_IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
_IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "ClusterRoleBinding": ("roleRef",),
    "ConfigMap": ("binaryData", "data", "immutable"),
    "Deployment": ("spec.selector",),
}
"""What cannot change in place, by kind (pulumi-kubernetes, provider/pkg/provider/diff.go)."""
_UNDERSCORED, _DASHED = "x_kubernetes_", "x-kubernetes-"
"""How a schema's extensions begin in SDKs, whose names have no dashes, and in the cluster
(pulumi-kubernetes, provider/pkg/provider/provider.go, mapReplUnderscoreToDash)."""
_DEFAULT_S = 600.0  # the official provider's
_SHORTEST_S, _LONGEST_S = 0.1, 2.0
_REASONS = 5


class KubernetesProvider:
    """The provider `kubernetes`."""

    name = "kubernetes"
    version = version("pulumi-kubernetes")

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """Return kubeconfig if it is unknown or of another cluster: that replaces everything."""
        before, after = old.get("kubeconfig", ""), new.get("kubeconfig", "")
        if before == after:
            return []
        if has_unknown(after) or active_cluster(before)[0] != active_cluster(after)[0]:
            return ["kubeconfig"]
        return []

    def configure(self, config: Mapping[str, str]) -> Session:
        """Make a session; the cluster is not called yet."""
        kubeconfig = config.get("kubeconfig")
        if not kubeconfig:
            raise ProviderError(
                "The kubernetes provider needs a kubeconfig; nothing is read from the machine."
            )
        unreachable = os.environ.get("PULUMI_K8S_DELETE_UNREACHABLE", "")
        return KubernetesSession(
            ClusterApi(kubeconfig), delete_unreachable=unreachable.lower() == "true"
        )

    def warm_up(self) -> None:
        """Load the SDK's types before the first check needs them."""
        for each in _MODULES:
            shape_of(_input_class(each))


class KubernetesSession:
    """One configured kubernetes provider."""

    def __init__(self, api: ClusterApi, *, delete_unreachable: bool) -> None:
        self._api = api
        self._delete_unreachable = delete_unreachable
        self._cancelled = threading.Event()

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """Refuse what the SDK's types refuse, and what is not implemented."""
        if resource.type not in _MODULES:
            raise ProviderError(
                f"The fake kubernetes provider does not implement {resource.type} "
                f"({resource.name}); install the official plugin to use it."
            )
        subject = f"{_kind(resource)} {resource.name!r}"
        failures = refusals(_input_class(resource.type), new, subject)
        if not failures and not new.get("metadata", {}).get("name"):
            path = "metadata.name"
            reason = (
                f"{subject} needs the property {path}: the fake kubernetes provider generates none."
            )
            failures = [Failure(path, reason)]
        return Checked(new, failures)

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """Compare inputs with inputs: the API server's own defaults are no changes."""
        found = changes(_rules(resource), {}, old, new)
        replaced = any(change.replace for change in found)
        return Difference(found, delete_first=replaced and _identity(old) == _identity(new))

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Apply and wait."""
        body = self._apply(resource, inputs)
        resource_id = "/".join(filter(None, _identity(body)))
        return resource_id, self._ready(resource, resource_id, body)

    def _apply(self, resource: Resource, inputs: Props) -> Props:
        given = {key: item for key, item in inputs.items() if not key.startswith("__")}
        api_version = resource.type.split(":")[1].removeprefix("core/")
        body = {"apiVersion": api_version, "kind": _kind(resource), **given}
        return self._api.apply(_renamed(body, _UNDERSCORED, _DASHED))

    def _ready(self, resource: Resource, resource_id: str, body: Props) -> Props:
        """Wait until an object is ready; return its outputs."""
        timeout_s, kind = resource.timeout_s or _DEFAULT_S, _kind(resource)
        end, pause = time.monotonic() + timeout_s, _SHORTEST_S
        while lacking := unready(body):
            if self._cancelled.is_set() or time.monotonic() + pause > end:
                cancelled = self._cancelled.is_set()
                why = "the command was cancelled" if cancelled else f"{timeout_s:g} s passed"
                reasons = [f"{kind} {body['metadata']['name']}: {lacking} when {why}"]
                reasons += self._reasons(body)
                raise NotReadyError(resource_id, _outputs(body), reasons)
            self._cancelled.wait(pause)
            pause = min(pause * 1.3, _LONGEST_S)
            found = self._find(resource, resource_id)
            if found is None:
                raise ProviderError(f"{kind} {resource_id} was deleted by another client.")
            body = found
        return _outputs(body)

    def _reasons(self, body: Props) -> list[str]:
        """Return why a Deployment is not ready: what its pods wait for, and latest warnings."""
        labels = body["spec"]["selector"]["matchLabels"]
        namespace = body["metadata"].get("namespace", "")
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self._api.objects("Pod", namespace, labelSelector=selector)
        names = {each["metadata"]["name"] for each in (*pods, body)}
        warnings = [
            f"[{event['involvedObject'].get('kind')}/{event['involvedObject'].get('name')}] "
            f"{event.get('reason')}: {event.get('message')}"
            for event in self._api.objects("Event", namespace, fieldSelector="type=Warning")
            if event.get("involvedObject", {}).get("name") in names
        ]
        return [*_waiting(pods), *dict.fromkeys(warnings)][:_REASONS]

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it, with its inputs as they are in the cluster."""
        if not inputs:
            raise refuse_import(resource)
        body = self._find(resource, resource_id)
        if body is None:
            return None
        outputs = _outputs(body)
        return Found(resource_id, refreshed(_rules(resource), inputs, outputs), outputs)

    def _find(self, resource: Resource, resource_id: str) -> Props | None:
        namespace, _, name = resource_id.rpartition("/")
        return self._api.find(_kind(resource), namespace, name)

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Apply and wait; the server removes what this field manager no longer gives."""
        return self._ready(resource, resource_id, self._apply(resource, new))

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Delete and wait until the object is deleted."""
        namespace, _, name = resource_id.rpartition("/")
        kind, end = _kind(resource), time.monotonic() + (resource.timeout_s or _DEFAULT_S)
        pause = _SHORTEST_S
        try:
            self._api.remove(kind, namespace, name)
            while (body := self._find(resource, resource_id)) is not None:
                if self._cancelled.is_set() or time.monotonic() + pause > end:
                    held = body["metadata"].get("finalizers") or "its contents"
                    raise ProviderError(f"{kind} {name} is still being deleted, held by {held}.")
                self._cancelled.wait(pause)
                pause = min(pause * 1.3, _LONGEST_S)
        except UnreachableError:
            if not self._delete_unreachable:
                raise

    def cancel(self) -> None:
        """Stop waiting; the state keeps what is not ready."""
        self._cancelled.set()


def _kind(resource: Resource) -> str:
    return resource.type.rpartition(":")[2]


def _input_class(resource_type: str) -> type:
    kind = resource_type.rpartition(":")[2]
    return input_class(f"pulumi_kubernetes.{_MODULES[resource_type]}", f"{kind}InitArgs")


def _rules(resource: Resource) -> Rules:
    return Rules(replace=(*_IDENTITY, *_IMMUTABLE.get(_kind(resource), ())))


def _identity(inputs: Props) -> tuple[str, str]:
    metadata = inputs.get("metadata", {})
    return metadata.get("namespace", ""), metadata.get("name", "")


def _outputs(body: Props) -> Props:
    metadata = {key: item for key, item in body["metadata"].items() if key != "managedFields"}
    outputs: Props = _renamed({**body, "metadata": metadata}, _DASHED, _UNDERSCORED)
    return outputs


def _renamed(value: Any, old: str, new: str) -> Any:
    """Return a value whose keys that begin with `old` begin with `new`, and have its dashes."""
    if isinstance(value, list):
        return [_renamed(each, old, new) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key.replace(old[1], new[1]) if key.startswith(old) else key: _renamed(each, old, new)
        for key, each in value.items()
    }


def unready(body: Props) -> str:
    """Return what a Deployment still lacks, '' if it is ready; other kinds always are.

    The official provider waits for no CustomResourceDefinition (pulumi-kubernetes,
    provider/pkg/await/awaiters.go).
    """
    if body.get("kind") != "Deployment":
        return ""
    status, desired = body.get("status", {}), body.get("spec", {}).get("replicas", 1)
    if status.get("observedGeneration", 0) < body["metadata"].get("generation", 0):
        return "its controller has not seen it yet"
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    if all(count == desired for count in counts):
        return ""
    return f"{counts[2]} of {desired} replicas are available ({counts[0]} of the new template)"


def _waiting(pods: list[Props]) -> list[str]:
    found: list[str] = []
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        found += [
            f"Pod {name}: {condition['reason']}: {condition.get('message', '')}"
            for condition in status.get("conditions", [])
            if condition.get("status") == "False" and condition.get("reason") == "Unschedulable"
        ]
        for container in status.get("containerStatuses", []):
            if waiting := container.get("state", {}).get("waiting"):
                why = f"{waiting.get('reason')}: {waiting.get('message', '')}"
                found.append(f"Pod {name}, container {container['name']}: {why}")
    return found
