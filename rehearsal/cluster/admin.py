"""The administrator's client of one cluster, for threads: what a cloud does to nodes and pods.

On Google Cloud these things are the cloud's own work: they are not what is rehearsed.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from rehearsal.cluster.control_plane import VIRTUAL_NODE, LocalControlPlane
from rehearsal.cluster.fleet import FleetError
from rehearsal.cluster.kubernetes import (
    JSON,
    MERGE,
    STRATEGIC,
    ClusterError,
    ConflictError,
    KubernetesClient,
    NotThereError,
    Object,
    pod_path,
)
from rehearsal.machine.loop import LoopThread
from rehearsal.machine.processes import poll

_TIMEOUT_S = 10.0
_CONNECTIONS = 32
"""More than threads of the fleet use at once, so that none is opened for a request."""
_NO_JOB = {"labelSelector": "!batch.kubernetes.io/job-name"}
_NOT_READY_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


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
        self._loop = LoopThread("cluster-admin")
        self._client = self._loop.run(_client(plane))

    def close(self) -> None:
        """End all requests and watches. Idempotent."""
        with suppress(CancelledError):
            self._loop.run(self._client.close())
        self._loop.stop()

    def wait_until_ready(
        self, names: set[str], *, timeout_s: float, check: Callable[[], None]
    ) -> None:
        """Wait until all nodes are Ready and without a not-ready taint; `check` may raise."""
        waiting = names

        def are_ready() -> bool:
            nonlocal waiting
            check()
            ready = {_name(e) for e in self.nodes("") if _is_ready(e) and _is_untainted(e)}
            waiting = names - ready
            return not waiting

        if not poll(are_ready, timeout_s, 0.1):
            raise FleetError(
                f"{len(waiting)} of {len(names)} nodes were not Ready after {timeout_s:.0f} s: "
                f"{', '.join(sorted(waiting)[:3])}."
            )

    def lift_not_ready(
        self, names: set[str], threads: Executor, *, timeout_s: float, check: Callable[[], None]
    ) -> None:
        """Remove the not-ready taint of nodes as soon as they are Ready; stop at the timeout.

        The controller manager does so too, but with its default rate limits takes a minute for 256
        nodes that are added at once, which a cloud's nodes are not.
        """
        left = set(names)

        def are_lifted() -> bool:
            check()
            ready = [each for each in self.nodes("") if _name(each) in left and _is_ready(each)]
            lifted = threads.map(self._lift, ready)
            left.difference_update(
                _name(node) for node, done in zip(ready, lifted, strict=True) if done
            )
            return not left

        poll(are_lifted, timeout_s, 0.1)

    def _lift(self, node: Object) -> bool:
        kept = [taint for taint in _taints(node) if taint["key"] not in _NOT_READY_TAINTS]
        if kept == _taints(node):
            return True
        version = {"resourceVersion": node["metadata"]["resourceVersion"]}
        body = {"metadata": version, "spec": {"taints": kept}}
        with suppress(ConflictError):
            self._call("PATCH", f"/api/v1/nodes/{_name(node)}", body, content=MERGE)
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

    def pods_in_motion(self) -> Iterator[list[Object]]:
        """Yield all pods but those of Jobs, now and after each change, as `changes` does."""
        pods: dict[str, Object] = {}
        is_listed = False
        for kind, pod in self._watch("/api/v1/pods", _NO_JOB):
            is_listed = is_listed or kind == "LISTED"
            if kind == "DELETED":
                pods.pop(pod["metadata"]["uid"], None)
            elif pod:
                pods[pod["metadata"]["uid"]] = pod
            if is_listed:
                yield list(pods.values())

    def changes(self, path: str) -> Iterator[tuple[str, Object]]:
        """Yield each object of a kind as ADDED, then each change.

        Ends when the resource version is too old; raises ClusterError when the connection is lost.
        """
        return ((kind, found) for kind, found in self._watch(path) if found)

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
        self, path: str, params: dict[str, str] | None = None
    ) -> Iterator[tuple[str, Object]]:
        changes = self._client.watch(path, params)
        while True:
            try:
                kind, text = self._loop.run(_next(changes), None)
            except StopAsyncIteration:
                return
            except CancelledError as error:
                raise ClusterError(f"The watch of {path} was closed.") from error
            yield kind, json.loads(text or b"{}")

    def _patch(self, path: str, body: Object) -> None:
        self._call("PATCH", path, body, content=STRATEGIC)

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        params: dict[str, str] | None = None,
        content: str = JSON,
    ) -> Object:
        request = self._client.request(method, path, body, params=params, content=content)
        try:
            result: Object = json.loads(self._loop.run(request, None))
        except CancelledError as error:
            raise ClusterError(f"{method} {path} was not sent: the client is closed.") from error
        except ValueError as error:
            raise ClusterError(f"The answer to {method} {path} is not JSON.") from error
        return result


async def _client(plane: LocalControlPlane) -> KubernetesClient:
    """Return a client of the loop in which this runs."""
    url = f"https://{plane.public.endpoint}"
    return KubernetesClient(url, plane.tls, connections=_CONNECTIONS, timeout_s=_TIMEOUT_S)


async def _next(changes: AsyncIterator[tuple[str, bytes]]) -> tuple[str, bytes]:
    return await anext(changes)


def _path_of(pod: Object) -> str:
    return pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"])


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _taints(node: Object) -> list[Object]:
    return list(node["spec"].get("taints", ()))


def _is_ready(node: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


def _is_untainted(node: Object) -> bool:
    return {taint["key"] for taint in _taints(node)}.isdisjoint(_NOT_READY_TAINTS)
