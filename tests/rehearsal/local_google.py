"""A local Google on a real loopback port, with a fleet that keeps a list instead of clusters."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from rehearsal.cloud_logging.store import LogStore
from rehearsal.cluster.fleet import ClusterKey, ControlPlane, FleetError, PoolSpec
from rehearsal.faults.faults import Faults
from rehearsal.google.api import routes
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.state import GoogleState

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ZONE = "container/v1beta1/projects/p/locations/us-central1-a"


@dataclass
class ListFleet:
    """Keeps the contract of rehearsal.cluster.fleet with a list.

    Attributes:
        clusters: pools by cluster, nodes by pool.
        specs: pools as they were asked for, in their order.
        gate: calls wait for it, so that a test can look while an operation runs.
        refusals: what to raise, by method.
    """

    clusters: dict[ClusterKey, dict[str, int]] = field(default_factory=dict)
    specs: list[PoolSpec] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    refusals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()

    def _enter(self, method: str) -> None:
        assert self.gate.wait(20)
        if method in self.refusals:
            raise FleetError(self.refusals[method])

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        self._enter("create_cluster")
        self.clusters[key] = {}
        return ControlPlane("127.0.0.1:6443", CA, "v1.34.1")

    def delete_cluster(self, key: ClusterKey) -> None:
        self._enter("delete_cluster")
        self.clusters.pop(key, None)

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        self._enter("create_pool")
        self.specs.append(pool)
        self.clusters[key][pool.name] = pool.node_count

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        self._enter("resize_pool")
        self.clusters[key][pool] = node_count

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        self._enter("delete_pool")
        self.clusters[key].pop(pool, None)

    def close(self) -> None:
        self.clusters.clear()


class Google:
    """A client of a running local Google, and what is behind it."""

    def __init__(self, url: str, state: GoogleState, fleet: ListFleet, logs: LogStore) -> None:
        self.url = url
        self.state = state
        self.fleet = fleet
        self.logs = logs
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer any"

    def call(self, method: str, path: str, body: Any = None, **params: str) -> requests.Response:
        return self.session.request(
            method, f"{self.url}/{path}", json=body, params=params, timeout=20
        )

    def ok(self, method: str, path: str, body: Any = None, **params: str) -> dict[str, Any]:
        """The answer's JSON; fails on an error."""
        response = self.call(method, path, body, **params)
        assert response.ok, response.text
        return dict(response.json()) if response.content else {}

    def error(self, method: str, path: str, body: Any = None, **params: str) -> dict[str, Any]:
        """The error of an answer that is one, in Google's form."""
        response = self.call(method, path, body, **params)
        assert not response.ok
        error = response.json()["error"]
        assert error["code"] == response.status_code
        assert error["errors"][0]["message"] == error["message"]
        return dict(error)

    def finish(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Wait for an operation's end; the operation then."""
        place = f"container/v1beta1/projects/p/locations/{operation['location']}"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.ok("GET", f"{place}/operations/{operation['name']}")
            if found["status"] == "DONE":
                return found
            time.sleep(0.01)
        raise AssertionError(f"{operation} did not end")

    def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A call that starts an operation, to its good end."""
        operation = self.finish(self.ok(method, path, body))
        assert "error" not in operation, operation
        return operation


class Loopback:
    """A server on a loopback port whose application can be changed while it runs."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        config = uvicorn.Config(
            self._serve, port=0, log_level="error", lifespan="off", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@contextmanager
def google_in(
    folder: Path,
    loopback: Loopback,
    fleet: ListFleet | None = None,
    faults: Faults | None = None,
) -> Iterator[Google]:
    """A local Google over the state in a folder."""
    fleet = fleet or ListFleet()
    state = GoogleState(folder / "google.sqlite")
    logs = LogStore(folder / "entries.jsonl")
    ending = threading.Event()
    google_faults = GoogleFaults(Faults() if faults is None else faults, ending)
    loopback.app = Starlette(routes=[*routes(state, fleet, logs, google_faults)])
    google = Google(loopback.url, state, fleet, logs)
    try:
        yield google
    finally:
        ending.set()
        fleet.gate.set()
        google.session.close()
        logs.close()


@contextmanager
def serving(
    folder: Path, fleet: ListFleet | None = None, faults: Faults | None = None
) -> Iterator[Google]:
    """The same with a server of its own."""
    loopback = Loopback()
    try:
        with google_in(folder, loopback, fleet, faults) as google:
            yield google
    finally:
        loopback.close()
