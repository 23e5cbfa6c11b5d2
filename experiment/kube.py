"""The runner's Kubernetes client: the only module that speaks to the API server.

It reads, creates, patches, deletes and streams objects as plain dictionaries; what they mean is
decided elsewhere. Every request but a watch is tried again where the server or the network asks
for it, and none is ever turned into the client library's models: at 256 nodes that alone would
take longer than binding the pods.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec
import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from experiment.errors import MeasureError

Obj = dict[str, Any]

_CONNECT_S = 10
_READ_S = 60
_SILENCE_S = 150
"""A watch that brings nothing, not even a bookmark, for so long is cut: they come each minute."""
_TRIES = 6
_CONNECTIONS = 64
_RETRIED = {429, 500, 502, 503, 504}
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"


class Refused(Exception):
    """A request that failed, with the server's HTTP status, or 0 where there was no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def as_error(self) -> MeasureError:
        """For the user."""
        if not self.status:
            return MeasureError(
                f"The cluster's API server does not answer: {self.reason}.", "kubectl get nodes"
            )
        return MeasureError(
            f"The cluster's API server refused a request ({self.status}): {self.reason}.",
            "kubectl auth can-i --list shows what you may do on this cluster",
        )


class Kube:
    """A connection to one cluster, for several threads.

    Args:
        kubeconfig: YAML text; its exec plugin gives and renews the credentials.

    Raises:
        MeasureError: from every method but `watch` and `list`, when the API server refuses or
            cannot be reached.
    """

    def __init__(self, kubeconfig: str) -> None:
        settings = client.Configuration()
        settings.connection_pool_maxsize = _CONNECTIONS
        settings.retries = False  # it is done here, where a refusal's meaning is known
        config.load_kube_config_from_dict(yaml.safe_load(kubeconfig), client_configuration=settings)
        self._api = client.ApiClient(settings)
        self.repeated: Counter[str] = Counter()
        """How often requests were made again, by HTTP status or `no answer`."""

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def server_version(self) -> str:
        """The API server's version, such as v1.34.1."""
        return str(self._get("/version")["gitVersion"])

    def cluster_uid(self) -> str:
        """What tells this cluster from every other: the uid of its namespace kube-system."""
        return str(self._get("/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def nodes(self, selector: str) -> list[Obj]:
        """Nodes that a label selector picks, by name."""
        items = self._get("/api/v1/nodes", {"labelSelector": selector})["items"]
        return sorted(items, key=lambda node: str(node["metadata"]["name"]))

    def label_node(self, node: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node; None takes one away."""
        try:
            body = {"metadata": {"labels": dict(labels)}}
            self._call("PATCH", f"/api/v1/nodes/{node}", body=body, content=_MERGE_PATCH)
        except Refused as refused:
            raise refused.as_error() from None

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Whether the caller may do this to a kind of object, in every namespace."""
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        try:
            return bool(self._decoded(self._call("POST", path, body=body))["status"]["allowed"])
        except Refused as refused:
            raise refused.as_error() from None

    def node_stats(self, node: str) -> Obj:
        """The kubelet's stats/summary of a node, through the API server."""
        return self._get(f"/api/v1/nodes/{node}/proxy/stats/summary")

    def ensure_namespace(self, name: str) -> None:
        """Create a namespace unless it is there."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._create("/api/v1/namespaces", body)

    def create_job(self, body: Obj) -> None:
        """Create a Job; one of the same name that is there already is the same Job."""
        self._create(_jobs(body["metadata"]["namespace"]), body)

    def create_event(self, body: Obj) -> None:
        """Create an event."""
        self._create(f"/api/v1/namespaces/{body['metadata']['namespace']}/events", body)

    def delete_job(self, namespace: str, name: str) -> None:
        """Ask for a Job and its pods to be deleted in the background; gone is fine."""
        self._delete(f"{_jobs(namespace)}/{name}", {})

    def delete_jobs(self, namespace: str) -> None:
        """Ask for all Jobs of a namespace to be deleted, and their pods."""
        self._delete(_jobs(namespace), {})

    def pod_count(self, namespace: str) -> int:
        """How many pods a namespace holds."""
        found = self._get(f"/api/v1/namespaces/{namespace}/pods", {"limit": "1"})
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)

    def patch_pod(self, namespace: str, name: str, patch: list[Obj]) -> None:
        """Apply a JSON patch to a pod."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        try:
            self._call("PATCH", path, body=patch, content=_JSON_PATCH)
        except Refused as refused:
            # what it would remove is gone: an earlier try was heard
            if refused.status != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise refused.as_error() from None

    def list(self, path: str, query: Mapping[str, str]) -> Obj:
        """One page of a list.

        Raises:
            Refused: as the server says.
        """
        return self._decoded(self._call("GET", path, query=query))

    def watch(self, path: str, query: Mapping[str, str], *, seconds: int) -> Iterator[bytes]:
        """Stream a watch, in pieces as they come, until the server ends it after this time.

        Raises:
            Refused: as the server says, or when the connection is cut or silent.
        """
        asked = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        answer = self._send("GET", path, query=asked, read_s=_SILENCE_S)
        try:
            yield from answer.stream()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Refused(0, _one_line(error)) from None
        finally:
            answer.close()
            answer.release_conn()

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Obj:
        try:
            return self._decoded(self._call("GET", path, query=query))
        except Refused as refused:
            raise refused.as_error() from None

    def _create(self, path: str, body: Obj) -> None:
        try:
            self._call("POST", path, body=body)
        except Refused as refused:
            if refused.status != HTTPStatus.CONFLICT:  # it exists: an earlier try was heard
                raise refused.as_error() from None

    def _delete(self, path: str, query: Mapping[str, str]) -> None:
        options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
        try:
            self._call("DELETE", path, query=query, body=options)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise refused.as_error() from None

    def _call(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = _JSON,
    ) -> bytes:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._send(verb, path, query=query, body=body, content=content).data
            except Refused as refused:
                if attempt == _TRIES or (refused.status and refused.status not in _RETRIED):
                    raise
                self.repeated[str(refused.status or "no answer")] += 1
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if attempt == _TRIES:
                    raise Refused(0, _one_line(error)) from None
            time.sleep(0.1 * 2**attempt)
        raise AssertionError("the loop above returns or raises")

    def _send(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = _JSON,
        read_s: float = _READ_S,
    ) -> urllib3.HTTPResponse:
        request = self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": _JSON, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=(_CONNECT_S, read_s))
        except ApiException as error:
            raise Refused(int(error.status or 0), str(error.reason)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Refused(0, _one_line(error)) from None
        raw = cast("urllib3.HTTPResponse", answer.response)
        if raw.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(raw.status, _reason(raw))
        return raw

    @staticmethod
    def _decoded(data: bytes) -> Obj:
        return cast("Obj", msgspec.json.decode(data))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a core/v1 Node is Ready."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _reason(answer: urllib3.HTTPResponse) -> str:
    try:
        return str(msgspec.json.decode(answer.data)["message"])
    except (msgspec.DecodeError, KeyError, TypeError, urllib3.exceptions.HTTPError, OSError):
        return str(answer.reason)


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
