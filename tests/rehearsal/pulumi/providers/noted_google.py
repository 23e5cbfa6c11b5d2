"""A local Google whose calls, and what its fleet is told, are noted in their order."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rehearsal.cluster.fleet import ClusterKey, ControlPlane, FleetError, PoolSpec
from rehearsal.google.environment import ENDPOINTS
from tests.rehearsal.local_google import Google, ListFleet, Loopback, google_in


@dataclass
class NotedFleet(ListFleet):
    """A fleet that is a list.

    Attributes:
        done: what it was told, such as `create_cluster c us-central1-a`, `resize_pool measured 3`.
        cluster_s: seconds that the creation of a cluster takes.
        stock_out: name of a pool that cannot be had.
    """

    done: list[str] = field(default_factory=list)
    cluster_s: float = 0.0
    stock_out: str = ""

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        time.sleep(self.cluster_s)
        self.done.append(f"create_cluster {key.name} {key.location}")
        return super().create_cluster(key)

    def delete_cluster(self, key: ClusterKey) -> None:
        self.done.append(f"delete_cluster {key.name} {key.location}")
        super().delete_cluster(key)

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        if self.stock_out == pool.name:
            raise FleetError("ZONE_RESOURCE_POOL_EXHAUSTED: us-central1-a has no n1-standard-16.")
        self.done.append(f"create_pool {pool.name} {pool.node_count}")
        super().create_pool(key, pool)

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        self.done.append(f"resize_pool {pool} {node_count}")
        super().resize_pool(key, pool, node_count)

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        self.done.append(f"delete_pool {pool}")
        super().delete_pool(key, pool)


@dataclass
class NotedGoogle:
    """A served local Google.

    Attributes:
        client: asks it.
        fleet: what it runs clusters on.
        calls: METHOD PATH of each request, in their order.
        answers: (status, body) to give out of turn, by METHOD PATH, once each.
    """

    client: Google
    fleet: NotedFleet
    calls: list[str] = field(default_factory=list)
    answers: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """Configuration of the gcp provider that leads here."""
        endpoints = {}
        for name, path in ENDPOINTS.items():
            first, *rest = name.lower().split("_")
            service = first + "".join(word.capitalize() for word in rest)
            endpoints[f"{service}CustomEndpoint"] = f"{self.client.url}/{path}"
        place = {"project": "p", "zone": "us-central1-a", "region": "us-central1"}
        return {**endpoints, **place, "accessToken": "t", "pollInterval": "50ms"}

    def variables(self) -> dict[str, str]:
        """The environment that leads the gcp provider here."""
        url = self.client.url
        endpoints = {
            f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{url}/{path}" for name, path in ENDPOINTS.items()
        }
        return {**endpoints, "GOOGLE_OAUTH_ACCESS_TOKEN": "t", "GOOGLE_CLOUD_PROJECT": "p"}

    def writes(self) -> list[str]:
        """The calls that are no reads."""
        reads = ("GET ", "POST /crm/v1/projects/p:getIamPolicy")
        return [call for call in self.calls if not call.startswith(reads)]

    def forget(self) -> None:
        """Forget what was noted."""
        self.calls.clear()
        self.fleet.done.clear()


class _Noted:
    def __init__(self, app: ASGIApp, noted: NotedGoogle) -> None:
        self._app = app
        self._noted = noted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            call = f"{scope['method']} {scope['path']}"
            self._noted.calls.append(call)
            queued = self._noted.answers.get(call)
            if queued:
                status, body = queued.pop(0)
                app = JSONResponse(body, status_code=status)
        await app(scope, receive, send)


@contextmanager
def noted_google(folder: Path) -> Iterator[NotedGoogle]:
    """Serve it from a folder until the block ends."""
    loopback, fleet = Loopback(), NotedFleet()
    try:
        with google_in(folder, loopback, fleet) as client:
            noted = NotedGoogle(client, fleet)
            assert loopback.app is not None
            loopback.app = _Noted(loopback.app, noted)
            yield noted
    finally:
        loopback.close()
