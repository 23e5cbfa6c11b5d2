"""One cluster's API for the kinds of object that `infra` declares: apply, read, list, delete.

A face of rehearsal.cluster.kubernetes: Pulumi's kubeconfig instead of a certificate, and errors in
the official provider's words. That is imported late, since a preview calls no cluster.
"""

import asyncio
import base64
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

import yaml

from rehearsal.machine.programs import AUTH_PLUGIN
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import ProviderError

FIELD_MANAGER = "pulumi-kubernetes"
_JSON, _APPLY = "application/json", "application/apply-patch+yaml"
_TIMEOUT_S = 30.0
_PATHS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Event": "/api/v1/namespaces/{namespace}/events",
    "Namespace": "/api/v1/namespaces",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
}


class UnreachableError(ProviderError):
    """The cluster does not answer."""


class _MissingError(ProviderError):
    """The object, or its namespace, does not exist."""


def active_cluster(kubeconfig: str) -> tuple[Props, Props]:
    """Return cluster and user of a kubeconfig's current context."""
    content = yaml.safe_load(kubeconfig)
    try:
        contexts, clusters, users = (
            {each["name"]: each[kind] for each in content[f"{kind}s"]}
            for kind in ("context", "cluster", "user")
        )
        context = contexts[content["current-context"]]
        return clusters[context["cluster"]], users[context["user"]]
    except (KeyError, TypeError) as error:
        raise ProviderError(f"kubeconfig is not complete: {error}") from error


class ClusterApi:
    """The objects of one cluster. Thread-safe; the cluster is first called when needed."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._access: tuple[str, ssl.SSLContext, dict[str, str]] | None = None

    def _call(
        self,
        method: str,
        path: str,
        body: Props | None = None,
        *,
        content: str = _JSON,
        **params: str,
    ) -> Props:
        from rehearsal.cluster import kubernetes  # noqa: PLC0415

        async def request() -> bytes:
            with self._lock:
                self._access = self._access or _access(*active_cluster(self._kubeconfig))
                server, tls, headers = self._access
            client = kubernetes.KubernetesClient(
                server, tls, connections=1, timeout_s=_TIMEOUT_S, headers=headers
            )
            try:
                return await client.request(method, path, body, content=content, params=params)
            finally:
                await client.close()

        try:
            try:
                return dict(json.loads(asyncio.run(request())))
            except kubernetes.UnauthorizedError:  # the token has ended
                self._access = None
                return dict(json.loads(asyncio.run(request())))
        except kubernetes.NotThereError as error:
            raise _MissingError(str(error)) from error
        except kubernetes.NoAnswerError as error:
            raise UnreachableError(
                f"configured Kubernetes cluster is unreachable: {error}; if it was deleted, set "
                "PULUMI_K8S_DELETE_UNREACHABLE=true to remove its objects from the state."
            ) from error
        except kubernetes.ClusterError as error:
            raise ProviderError(str(error)) from error

    def apply(self, body: Props) -> Props:
        """Apply server-side; return the object as it is then."""
        path = _path(body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"])
        return self._call(
            "PATCH", path, body, content=_APPLY, fieldManager=FIELD_MANAGER, force="false"
        )

    def find(self, kind: str, namespace: str, name: str) -> Props | None:
        """Return an object, None if there is none."""
        try:
            return self._call("GET", _path(kind, namespace, name))
        except _MissingError:
            return None

    def objects(self, kind: str, namespace: str, **selectors: str) -> list[Props]:
        """Return objects by labelSelector or fieldSelector."""
        return list(self._call("GET", _path(kind, namespace), None, **selectors).get("items", []))

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Request the deletion of an object and first of what it owns; no error if missing."""
        try:
            self._call("DELETE", _path(kind, namespace, name), {"propagationPolicy": "Foreground"})
        except _MissingError:
            return


def _access(cluster: Props, user: Props) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """Return the server's URL, how to verify it, and the headers that authenticate."""
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    return str(cluster["server"]), tls, {"Authorization": f"Bearer {_token(user)}"}


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    path = _PATHS[kind].format(namespace=namespace or "default")
    return f"{path}/{name}" if name else path


def _token(user: Mapping[str, Any]) -> str:
    """Return the token that the kubeconfig's plugin prints."""
    plugin = user.get("exec")
    if not plugin or plugin.get("command") != AUTH_PLUGIN:
        raise ProviderError(
            f"The fake kubernetes provider needs a kubeconfig with {AUTH_PLUGIN} as its exec "
            "plugin, and runs no other program."
        )
    command = [AUTH_PLUGIN, *(plugin.get("args") or [])]
    info = {"kind": "ExecCredential", "apiVersion": plugin["apiVersion"]}
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return str(json.loads(done.stdout)["status"]["token"])
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        raise ProviderError(
            f"{command[0]}, which the kubeconfig names, returned no credential: {error}"
        ) from error
