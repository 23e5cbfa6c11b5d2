"""One cluster's API, for objects of any kind: apply, read, delete.

Built on the official client's dynamic client. Deliberately without watches: who waits, polls.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import urllib3
import yaml
from kubernetes import config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError

from rehearsal.machine.home import HOME_VARIABLE
from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.properties import Props

FIELD_MANAGER = "pulumi-kubernetes"
_REQUEST_S = 30
_T = TypeVar("_T")

SCRATCH = Path(os.environ.get(HOME_VARIABLE) or tempfile.gettempdir()) / f"providers-{uuid4().hex}"
"""Where the official client puts certificates and discovery while this process lives.

In a rehearsal's home, so that it goes with it even if this process is killed.
"""


class UnreachableError(ProviderError):
    """The cluster does not answer."""


class NoSuchKindError(ProviderError):
    """The cluster has no such kind of object."""


def load_kubeconfig(text: str) -> Props:
    """A kubeconfig from YAML, or from the file of that path.

    Raises:
        ProviderError: it is neither.
    """
    content = yaml.safe_load(text)
    if isinstance(content, str):
        try:
            content = yaml.safe_load(Path(content).expanduser().read_text())
        except OSError as error:
            raise ProviderError(f"kubeconfig is neither YAML nor a file: {error}") from error
    if not isinstance(content, dict):
        raise ProviderError("kubeconfig is no YAML mapping, so no cluster can be found in it.")
    return content


class ClusterApi:
    """The objects of one cluster. Safe to use from many threads."""

    def __init__(self, kubeconfig: str, context: str | None, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._namespace = namespace
        self._lock = threading.Lock()
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        with self._lock:  # the kubeconfig's plugin runs once, however many objects are made at once
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Any:
        SCRATCH.mkdir(mode=0o700, parents=True, exist_ok=True)
        kubeconfig = load_kubeconfig(self._kubeconfig)
        client = config.new_client_from_config_dict(
            kubeconfig,
            context=self._context,
            persist_config=False,
            temp_file_path=str(SCRATCH),
        )
        # The official client only logs that a plugin failed, and then asks without a credential.
        plugin = _plugin(kubeconfig, self._context)
        if plugin and not (client.configuration.api_key or client.configuration.cert_file):
            raise ProviderError(
                f"{plugin}, which the kubeconfig names, gave no credential; run it by hand to see "
                "why."
            )
        return DynamicClient(client, cache_file=str(SCRATCH / f"discovery-{uuid4().hex}.json"))

    def _call(self, call: Callable[[], _T], subject: str) -> _T:
        try:
            return call()
        except ResourceNotFoundError as error:
            raise NoSuchKindError(f"The cluster has no such kind of object: {subject}.") from error
        except NotFoundError:
            raise
        except (DynamicApiError, ApiException) as error:
            raise ProviderError(f"{subject}: {_said(error)}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(
                f"configured Kubernetes cluster is unreachable: {error}; if it was deleted, set "
                "PULUMI_K8S_DELETE_UNREACHABLE=true to let its objects go from the state."
            ) from error
        except config.ConfigException as error:
            raise ProviderError(f"kubeconfig cannot be used: {error}") from error

    def _kind(self, api_version: str, kind: str) -> Any:
        resources = self._client.resources
        with self._lock:
            return resources.get(api_version=api_version, kind=kind)

    def namespace_of(self, body: Mapping[str, Any]) -> str | None:
        """The namespace of an object, None if its kind has none.

        Raises:
            ProviderError: the cluster does not answer or has no such kind.
        """
        subject = f"{body['apiVersion']} {body['kind']}"
        kind = self._call(lambda: self._kind(body["apiVersion"], body["kind"]), subject)
        if not kind.namespaced:
            return None
        return str(body.get("metadata", {}).get("namespace") or self._namespace)

    def apply(self, body: Props) -> Props:
        """Server-side apply; the object as it is then.

        Raises:
            ProviderError: the API server refuses it.
        """
        namespace = self.namespace_of(body)
        name = body["metadata"]["name"]

        def call() -> Props:
            kind = self._kind(body["apiVersion"], body["kind"])
            answer = self._client.server_side_apply(
                kind, body, name=name, namespace=namespace, field_manager=FIELD_MANAGER,
                force_conflicts=False, _request_timeout=_REQUEST_S,
            )  # fmt: skip
            return dict(answer.to_dict())

        try:
            return self._call(call, f"{body['kind']} {name}")
        except NotFoundError as error:  # its namespace
            raise ProviderError(f"{body['kind']} {name}: {_said(error)}") from error

    def find(self, api_version: str, kind: str, namespace: str | None, name: str) -> Props | None:
        """An object, None if there is none.

        Raises:
            ProviderError: the cluster does not answer or has no such kind.
        """

        def call() -> Props:
            answer = self._client.get(
                self._kind(api_version, kind), name=name, namespace=namespace,
                _request_timeout=_REQUEST_S,
            )  # fmt: skip
            return dict(answer.to_dict())

        try:
            return self._call(call, f"{kind} {name}")
        except NotFoundError:
            return None

    def objects(
        self, api_version: str, kind: str, namespace: str | None, **selectors: str
    ) -> list[Props]:
        """Objects by label_selector or field_selector.

        Raises:
            ProviderError: the cluster does not answer or has no such kind.
        """

        def call() -> list[Props]:
            answer = self._client.get(
                self._kind(api_version, kind), namespace=namespace,
                _request_timeout=_REQUEST_S, **selectors,
            )  # fmt: skip
            return list(answer.to_dict().get("items", []))

        return self._call(call, kind)

    def remove(self, api_version: str, kind: str, namespace: str | None, name: str) -> None:
        """Ask for an object's deletion, what it owns first; no error if there is none.

        Raises:
            ProviderError: the cluster does not answer or refuses.
        """

        def call() -> None:
            self._client.delete(
                self._kind(api_version, kind), name=name, namespace=namespace,
                propagation_policy="Foreground", _request_timeout=_REQUEST_S,
            )  # fmt: skip

        try:
            self._call(call, f"{kind} {name}")
        except (NotFoundError, NoSuchKindError):
            return


def _plugin(kubeconfig: Props, context: str | None) -> str | None:
    """The command that gives the active user's credential, None if none is asked for."""
    contexts = {each["name"]: each["context"] for each in kubeconfig.get("contexts", [])}
    users = {each["name"]: each["user"] for each in kubeconfig.get("users", [])}
    active = contexts.get(context or kubeconfig.get("current-context"), {}).get("user")
    command = users.get(active, {}).get("exec", {}).get("command")
    return None if command is None else str(command)


def _said(error: DynamicApiError | ApiException) -> str:
    content = yaml.safe_load(error.body or "{}") if error.body else {}
    message = content.get("message") if isinstance(content, dict) else None
    return str(message or f"{error.status} {error.reason}")
