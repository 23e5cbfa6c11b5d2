"""The runner's Kubernetes client: the only module that speaks to the API server.

It lists, creates, patches, deletes and follows objects as plain dictionaries; what they mean is
decided elsewhere. Reads are retried where the server asks for it; following survives a cut or
expired watch by listing anew, so nothing that still exists is missed.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3
import yaml
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from experiment.errors import MeasureError

Obj = dict[str, Any]
Handler = Callable[[str, Obj], None]

_CONNECT_S = 10
_READ_S = 60
_TRIES = 6
_WATCH_S = 240
_CLOSE_S = 3
_RETRIED = {429, 500, 502, 503, 504}
_POOL = 32
_TROUBLE = (ApiException, urllib3.exceptions.HTTPError, OSError)


class Kube:
    """A connection to one cluster.

    Args:
        kubeconfig: YAML text; its exec plugin gives and renews the credentials.

    Raises:
        MeasureError: from every method, when the API server refuses or cannot be reached.
    """

    def __init__(self, kubeconfig: str) -> None:
        settings = client.Configuration()
        settings.connection_pool_maxsize = _POOL
        config.load_kube_config_from_dict(yaml.safe_load(kubeconfig), client_configuration=settings)
        self._api = client.ApiClient(settings)
        self._core = client.CoreV1Api(self._api)
        self._batch = client.BatchV1Api(self._api)
        self._version = client.VersionApi(self._api)

    def server_version(self) -> str:
        """The API server's version, such as v1.34.1."""
        return str(self._get(self._version.get_code)["gitVersion"])

    def nodes(self, selector: str) -> list[Obj]:
        """Nodes that a label selector picks, by name."""
        items = self._get(self._core.list_node, label_selector=selector)["items"]
        return sorted(items, key=lambda node: str(node["metadata"]["name"]))

    def ensure_namespace(self, name: str) -> None:
        """Create a namespace unless it is there."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._create(self._core.create_namespace, body=body)

    def create_job(self, body: Obj) -> None:
        """Create a Job; one of the same name that is there already is the same Job."""
        namespace = body["metadata"]["namespace"]
        self._create(self._batch.create_namespaced_job, namespace=namespace, body=body)

    def create_event(self, body: Obj) -> None:
        """Create an event."""
        namespace = body["metadata"]["namespace"]
        self._create(self._core.create_namespaced_event, namespace=namespace, body=body)

    def delete_job(self, namespace: str, name: str) -> None:
        """Ask for a Job and its pods to be deleted in the background; gone is fine."""
        options = client.V1DeleteOptions(propagation_policy="Background", grace_period_seconds=0)
        try:
            self._call(self._batch.delete_namespaced_job, name, namespace, body=options)
        except ApiException as error:
            if error.status != 404:  # noqa: PLR2004
                raise _as_error(error) from None

    def patch_pod(self, namespace: str, name: str, patch: list[Obj]) -> None:
        """Apply a JSON patch to a pod."""
        try:
            self._call(self._core.patch_namespaced_pod, name, namespace, body=patch)
        except ApiException as error:
            raise _as_error(error) from None

    def follow_events(self, handle: Handler) -> "Follower":
        """Follow the events of all namespaces until the follower is closed."""
        return Follower("events", self._core.list_event_for_all_namespaces, {}, handle)

    def follow_pods(self, namespace: str, handle: Handler) -> "Follower":
        """Follow the pods of a namespace."""
        arguments = {"namespace": namespace}
        return Follower("pods", self._core.list_namespaced_pod, arguments, handle)

    def _get(self, method: Callable[..., Any], **arguments: Any) -> Obj:
        try:
            return dict(json.loads(self._call(method, _preload_content=False, **arguments).data))
        except ApiException as error:
            raise _as_error(error) from None

    def _create(self, method: Callable[..., Any], **arguments: Any) -> None:
        try:
            self._call(method, **arguments)
        except ApiException as error:
            if error.status != 409:  # noqa: PLR2004 (it exists: an earlier try was heard)
                raise _as_error(error) from None

    def _call(self, method: Callable[..., Any], *positional: Any, **arguments: Any) -> Any:
        for attempt in range(_TRIES):
            try:
                return method(*positional, _request_timeout=(_CONNECT_S, _READ_S), **arguments)
            except ApiException as error:
                if error.status not in _RETRIED or attempt == _TRIES - 1:
                    raise
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if attempt == _TRIES - 1:
                    raise MeasureError(
                        f"The cluster's API server does not answer: {error}.", "kubectl get nodes"
                    ) from None
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the loop above returns or raises")


class Follower:
    """A thread that lists a kind of object and watches it from there, until closed.

    `handle` is called in that thread with ADDED, MODIFIED or DELETED and the object: once per
    object listed and once per change. After a cut an object may be handed on twice.
    """

    def __init__(
        self, name: str, method: Callable[..., Any], arguments: Obj, handle: Handler
    ) -> None:
        self._method = method
        self._arguments = arguments
        self._handle = handle
        self._closing = threading.Event()
        self._listed = threading.Event()
        self._version = ""
        self._watch = watch.Watch(return_type=object)
        self.cuts: list[str] = []
        """Why a watch ended before its time, one entry a cut."""
        self._thread = threading.Thread(target=self._run, name=f"follow-{name}", daemon=True)
        self._thread.start()
        self._listed.wait(_READ_S)

    def close(self) -> None:
        """Stop following; what comes later is not handed on."""
        self._closing.set()
        self._watch.stop()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if not self._version:
                    self._list()
                self._follow()
            except _TROUBLE as error:
                if not self._closing.is_set():
                    self.cuts.append(str(error).splitlines()[0])
                    self._version = ""
                    self._closing.wait(0.5)

    def _list(self) -> None:
        response = self._method(
            **self._arguments, _preload_content=False, _request_timeout=(_CONNECT_S, _READ_S)
        )
        listed = json.loads(response.data)
        for item in listed["items"]:
            self._handle("ADDED", item)
        self._version = str(listed["metadata"]["resourceVersion"])
        self._listed.set()

    def _follow(self) -> None:
        stream = self._watch.stream(
            self._method,
            **self._arguments,
            resource_version=self._version,
            timeout_seconds=_WATCH_S,
            _request_timeout=(_CONNECT_S, _WATCH_S + _READ_S),
        )
        for change in stream:
            if self._closing.is_set():
                return
            item = change["raw_object"]
            if change["type"] == "ERROR":
                raise ApiException(status=item.get("code"), reason=item.get("message"))
            self._version = str(item["metadata"]["resourceVersion"])
            self._handle(change["type"], item)


def _as_error(error: ApiException) -> MeasureError:
    try:
        reason = json.loads(error.body or "{}")["message"]
    except (TypeError, ValueError, KeyError):
        reason = error.reason
    return MeasureError(
        f"The cluster's API server refused a request ({error.status}): {reason}.",
        "kubectl auth can-i --list shows what you may do on this cluster",
    )
