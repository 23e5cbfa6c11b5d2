"""Patches a pod's status, as a kubelet's status manager does.

A status that is not sent yet when the next one is set is replaced: the newest counts. A real
kubelet's statuses hold more; here is what controllers and the runner read.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rehearsal.cluster.kubernetes import (
    STRATEGIC,
    ClusterError,
    KubernetesClient,
    Object,
    pod_path,
)
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.events import timestamp
from rehearsal.simulated_nodes.objects import Container, Pod

_HOST = "127.0.0.1"
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task whose failure ends the process."""


class PodStatus:
    """The status of one pod; `connected` is unset while the node can report nothing."""

    def __init__(
        self,
        pod: Pod,
        clock: Clock,
        api: KubernetesClient,
        connected: asyncio.Event,
        spawn: Spawn,
    ) -> None:
        self.pod = pod
        self._clock = clock
        self._api = api
        self._connected = connected
        self._spawn = spawn
        self._pending: tuple[float, Object] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._container = _created(pod.spec.containers[0])
        self._init = [_created(each) for each in pod.spec.init_containers]
        self._initialized = 0
        self._phase = "Pending"

    def stop(self) -> None:
        if self._sender:
            self._sender.cancel()

    def creating(self, at: float) -> None:
        for each in (*self._init, self._container):
            reason = "PodInitializing" if self._init else "ContainerCreating"
            each["state"] = {"waiting": {"reason": reason}}
        self._set(at, {"startTime": self._stamp(at), **self._conditions(at, ready=False)})

    def waiting(self, reason: str, message: str, at: float) -> None:
        """Set while the container cannot start, for a reason such as ErrImagePull."""
        container = next(iter(self._init[self._initialized :]), self._container)
        container["state"] = {"waiting": {"reason": reason, "message": message}}
        self._set(at)

    def initialized(self, image: str, started: float, at: float) -> None:
        """Set when the next init container has ended."""
        state = {"terminated": self._terminated(started, at)}
        self._init[self._initialized].update(imageID=image, ready=True, state=state)
        self._initialized += 1
        self._set(at, self._conditions(at, ready=False))

    def running(self, image: str, at: float) -> None:
        identity = {"imageID": image, "containerID": f"containerd://{self.pod.metadata.uid}"}
        state = {"running": {"startedAt": self._stamp(at)}}
        self._container.update(identity, ready=True, started=True, state=state)
        self._phase = "Running"
        address = self._address()
        more = {"podIP": address, "podIPs": [{"ip": address}]}
        self._set(at, {**more, **self._conditions(at, ready=True)})

    def ended(self, image: str, started: float, at: float, message: str) -> None:
        terminated = self._terminated(started, at) | ({"message": message} if message else {})
        self._container.update(
            imageID=image, ready=False, started=False, state={"terminated": terminated}
        )
        self._set(at, self._conditions(at, ready=False, reason="PodCompleted"))

    def succeeded(self, at: float) -> None:
        self._phase = "Succeeded"
        self._set(at)

    def fail(self, reason: str, message: str, at: float) -> None:
        """Set when the kubelet ends the pod, such as by an eviction."""
        self._phase = "Failed"
        self._container.setdefault("state", {"waiting": {"reason": "ContainerCreating"}})
        self._container.update(ready=False, started=False)
        if "running" in self._container["state"]:
            killed = {"exitCode": 137, "reason": "Error", "finishedAt": self._stamp(at)}
            self._container["state"] = {"terminated": killed}
        self._set(at, {"reason": reason, "message": message})

    def _terminated(self, started: float, at: float) -> Object:
        return {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": self._stamp(started),
            "finishedAt": self._stamp(at),
            "containerID": f"containerd://{self.pod.metadata.uid}",
        }

    def _set(self, at: float, more: Object | None = None) -> None:
        kept = self._pending[1] if self._pending else {}
        status = {
            **kept,
            "phase": self._phase,
            "hostIP": _HOST,
            "hostIPs": [{"ip": _HOST}],
            "containerStatuses": [dict(self._container)],
            "initContainerStatuses": [dict(each) for each in self._init],
            **(more or {}),
        }
        self._pending = (at, status)
        if self._sender is None or self._sender.done():
            self._sender = self._spawn(self._send())

    async def _send(self) -> None:
        metadata = self.pod.metadata
        path = f"{pod_path(metadata.namespace, metadata.name)}/status"
        while self._pending:
            await self._connected.wait()
            at, status = self._pending
            self._pending = None
            # with the uid, so that it never changes another pod of this name
            body = {"metadata": {"uid": metadata.uid}, "status": status}
            try:
                await self._api.send("PATCH", path, body, STRATEGIC)
            except ClusterError as error:
                self._clock.report.lose(str(error))
            else:
                self._clock.arrived(at)

    def _conditions(self, at: float, *, ready: bool, reason: str = "") -> Object:
        stamp = self._stamp(at)
        reasons: dict[str, Object] = {
            "True": {},
            "False": {"reason": reason or "ContainersNotReady"},
        }
        states = {
            "Initialized": "True" if self._initialized == len(self._init) else "False",
            "PodReadyToStartContainers": "True" if ready else "False",
            "Ready": "True" if ready else "False",
            "ContainersReady": "True" if ready else "False",
        }
        return {
            "conditions": [
                {"type": kind, "status": state, "lastTransitionTime": stamp, **reasons[state]}
                for kind, state in states.items()
            ]
        }

    def _stamp(self, at: float) -> str:
        return timestamp(self._clock.at(at))

    def _address(self) -> str:
        number = int(self.pod.metadata.uid.replace("-", "")[:8], 16)
        return f"10.{96 + (number >> 16 & 15)}.{number >> 8 & 255}.{1 + number % 250}"


def _created(container: Container) -> Object:
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
    }
