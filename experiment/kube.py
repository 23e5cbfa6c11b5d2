"""The runner's Kubernetes client: the only module that calls the API server.

It reads, creates, patches, deletes and streams objects as plain dictionaries; what they mean is
decided elsewhere. The client library gives credentials and connections; its models are not used:
at 256 nodes they alone would take longer than binding the pods.
"""

import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, cast

import msgspec
import urllib3
from kubernetes import client
from kubernetes.config import kube_config
from kubernetes.utils.quantity import parse_quantity
from urllib3.util import Retry, Timeout
from urllib3.util.ssl_ import create_urllib3_context

from experiment.errors import one_line
from experiment.kubeconfig import load_kubeconfig
from experiment.outage import AWAY, PATIENCE_S, Outage, Refused
from experiment.tokens import TokenError
from experiment.waiting import Clock
from schema.logs import LOG
from schema.names import MINICLUSTERS
from schema.run_records import ExistingCluster

Obj = dict[str, Any]
JOB, MINICLUSTER = "Job", "MiniCluster"
"""Kinds of what makes a trial's pods."""

_CONNECT_S = 10
_READ_S = 60
SILENCE_S = 90
"""A watch without data, not even a bookmark, for this long is cut: bookmarks come each minute."""
_CONNECTIONS = 64
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_LONGEST_RETRY_AFTER_S = 60.0
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Right:
    """A permission, in the terms of Kubernetes' authorization API (ResourceAttributes)."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    """Empty for all of them, and for what is in none."""
    name: str = ""
    """Of one object; empty for all of the kind."""

    def __str__(self) -> str:
        """Return it as a part of a sentence, such as `patch pods in pull-study`."""
        kind = "/".join(filter(None, (self.resource, self.subresource)))
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {kind}{f' {self.name}' if self.name else ''}{where}"


class Kube:
    """A connection to one cluster, for several threads.

    A request that gets no answer, 429 or 5xx is repeated until the patience is over, no sooner than
    Retry-After says. So each can be sent twice: see create_job, bind_pod, delete_job. After a 401
    it is repeated once with a new token.

    Args:
        cluster: kubeconfig as YAML text, or the path and context of the user's own file.
        say: shows a line when the API server is away, and when it is back.
        patience_s: how long a request is repeated.
        clock: measures it.

    Raises:
        PlanError: the user's kubeconfig has no such context.
        MeasureError: from every method but `watch` and `list`, when the API server refuses or
            cannot be reached; from the constructor, when the credential plugin fails.
    """

    def __init__(
        self,
        cluster: str | ExistingCluster,
        say: Callable[[str], None] = lambda _line: None,
        *,
        patience_s: float = PATIENCE_S,
        clock: Clock = time,
    ) -> None:
        settings = client.Configuration()
        settings.connection_pool_maxsize = _CONNECTIONS
        settings.keep_alive = True  # a watch whose peer has vanished ends
        self.patience_s = patience_s
        self._clock = clock
        self._token = load_kubeconfig(cluster, settings)
        self._api = client.ApiClient(settings)
        self._pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        _read_certificates(self._pool, verify=bool(settings.verify_ssl))
        self._outage = Outage(say, clock)
        self._closed = False

    @property
    def repeated(self) -> Counter[str]:
        """Number of retries, by HTTP status or `no answer`."""
        return self._outage.repeated

    def close(self) -> None:
        """Close the connections; requests that wait to be repeated fail."""
        self._closed = True
        if self._token:
            self._token.close()
        self._api.close()

    def server_version(self) -> str:
        """Return the API server's version, such as v1.34.1."""
        return str(self._get("/version")["gitVersion"])

    def cluster_uid(self) -> str:
        """Return the uid of the namespace kube-system, which identifies the cluster."""
        return str(self._get("/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def namespace(self, name: str) -> Obj | None:
        """Return a namespace; None if there is none."""
        return self._find(f"/api/v1/namespaces/{name}")

    def create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a namespace unless it exists."""
        metadata = {"name": name, "labels": dict(labels)}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self._create("/api/v1/namespaces", body)

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace and all in it in the background, if it exists."""
        self._delete(f"/api/v1/namespaces/{name}")

    def lease(self, namespace: str, name: str) -> Obj | None:
        """Return a Lease; None if there is none."""
        return self._find(f"{_leases(namespace)}/{name}")

    def create_lease(self, body: Obj) -> bool:
        """Create a Lease; return False if it exists."""
        return self._create(_leases(body["metadata"]["namespace"]), body)

    def replace_lease(self, body: Obj) -> bool:
        """Replace a Lease; return False if it was changed since it was read, or deleted."""
        path = f"{_leases(body['metadata']['namespace'])}/{body['metadata']['name']}"
        fine = {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}
        return bool(self._call_or_raise("PUT", path, body=body, fine=fine))

    def delete_lease(self, namespace: str, name: str) -> None:
        """Delete a Lease, if it exists."""
        self._delete(f"{_leases(namespace)}/{name}")

    def nodes(self, selector: str) -> list[Obj]:
        """Return the nodes that match a label selector, sorted by name."""
        items = self._get("/api/v1/nodes", {"labelSelector": selector})["items"]
        return sorted(items, key=lambda node: str(node["metadata"]["name"]))

    def label_node(self, node: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node; None removes one."""
        body = {"metadata": {"labels": dict(labels)}}
        self._call_or_raise("PATCH", f"/api/v1/nodes/{node}", body=body, content=_MERGE_PATCH)

    def may(self, right: Right) -> bool:
        """Return whether the caller has a right."""
        asked = {name: value for name, value in asdict(right).items() if value}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(_decoded(self._call_or_raise("POST", path, body=body))["status"]["allowed"])

    def node_stats(self, node: str) -> Obj:
        """Return the kubelet's stats/summary of a node, through the API server; tried once."""
        try:  # 5xx is mostly the node's: no outage of the API server
            return _decoded(self._send("GET", f"/api/v1/nodes/{node}/proxy/stats/summary").data)
        except Refused as refused:
            raise refused.as_error() from refused

    def node_log(self, node: str, name: str) -> str:
        """Return a file of a node's /var/log, as its kubelet serves it; tried once."""
        try:
            path = f"/api/v1/nodes/{node}/proxy/logs/{name}"
            return self._send("GET", path, accept="*/*").data.decode(errors="replace")
        except Refused as refused:
            raise refused.as_error() from refused

    def create_job(self, body: Obj) -> None:
        """Create a Job or a MiniCluster unless it exists."""
        self._create(_jobs(body["metadata"]["namespace"], body["kind"]), body)

    def create_event(self, body: Obj) -> None:
        """Create an event."""
        self._create(f"/api/v1/namespaces/{body['metadata']['namespace']}/events", body)

    def delete_job(self, namespace: str, name: str, kind: str = JOB) -> None:
        """Delete a Job or MiniCluster and its pods in the background, if it exists."""
        self._delete(f"{_jobs(namespace, kind)}/{name}")

    def delete_jobs(self, namespace: str, selector: str) -> None:
        """Delete the MiniClusters and Jobs that match a label selector, in the background.

        MiniClusters go first: their operator would make a deleted Job again. Where the cluster has
        none, or does not show them to the caller, none are deleted.
        """
        unknown = {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}
        for kind, fine in ((MINICLUSTER, unknown), (JOB, set())):
            path, query = _jobs(namespace, kind), {"labelSelector": selector}
            found = self._call_or_raise("GET", path, query=query, fine=fine)
            for job in _decoded(found)["items"] if found else ():
                self.delete_job(namespace, str(job["metadata"]["name"]), kind)

    def has_job(self, namespace: str, name: str) -> bool:
        """Return whether there is a Job of this name."""
        query = {"fieldSelector": f"metadata.name={name}"}
        return bool(self._get(_jobs(namespace, JOB), query)["items"])

    def serves_miniclusters(self) -> bool:
        """Return whether the API server has MiniClusters: the Flux Operator's CRD."""
        group, version, plural = MINICLUSTERS
        found = self._find(f"/apis/{group}/{version}")
        return any(each["name"] == plural for each in (found or {}).get("resources", ()))

    def waiting_pods(self, namespace: str) -> list[Obj]:
        """Return the pods of a namespace that neither run nor have succeeded."""
        query = {"fieldSelector": "status.phase!=Running,status.phase!=Succeeded"}
        return [*self._get(f"/api/v1/namespaces/{namespace}/pods", query)["items"]]

    def pod_count(self, namespace: str, selector: str) -> int:
        """Return the number of pods that match a label selector."""
        query = {"limit": "1", "labelSelector": selector}
        found = self._get(f"/api/v1/namespaces/{namespace}/pods", query)
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)

    def bind_pod(self, namespace: str, pod: str, node: str) -> None:
        """Bind a pod to a node, as a scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
        try:
            self._call("POST", f"/api/v1/namespaces/{namespace}/bindings", body=body)
        except Refused as refused:
            # An earlier try took effect, so the pod is bound already.
            if not (refused.retried and refused.status == HTTPStatus.CONFLICT):
                raise refused.as_error() from refused

    def list(self, path: str, query: Mapping[str, str]) -> Obj:
        """Return one page of a list; tried once.

        Raises:
            Refused: as the server says.
        """
        with self._outage.noted():
            return _decoded(self._send("GET", path, query=query).data)

    def watch(
        self, path: str, query: Mapping[str, str], *, seconds: int, silence_s: float = SILENCE_S
    ) -> Iterator[bytes]:
        """Open a watch; return its stream, in pieces as they come, until the server ends it.

        Args:
            path: of the list.
            query: selectors and resource version.
            seconds: after which the server is asked to end it.
            silence_s: cut it when nothing comes for this long.

        Raises:
            Refused: as the server says; from the stream, when it is cut or silent.
        """
        query = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        with self._outage.noted():
            return _pieces(self._send("GET", path, query=query, stream_s=silence_s))

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Obj:
        return _decoded(self._call_or_raise("GET", path, query=query))

    def _find(self, path: str) -> Obj | None:
        found = self._call_or_raise("GET", path, fine={HTTPStatus.NOT_FOUND})
        return _decoded(found) if found else None

    def _create(self, path: str, body: Obj) -> bool:
        """Create an object; return False if it exists."""
        return bool(self._call_or_raise("POST", path, body=body, fine={HTTPStatus.CONFLICT}))

    def _delete(self, path: str) -> None:
        options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
        self._call_or_raise("DELETE", path, body=options, fine={HTTPStatus.NOT_FOUND})

    def _call_or_raise(
        self, verb: str, path: str, *, fine: Collection[int] = (), **options: Any
    ) -> bytes:
        try:
            return self._call(verb, path, **options)
        except Refused as refused:
            if refused.status in fine:
                return b""
            raise refused.as_error() from refused

    def _call(self, verb: str, path: str, **options: Any) -> bytes:
        """Send a request until it is answered, refused, or the patience is over."""
        started, pause, retried = self._clock.monotonic(), _FIRST_PAUSE_S, False
        while True:
            try:
                with self._outage.noted():
                    return self._send(verb, path, **options).data
            except Refused as refused:
                refused.retried = retried
                least = min(refused.retry_after_s, _LONGEST_RETRY_AFTER_S)
                wait = max(least, pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries)
                passed = self._clock.monotonic() - started
                if refused.status not in AWAY or self._closed or passed + wait > self.patience_s:
                    raise
                self._outage.count(refused)
                status = refused.status or "no answer"
                LOG.debug("%s %s: %s; retry in %.1f s", verb, path, status, wait)
            self._clock.sleep(wait)
            pause, retried = min(pause * 2, _LONGEST_PAUSE_S), True

    def _send(self, verb: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send a request; once more with a new token, if the server no longer accepts this one."""
        try:
            token = self._token.value() if self._token else ""
            try:
                return self._send_with(token, verb, path, **options)
            except Refused as refused:
                if refused.status != HTTPStatus.UNAUTHORIZED or self._token is None:
                    raise
                return self._send_with(self._token.after(token), verb, path, **options)
        except TokenError as error:  # as an API server that is away: a plugin needs the network too
            raise Refused(0, str(error)) from error

    def _send_with(
        self,
        token: str,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = _JSON,
        accept: str = _JSON,
        stream_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        _, url, headers, *_ = self._api.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content},
            auth_settings=["BearerToken"],
        )
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = self._pool.request(
                verb,
                url,
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                timeout=Timeout(connect=_CONNECT_S, read=stream_s or _READ_S),
                retries=False,
                preload_content=stream_s is None,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Refused(0, _why(error)) from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(answer.status, _reason(answer), retry_after_s=_retry_after_s(answer))
        return answer


def _read_certificates(pool: urllib3.PoolManager, *, verify: bool) -> None:
    """Read certificates and key into memory, and delete the files that the library made of them.

    It writes those that a kubeconfig holds into files, which a killed process would leave.
    """
    options = pool.connection_pool_kw
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    authority, certificate, key = (
        options.pop(name) for name in ("ca_certs", "cert_file", "key_file")
    )
    if authority:
        context.load_verify_locations(authority)
    else:
        context.load_default_certs()
    if certificate:
        context.load_cert_chain(certificate, key)
    options["ssl_context"] = context
    kube_config._cleanup_temp_files()  # noqa: SLF001 (the library does it at exit alone)


def _pieces(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Refused(0, _why(error)) from error
    finally:
        answer.close()
        answer.release_conn()


def _why(error: Exception) -> str:
    """Return why there was no answer; urllib3 puts a cause of its own beside some sentences."""
    cause = error.args[1] if len(error.args) > 1 else None
    return one_line(cause if isinstance(cause, Exception) else error)


def _decoded(data: bytes) -> Obj:
    return cast("Obj", msgspec.json.decode(data))


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a core/v1 Node is Ready."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def bytes_of(quantity: str) -> int:
    """Return a Kubernetes quantity such as 98831908Ki in bytes."""
    return int(parse_quantity(quantity))


def _jobs(namespace: str, kind: str) -> str:
    group, version, plural = MINICLUSTERS if kind == MINICLUSTER else ("batch", "v1", "jobs")
    return f"/apis/{group}/{version}/namespaces/{namespace}/{plural}"


def _leases(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def _retry_after_s(answer: urllib3.BaseHTTPResponse) -> float:
    try:
        return Retry().get_retry_after(answer) or 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _reason(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(msgspec.json.decode(answer.data)["message"])
    except (msgspec.DecodeError, KeyError, TypeError, urllib3.exceptions.HTTPError, OSError):
        return str(answer.reason)
