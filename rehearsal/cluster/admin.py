"""The rehearsal's Kubernetes client: nodes, and what a kubelet would do in a cluster.

It sends and receives objects in the API's JSON form. On Google Cloud these things are the cloud's
own work: they are not what is rehearsed.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from rehearsal.cluster.control_plane import VIRTUAL_NODE, LocalControlPlane
from rehearsal.cluster.fleet import FleetError

Object = dict[str, Any]
"""A Kubernetes object in the API's JSON form."""

Taint = tuple[str, str, str]
"""(key, value, effect)."""

STRATEGIC = "application/strategic-merge-patch+json"
_MERGE = "application/merge-patch+json"

_TIMEOUT_S = 10.0
_CONNECTIONS = 32
"""More than threads of the fleet and watches use at once, so that none is opened for a request."""
_NO_JOB = "!batch.kubernetes.io/job-name"
_NOT_READY_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class ClusterError(FleetError):
    """The cluster's API server refused or did not answer."""


class ConflictError(ClusterError):
    """The object has changed since it was read."""


class NotThereError(ClusterError):
    """The object does not exist, or is deleted."""


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token of a service account, as a pod gets it."""

    token: str
    expires_at: datetime


class ClusterAdmin:
    """The administrator's client of one cluster. Safe to use from several threads.

    Every method raises ClusterError when the API server refuses or does not answer.
    """

    def __init__(self, plane: LocalControlPlane) -> None:
        self._url = f"https://{plane.public.endpoint}"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment for loopback
        self._session.mount("https://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._session.verify = str(plane.authority)
        self._session.cert = (str(plane.admin_certificate), str(plane.admin_key))

    def close(self) -> None:
        self._session.close()

    def wait_until_ready(
        self, names: set[str], *, timeout_s: float, check: Callable[[], None]
    ) -> None:
        """Wait until all nodes are Ready and without a not-ready taint; `check` may raise."""
        deadline = time.monotonic() + timeout_s
        while waiting := names - {
            _name(each) for each in self.nodes("") if _is_ready(each) and _is_untainted(each)
        }:
            check()
            if time.monotonic() > deadline:
                raise FleetError(
                    f"{len(waiting)} of {len(names)} nodes were not Ready after {timeout_s:.0f} s: "
                    f"{', '.join(sorted(waiting)[:3])}."
                )
            time.sleep(0.1)

    def lift_not_ready(
        self, names: set[str], threads: Executor, *, timeout_s: float, check: Callable[[], None]
    ) -> None:
        """Remove the not-ready taint of nodes as soon as they are Ready; stop at the timeout.

        The controller manager does so too, but with its default rate limits takes a minute for 256
        nodes that are added at once, which a cloud's nodes are not.
        """
        deadline = time.monotonic() + timeout_s
        left = set(names)
        while left and time.monotonic() < deadline:
            check()
            ready = [each for each in self.nodes("") if _name(each) in left and _is_ready(each)]
            lifted = threads.map(self._lift, ready)
            left -= {_name(node) for node, done in zip(ready, lifted, strict=True) if done}
            time.sleep(0.1)

    def _lift(self, node: Object) -> bool:
        kept = [taint for taint in _taints(node) if taint["key"] not in _NOT_READY_TAINTS]
        if kept == _taints(node):
            return True
        version = {"resourceVersion": node["metadata"]["resourceVersion"]}
        body = {"metadata": version, "spec": {"taints": kept}}
        with suppress(ConflictError):
            self._call("PATCH", f"/api/v1/nodes/{_name(node)}", body, content=_MERGE)
            return True
        return False

    def label_node(self, name: str, labels: dict[str, str]) -> None:
        self._patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}})

    def add_node(self, node: Object) -> None:
        """Add a node that kwok keeps Ready."""
        self._call("POST", "/api/v1/nodes", node)

    def remove_node(self, name: str) -> None:
        """Remove a node, and at once the pods bound to it, as no kubelet is left to end them."""
        bound = self._call("GET", "/api/v1/pods", params={"fieldSelector": f"spec.nodeName={name}"})
        for pod in bound["items"]:
            with suppress(NotThereError):
                self._call("DELETE", _path_of(pod), {"gracePeriodSeconds": 0})
        with suppress(NotThereError):
            self._call("DELETE", f"/api/v1/nodes/{name}")

    def pods_in_motion(self, seconds: int) -> Iterator[list[Object]]:
        """Yield all pods but those of Jobs, now and after each change, for this many seconds.

        Ends early when the connection is lost or the resource version is too old.
        """
        selector = {"labelSelector": _NO_JOB}
        listed = self._call("GET", "/api/v1/pods", params=selector)
        pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
        yield list(pods.values())
        for kind, pod in self._watch("/api/v1/pods", listed, seconds, selector):
            if kind == "DELETED":
                pods.pop(pod["metadata"]["uid"], None)
            else:
                pods[pod["metadata"]["uid"]] = pod
            yield list(pods.values())

    def changes(self, path: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """Yield each object of a kind as ADDED, then each change, for this many seconds.

        Ends early when the connection is lost or the resource version is too old.
        """
        listed = self._call("GET", path)
        for found in listed["items"]:
            yield "ADDED", found
        yield from self._watch(path, listed, seconds, {})

    def nodes(self, selector: str) -> list[Object]:
        found = self._call("GET", "/api/v1/nodes", params={"labelSelector": selector})
        return list(found["items"])

    def events(self, namespace: str) -> list[Object]:
        """Return the events of a namespace that the API server still has."""
        return list(self._call("GET", f"/api/v1/namespaces/{namespace}/events")["items"])

    def virtual_nodes(self) -> set[str]:
        """Return the names of the nodes that exist in the API only."""
        key, value = VIRTUAL_NODE
        return {
            _name(node)
            for node in self.nodes("")
            if node["metadata"].get("annotations", {}).get(key) == value
        }

    def config_map(self, namespace: str, name: str) -> dict[str, str]:
        found = self._call("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return dict(found.get("data") or {})

    def service_account_token(self, pod: Object) -> ServiceAccountToken:
        """Create a token of a pod's service account, bound to the pod as kubelet binds it."""
        identity = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        bound = {"kind": "Pod", "apiVersion": "v1", **identity}
        account = pod["spec"].get("serviceAccountName", "default")
        namespace = pod["metadata"]["namespace"]
        answer = self._call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"spec": {"expirationSeconds": 3607, "boundObjectRef": bound}},
        )
        expires = datetime.fromisoformat(answer["status"]["expirationTimestamp"])
        return ServiceAccountToken(answer["status"]["token"], expires)

    def set_container_status(self, pod: Object, statuses: list[Object], *, ready: bool) -> None:
        """Set the statuses of a pod's containers, and its readiness, if it still exists."""
        state = "True" if ready else "False"
        conditions = [{"type": kind, "status": state} for kind in ("Ready", "ContainersReady")]
        status = {"containerStatuses": statuses, "conditions": conditions}
        with suppress(NotThereError):
            self._patch(f"{_path_of(pod)}/status", {"status": status})

    def _watch(
        self, path: str, listed: Object, seconds: int, selector: dict[str, str]
    ) -> Iterator[tuple[str, Object]]:
        version = listed["metadata"]["resourceVersion"]
        params = {"watch": "true", "timeoutSeconds": str(seconds), "resourceVersion": version}
        with suppress(requests.RequestException):
            answer = self._session.get(
                self._url + path,
                params=params | selector,
                stream=True,
                timeout=seconds + _TIMEOUT_S,
            )
            with answer:
                if not answer.ok:
                    raise ClusterError(f"The API server refused to watch {path}: {_short(answer)}.")
                for line in answer.iter_lines():
                    kind, found = _parse_change(path, line)
                    if kind == "ERROR":
                        return
                    yield kind, found

    def _patch(self, path: str, body: Object) -> None:
        self._call("PATCH", path, body, content=STRATEGIC)

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        params: dict[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        try:
            answer = self._session.request(
                method,
                self._url + path,
                params=params,
                data=json.dumps(body) if body is not None else None,
                headers={"Content-Type": content},
                timeout=_TIMEOUT_S,
            )
        except requests.RequestException as error:
            raise ClusterError(
                f"The API server at {self._url} does not answer: {error}."
            ) from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NotThereError(f"{path} is not in the cluster at {self._url}.")
        if answer.status_code == HTTPStatus.CONFLICT:
            raise ConflictError(f"{path} has changed: {_short(answer)}.")
        if not answer.ok:
            raise ClusterError(f"The API server refused {method} {path}: {_short(answer)}.")
        result: Object = answer.json()
        return result


def pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _path_of(pod: Object) -> str:
    return pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _parse_change(path: str, line: bytes) -> tuple[str, Object]:
    try:
        change: Object = json.loads(line)
        return str(change["type"]), change["object"]
    except (ValueError, KeyError) as error:
        raise ClusterError(f"The watch of {path} sent {line[:300]!r}.") from error


def _short(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.text[:300]}".strip()


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _taints(node: Object) -> list[Object]:
    return list(node["spec"].get("taints", ()))


def _is_ready(node: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


def _is_untainted(node: Object) -> bool:
    return {taint["key"] for taint in _taints(node)}.isdisjoint(_NOT_READY_TAINTS)
