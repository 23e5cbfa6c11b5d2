"""The thin stand-in of Pulumi's kubernetes provider: objects of any kind, by server-side apply.

Deliberately without Helm, kustomize, YAML files, and the SDK's List and Patch resources.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from kubernetes.utils import parse_quantity

from rehearsal.pulumi.providers.base import (
    Checked,
    Difference,
    Found,
    NotReadyError,
    ProviderError,
    Resource,
    Session,
)
from rehearsal.pulumi.providers.differences import Rules, changes, refreshed
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi, UnreachableError, load_kubeconfig
from rehearsal.pulumi.providers.kubernetes_waits import (
    NeverReadyError,
    timeout_of,
    wait_gone,
    wait_ready,
)
from rehearsal.pulumi.providers.properties import Props, has_unknown, merged
from rehearsal.pulumi.providers.shapes import Failure, input_class, refusals, shape_of

_AUTONAMED = "pulumi.com/autonamed"
_SUFFIX = 8
_LONGEST_NAME = 63
_SERVER_SIDE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
_IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
_WORKLOAD_SELECTOR = ("spec.selector",)
_IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "ClusterRoleBinding": ("roleRef",),
    "ConfigMap": ("binaryData", "data", "immutable"),
    "DaemonSet": _WORKLOAD_SELECTOR,
    "Deployment": _WORKLOAD_SELECTOR,
    "Job": ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    "PersistentVolumeClaim": ("spec",),
    "Pod": ("spec",),
    "RoleBinding": ("roleRef",),
    "Secret": ("data", "immutable", "stringData", "type"),
    "Service": ("spec.clusterIP",),
    "StatefulSet": (
        "spec.podManagementPolicy", "spec.selector", "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    "StorageClass": ("parameters", "provisioner"),
}  # fmt: skip
"""By kind, what cannot change in place (pulumi-kubernetes, provider/pkg/provider/diff.go)."""


class KubernetesProvider:
    """The provider `kubernetes`."""

    name = "kubernetes"
    version = version("pulumi-kubernetes")

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """A kubeconfig of another cluster, or one that is not known yet, makes everything anew."""
        keys = ("kubeconfig", "context", "cluster")
        unknown = [key for key in keys if has_unknown(new.get(key))]
        if unknown:
            return unknown
        if old.get("clusterIdentifier") or new.get("clusterIdentifier"):
            same = old.get("clusterIdentifier") == new.get("clusterIdentifier")
            return [] if same else ["clusterIdentifier"]
        try:
            same = _active_cluster(old) == _active_cluster(new)
        except ProviderError:
            same = old.get("kubeconfig") == new.get("kubeconfig")
        return [] if same else [key for key in keys if old.get(key) != new.get(key)]

    def configure(self, config: Mapping[str, str]) -> Session:
        """A session; the cluster is first called when an object needs it.

        Raises:
            ProviderError: there is no kubeconfig.
        """
        kubeconfig = config.get("kubeconfig")
        if not kubeconfig:
            raise ProviderError(
                "The kubernetes provider needs a kubeconfig; nothing is read from the machine."
            )
        unreachable = config.get("deleteUnreachable") or os.environ.get(
            "PULUMI_K8S_DELETE_UNREACHABLE", ""
        )
        api = ClusterApi(
            kubeconfig, config.get("context") or None, config.get("namespace") or "default"
        )
        return KubernetesSession(api, delete_unreachable=unreachable.lower() == "true")

    def warm_up(self) -> None:
        """Load the SDK's types before the first check needs them."""
        for module, kind in (("core.v1", "ConfigMap"), ("apps.v1", "Deployment")):
            args = input_class(f"pulumi_kubernetes.{module}", f"{kind}InitArgs")
            if args is not None:
                shape_of(args)


class KubernetesSession:
    """One configured kubernetes provider."""

    def __init__(self, api: ClusterApi, *, delete_unreachable: bool) -> None:
        self._api = api
        self._delete_unreachable = delete_unreachable
        self._cancelled = threading.Event()

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """A name, and what the SDK's types refuse."""
        group, kind = _group_and_kind(resource)
        args = input_class(_module(group), f"{kind}InitArgs")
        failures = refusals(args, new, f"{kind} {resource.name!r}") if args else []
        if args is None and input_class(_module(group), f"{kind}Args"):
            failures = [
                Failure(
                    "kind",
                    f"The stand-in of the kubernetes provider does not implement {resource.type}; "
                    "install the official plugin to use it.",
                )
            ]
        if failures:
            return Checked(new, failures)
        return Checked(_named(resource.name, old, new, seed))

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """Inputs with inputs: the API server's own defaults are no changes."""
        found = changes(_rules(resource), {}, old, new)
        replaced = any(change.replace for change in found)
        fixed_name = new.get("metadata", {}).get("annotations", {}).get(_AUTONAMED) != "true"
        same = _identity(old) == _identity(new)
        return Difference(found, delete_first=replaced and fixed_name and same)

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Apply and wait."""
        body = self._api.apply(_object(resource, inputs))
        resource_id = _id(body)
        return resource_id, self._ready(resource, resource_id, body)

    def _ready(self, resource: Resource, resource_id: str, body: Props) -> Props:
        timeout_s = timeout_of(body, resource.timeout_s)
        try:
            return _outputs(wait_ready(self._api, body, timeout_s, self._cancelled))
        except NeverReadyError as error:
            reasons = [str(each) for each in error.args]
            raise NotReadyError(resource_id, _outputs(body), reasons) from error

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it, with inputs that say what is really there."""
        body = self._find(resource, resource_id)
        if body is None:
            return None
        outputs = _outputs(body)
        if inputs:
            return Found(resource_id, refreshed(_rules(resource), inputs, outputs), outputs)
        metadata = {
            key: item for key, item in outputs["metadata"].items() if key not in _SERVER_SIDE
        }
        imported = {key: item for key, item in outputs.items() if key != "status"}
        return Found(resource_id, {**imported, "metadata": metadata}, outputs)

    def _find(self, resource: Resource, resource_id: str) -> Props | None:
        namespace, _, name = resource_id.rpartition("/")
        group, kind = _group_and_kind(resource)
        return self._api.find(group.removeprefix("core/"), kind, namespace or None, name)

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Apply and wait; what the program no longer gives goes with the field manager."""
        body = self._api.apply(_object(resource, new))
        return self._ready(resource, resource_id, body)

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Delete and wait until it is gone."""
        namespace, _, name = resource_id.rpartition("/")
        group, kind = _group_and_kind(resource)
        timeout_s = timeout_of(state, resource.timeout_s)
        try:
            self._api.remove(group.removeprefix("core/"), kind, namespace or None, name)
            wait_gone(
                lambda: self._find(resource, resource_id), f"{kind} {name}", timeout_s,
                self._cancelled,
            )  # fmt: skip
        except UnreachableError:
            if not self._delete_unreachable:
                raise

    def cancel(self) -> None:
        """Stop waiting; the state keeps what is not ready."""
        self._cancelled.set()


def _group_and_kind(resource: Resource) -> tuple[str, str]:
    """The group and version (core/v1, apps/v1) and the kind of a type token."""
    _, group, kind = resource.type.split(":")
    return group, kind


def _module(group: str) -> str:
    """The SDK's module of a group: rbac.authorization.k8s.io/v1 is pulumi_kubernetes.rbac.v1."""
    name, _, api_version = group.partition("/")
    return f"pulumi_kubernetes.{name.partition('.')[0]}.{api_version}"


def _rules(resource: Resource) -> Rules:
    _, kind = _group_and_kind(resource)
    return Rules(replace=(*_IDENTITY, *_IMMUTABLE.get(kind, ())), equal=_same_quantity)


def _same_quantity(path: str, one: Any, other: Any) -> bool:
    """Whether both are one amount of a resource: the API server writes 0.5 CPUs as 500m."""
    if not any(word in path for word in (".limits", ".requests", ".capacity", ".hard")):
        return False
    try:
        return bool(parse_quantity(one) == parse_quantity(other))
    except ValueError:
        return False


def _identity(inputs: Props) -> tuple[Any, Any]:
    metadata = inputs.get("metadata", {})
    return metadata.get("namespace"), metadata.get("name")


def _named(name: str, old: Props, new: Props, seed: bytes) -> Props:
    """Inputs with a name: the given one, the one made up before, or a new one."""
    if new.get("metadata", {}).get("name"):
        return new
    before = old.get("metadata", {})
    if before.get("annotations", {}).get(_AUTONAMED) == "true":
        made_up = before["name"]
    else:
        suffix = hashlib.sha256(seed).hexdigest()[:_SUFFIX]
        made_up = f"{name[: _LONGEST_NAME - _SUFFIX - 1]}-{suffix}".lower()
    return merged(new, {"metadata": {"name": made_up, "annotations": {_AUTONAMED: "true"}}})


def _object(resource: Resource, inputs: Props) -> Props:
    group, kind = _group_and_kind(resource)
    identity = {"apiVersion": group.removeprefix("core/"), "kind": kind}
    return {**identity, **{key: item for key, item in inputs.items() if not key.startswith("__")}}


def _id(body: Props) -> str:
    metadata = body["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _outputs(body: Props) -> Props:
    metadata = {key: item for key, item in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _active_cluster(config: Props) -> Any:
    """Server and certificate authority of the cluster that a configuration leads to."""
    kubeconfig = load_kubeconfig(config.get("kubeconfig", ""))
    context = config.get("context") or kubeconfig.get("current-context")
    contexts = {each["name"]: each["context"] for each in kubeconfig.get("contexts", [])}
    clusters = {each["name"]: each["cluster"] for each in kubeconfig.get("clusters", [])}
    return clusters.get(config.get("cluster") or contexts.get(context, {}).get("cluster"))
