"""The runner's Kubernetes client: the only module that calls the API server.

It reads, creates, patches, deletes and streams objects as plain dictionaries; what they mean is
decided elsewhere. The client library gives credentials and connections; its models are not used:
at 256 nodes they alone would take longer than binding the pods.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import msgspec
import urllib3
import yaml
from kubernetes import client, config
from kubernetes.utils.quantity import parse_quantity
from urllib3.util import Retry, Timeout

from experiment.errors import MeasureError, PlanError
from schema.run_records import ExistingCluster

Obj = dict[str, Any]

_CONNECT_S = 10
_READ_S = 60
_SILENCE_S = 150
"""A watch without data, not even a bookmark, for this long is cut: bookmarks come each minute."""
_CONNECTIONS = 64
_RETRY = Retry(
    total=5,
    allowed_methods=None,  # each request can be sent twice: see create_job, patch_pod, delete_job
    status_forcelist={429, 500, 502, 503, 504},
    raise_on_status=False,
    backoff_factor=0.2,  # 6 s in all
    retry_after_max=60,
)
_BAD_FILE = (config.ConfigException, yaml.YAMLError, OSError, TypeError, AttributeError, ValueError)
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"


class Refused(Exception):
    """A request that failed.

    Args:
        status: the server's HTTP status; 0 where there was no answer.
        reason: in the server's words.
        retried: it was sent more than once, so an earlier try may have had its effect.
    """

    def __init__(self, status: int, reason: str, *, retried: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retried = retried

    def as_error(self) -> MeasureError:
        """Return the error to show to the user."""
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

    Every request but a watch is retried on 429, 5xx and a broken connection, as Retry-After says.

    Args:
        cluster: kubeconfig as YAML text, or the path and context of the user's own file.

    Raises:
        PlanError: the user's kubeconfig has no such context.
        MeasureError: from every method but `watch` and `list`, when the API server refuses or
            cannot be reached.
    """

    def __init__(self, cluster: str | ExistingCluster) -> None:
        settings = client.Configuration()
        settings.connection_pool_maxsize = _CONNECTIONS
        if isinstance(cluster, str):
            content = yaml.safe_load(cluster)
            config.load_kube_config_from_dict(content, client_configuration=settings)
        else:
            _load_user_file(cluster, settings)
        self._api = client.ApiClient(settings)
        self._pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        self._lock = threading.Lock()
        self.repeated: Counter[str] = Counter()
        """Number of retries, by HTTP status or `no answer`."""

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def server_version(self) -> str:
        """Return the API server's version, such as v1.34.1."""
        return str(self._get("/version")["gitVersion"])

    def cluster_uid(self) -> str:
        """Return the uid of the namespace kube-system, which identifies the cluster."""
        return str(self._get("/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def nodes(self, selector: str) -> list[Obj]:
        """Return the nodes that match a label selector, sorted by name."""
        items = self._get("/api/v1/nodes", {"labelSelector": selector})["items"]
        return sorted(items, key=lambda node: str(node["metadata"]["name"]))

    def label_node(self, node: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node; None removes one."""
        body = {"metadata": {"labels": dict(labels)}}
        self._call_or_raise("PATCH", f"/api/v1/nodes/{node}", body=body, content=_MERGE_PATCH)

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Return whether the caller may do this to a kind of object, in every namespace."""
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(_decoded(self._call_or_raise("POST", path, body=body))["status"]["allowed"])

    def node_stats(self, node: str) -> Obj:
        """Return the kubelet's stats/summary of a node, through the API server."""
        return self._get(f"/api/v1/nodes/{node}/proxy/stats/summary")

    def ensure_namespace(self, name: str) -> None:
        """Create a namespace unless it exists."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._create("/api/v1/namespaces", body)

    def create_job(self, body: Obj) -> None:
        """Create a Job unless it exists."""
        self._create(_jobs(body["metadata"]["namespace"]), body)

    def create_event(self, body: Obj) -> None:
        """Create an event."""
        self._create(f"/api/v1/namespaces/{body['metadata']['namespace']}/events", body)

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete a Job and its pods in the background, if it exists."""
        self._delete(f"{_jobs(namespace)}/{name}")

    def delete_jobs(self, namespace: str) -> None:
        """Delete all Jobs of a namespace and their pods in the background."""
        self._delete(_jobs(namespace))

    def pod_count(self, namespace: str) -> int:
        """Return the number of pods of a namespace."""
        found = self._get(f"/api/v1/namespaces/{namespace}/pods", {"limit": "1"})
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)

    def patch_pod(self, namespace: str, name: str, patch: list[Obj]) -> None:
        """Apply a JSON patch to a pod."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        try:
            self._call("PATCH", path, body=patch, content=_JSON_PATCH)
        except Refused as refused:
            # An earlier try took effect, so what the patch removes is not there any more.
            if not (refused.retried and refused.status == HTTPStatus.UNPROCESSABLE_ENTITY):
                raise refused.as_error() from refused

    def list(self, path: str, query: Mapping[str, str]) -> Obj:
        """Return one page of a list.

        Raises:
            Refused: as the server says.
        """
        return _decoded(self._call("GET", path, query=query))

    def watch(self, path: str, query: Mapping[str, str], *, seconds: int) -> Iterator[bytes]:
        """Stream a watch, in pieces as they come, until the server ends it after this time.

        Raises:
            Refused: as the server says, or when the connection is cut or silent.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        answer = self._send("GET", path, query=query, stream=True)
        try:
            yield from answer.stream()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Refused(0, _one_line(error)) from error
        finally:
            answer.close()
            answer.release_conn()

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Obj:
        return _decoded(self._call_or_raise("GET", path, query=query))

    def _create(self, path: str, body: Obj) -> None:
        self._call_or_raise("POST", path, body=body, fine=HTTPStatus.CONFLICT)

    def _delete(self, path: str) -> None:
        options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
        self._call_or_raise("DELETE", path, body=options, fine=HTTPStatus.NOT_FOUND)

    def _call_or_raise(
        self, verb: str, path: str, *, fine: HTTPStatus | None = None, **options: Any
    ) -> bytes:
        try:
            return self._call(verb, path, **options)
        except Refused as refused:
            if refused.status == fine:
                return b""
            raise refused.as_error() from refused

    def _call(self, verb: str, path: str, **options: Any) -> bytes:
        return self._send(verb, path, **options).data

    def _send(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = _JSON,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        _, url, headers, *_ = self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": _JSON, "Content-Type": content},
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._pool.request(
                verb,
                url,
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                timeout=Timeout(connect=_CONNECT_S, read=_SILENCE_S if stream else _READ_S),
                retries=False if stream else _RETRY,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Refused(0, _one_line(error), retried=not stream) from error
        retries = answer.retries.history if answer.retries else ()
        with self._lock:
            self.repeated.update(str(retry.status or "no answer") for retry in retries)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(answer.status, _reason(answer), retried=bool(retries))
        return answer


def _decoded(data: bytes) -> Obj:
    return cast("Obj", msgspec.json.decode(data))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a core/v1 Node is Ready."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def bytes_of(quantity: str) -> int:
    """Return a Kubernetes quantity such as 98831908Ki in bytes."""
    return int(parse_quantity(quantity))


def context_name(cluster: ExistingCluster) -> str:
    """Return the context that a user's kubeconfig is used with; "" if it has no current one.

    Raises:
        PlanError: the file is not a kubeconfig.
    """
    return cluster.context or _contexts(cluster.kubeconfig)[1]


def _load_user_file(cluster: ExistingCluster, settings: client.Configuration) -> None:
    name = context_name(cluster)
    try:
        config.load_kube_config(
            cluster.kubeconfig, name, client_configuration=settings, persist_config=False
        )
    except (*_BAD_FILE, KeyError) as error:
        known = ", ".join(_contexts(cluster.kubeconfig)[0]) or "none"
        raise PlanError(
            f"The context {name!r} of the kubeconfig {cluster.kubeconfig} cannot be used: "
            f"{_one_line(error)}.",
            f"--context, one of: {known}",
        ) from error


def _contexts(path: str) -> tuple[list[str], str]:
    """Return the names of a kubeconfig's contexts, and of its current one."""
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
        names = [str(each["name"]) for each in found["contexts"]]
        return names, str(found.get("current-context") or "")
    except (*_BAD_FILE, KeyError) as error:
        raise PlanError(
            f"The file {path} is not a kubeconfig: {_one_line(error)}.",
            f"kubectl --kubeconfig {path} config get-contexts",
        ) from error


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _reason(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(msgspec.json.decode(answer.data)["message"])
    except (msgspec.DecodeError, KeyError, TypeError, urllib3.exceptions.HTTPError, OSError):
        return str(answer.reason)


def _one_line(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason:
        error = error.reason
    return (str(error) or type(error).__name__).splitlines()[0]
