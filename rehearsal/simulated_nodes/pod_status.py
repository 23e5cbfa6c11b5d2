"""Tells the API server of a pod's status, as a kubelet's status manager does.

What is not sent yet when the next status comes is left out: the newest counts. A real kubelet's
statuses hold more; here is what controllers and a study's runner read.
"""

import asyncio
from datetime import timedelta
from typing import Any

from rehearsal.simulated_nodes.api import STRATEGIC, EmitterApi, Pod
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.events import timestamp

Object = dict[str, Any]
_HOST = "127.0.0.1"


class PodReport:
    """The status of one pod."""

    def __init__(self, pod: Pod, clock: Clock, api: EmitterApi, connected: asyncio.Event) -> None:
        self.pod = pod
        self.offset = timedelta(0)
        """By which the node's clock is ahead."""
        self._clock = clock
        self._api = api
        self._connected = connected
        self._waiting: tuple[float, Object] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._container: Object = {
            "name": pod.spec.containers[0].name,
            "image": pod.spec.containers[0].image,
            "imageID": "",
            "ready": False,
            "started": False,
            "restartCount": 0,
        }
        self._phase = "Pending"

    def stop(self) -> None:
        """Tell nothing more."""
        if self._sender:
            self._sender.cancel()

    def creating(self, at: float) -> None:
        """The pod is taken on."""
        self._container["state"] = {"waiting": {"reason": "ContainerCreating"}}
        self._tell(at, {"startTime": self._stamp(at), **self._conditions(at, ready=False)})

    def waiting(self, reason: str, message: str, at: float) -> None:
        """The container cannot start, for a reason such as ErrImagePull."""
        self._container["state"] = {"waiting": {"reason": reason, "message": message}}
        self._tell(at)

    def running(self, image: str, at: float) -> None:
        """The container runs."""
        identity = {"imageID": image, "containerID": f"containerd://{self.pod.metadata.uid}"}
        state = {"running": {"startedAt": self._stamp(at)}}
        self._container.update(identity, ready=True, started=True, state=state)
        self._phase = "Running"
        address = self._address()
        more = {"podIP": address, "podIPs": [{"ip": address}]}
        self._tell(at, {**more, **self._conditions(at, ready=True)})

    def ended(self, image: str, started: float, at: float, message: str) -> None:
        """The container has ended well."""
        terminated = {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": self._stamp(started),
            "finishedAt": self._stamp(at),
            "containerID": f"containerd://{self.pod.metadata.uid}",
            **({"message": message} if message else {}),
        }
        self._container.update(
            imageID=image, ready=False, started=False, state={"terminated": terminated}
        )
        self._tell(at, self._conditions(at, ready=False, reason="PodCompleted"))

    def succeeded(self, at: float) -> None:
        """The pod has ended well."""
        self._phase = "Succeeded"
        self._tell(at)

    def fail(self, reason: str, message: str, at: float) -> None:
        """The pod is ended by the kubelet, such as by an eviction."""
        self._phase = "Failed"
        self._container.setdefault("state", {"waiting": {"reason": "ContainerCreating"}})
        self._container.update(ready=False, started=False)
        if "running" in self._container["state"]:
            killed = {"exitCode": 137, "reason": "Error", "finishedAt": self._stamp(at)}
            self._container["state"] = {"terminated": killed}
        self._tell(at, {"reason": reason, "message": message})

    def _tell(self, at: float, more: Object | None = None) -> None:
        kept = self._waiting[1] if self._waiting else {}
        status = {
            **kept,
            "phase": self._phase,
            "hostIP": _HOST,
            "hostIPs": [{"ip": _HOST}],
            "containerStatuses": [dict(self._container)],
            **(more or {}),
        }
        self._waiting = (at, status)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        metadata = self.pod.metadata
        path = f"/api/v1/namespaces/{metadata.namespace}/pods/{metadata.name}/status"
        while self._waiting:
            await self._connected.wait()
            at, status = self._waiting
            self._waiting = None
            # with the uid, so that it never meets another pod of this name
            body = {"metadata": {"uid": metadata.uid}, "status": status}
            await self._api.send("PATCH", path, body, STRATEGIC)
            self._clock.told(at)

    def _conditions(self, at: float, *, ready: bool, reason: str = "") -> Object:
        stamp = self._stamp(at)
        said: dict[str, Object] = {"True": {}, "False": {"reason": reason or "ContainersNotReady"}}
        states = {
            "Initialized": "True",
            "PodReadyToStartContainers": "True" if ready else "False",
            "Ready": "True" if ready else "False",
            "ContainersReady": "True" if ready else "False",
        }
        return {
            "conditions": [
                {"type": kind, "status": state, "lastTransitionTime": stamp, **said[state]}
                for kind, state in states.items()
            ]
        }

    def _stamp(self, at: float) -> str:
        return timestamp(self._clock.at(at) + self.offset)

    def _address(self) -> str:
        number = int(self.pod.metadata.uid.replace("-", "")[:8], 16)
        return f"10.{96 + (number >> 16 & 15)}.{number >> 8 & 255}.{1 + number % 250}"
