"""The local Google of a rehearsal with a fleet that only notes what it is told.

For tests of Pulumi against it: real engine, real REST server, no clusters.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from rehearsal import google_api
from rehearsal.environment import ENDPOINTS
from rehearsal.fleet import ClusterKey, ControlPlane, FleetError, PoolSpec
from rehearsal.google_state import GoogleState


@dataclass
class NotedFleet:
    """A fleet without machines.

    Attributes:
        done: what it was told, such as `create_cluster c` or `resize_pool measured 3`.
        cluster_s: seconds that the creation of a cluster takes.
        stock_out: name of a pool that cannot be had.
    """

    done: list[str] = field(default_factory=list)
    cluster_s: float = 0.0
    stock_out: str = ""

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        time.sleep(self.cluster_s)
        self.done.append(f"create_cluster {key.name} {key.location}")
        return ControlPlane("127.0.0.1:1", "certificate", "v1.34.1")

    def delete_cluster(self, key: ClusterKey) -> None:
        self.done.append(f"delete_cluster {key.name} {key.location}")

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        if self.stock_out == pool.name:
            raise FleetError("ZONE_RESOURCE_POOL_EXHAUSTED: us-central1-a has no n1-standard-16.")
        self.done.append(f"create_pool {pool.name} {pool.node_count}")

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        self.done.append(f"resize_pool {pool} {node_count}")

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        self.done.append(f"delete_pool {pool}")

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class LocalGoogle:
    """A served local Google.

    Attributes:
        url: where.
        fleet: what it runs clusters on.
        calls: METHOD PATH of each request, in their order.
    """

    url: str
    fleet: NotedFleet
    calls: list[str]

    def variables(self) -> dict[str, str]:
        """The environment that leads the gcp provider here."""
        endpoints = {f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{self.url}/{path}"
                     for name, path in ENDPOINTS.items()}  # fmt: skip
        return {**endpoints, "GOOGLE_OAUTH_ACCESS_TOKEN": "t", "GOOGLE_CLOUD_PROJECT": "p"}

    def writes(self) -> list[str]:
        """The calls that are no reads."""
        reads = ("GET ", "POST /crm/v1/projects/p:getIamPolicy")
        return [call for call in self.calls if not call.startswith(reads)]


class _Noted:
    def __init__(self, app: ASGIApp, calls: list[str]) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._calls.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


@contextmanager
def local_google(folder: Path) -> Iterator[LocalGoogle]:
    """Serve it from a folder until the block ends."""
    fleet = NotedFleet()
    calls: list[str] = []
    routes = google_api.routes(GoogleState(folder / "google.sqlite"), fleet)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            _Noted(Starlette(routes=routes), calls), log_level="error", lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield LocalGoogle(f"http://127.0.0.1:{listening.getsockname()[1]}", fleet, calls)
    finally:
        server.should_exit = True
        thread.join(3)
        listening.close()
