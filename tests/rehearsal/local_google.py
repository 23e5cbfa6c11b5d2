"""A local Google on a real loopback port, with a fleet that keeps a list instead of clusters."""

import json
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp.typedefs import Middleware

from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cluster.fleet import ClusterKey, ControlPlane, FleetError, PoolSpec
from rehearsal.faults.faults import Faults
from rehearsal.google.access.login import Login
from rehearsal.google.api import LocalGoogle
from rehearsal.google.environment import google_variables
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.recorder import recorder
from rehearsal.google.state import GoogleState
from rehearsal.machine import web
from rehearsal.machine.home import Home
from tests.rehearsal.discovery import expect_documented
from tests.until import until

LOGIN = Login("any")
"""Of every local Google of these tests, since a key takes a while to make."""
AUTHORIZATION = {"Authorization": f"Bearer {LOGIN.token}"}
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ZONE = "container/v1beta1/projects/p/locations/us-central1-a"


@dataclass
class ListFleet:
    """Keeps the contract of rehearsal.cluster.fleet with a list.

    Attributes:
        clusters: pools by cluster, nodes by pool.
        specs: pools as they were asked for, in their order.
        resizes: of control planes: location, seconds, and whether they stayed reachable.
        gate: calls wait for it, so that a test can look while an operation runs.
        resize_gate: the same for resizes of control planes.
        refusals: what to raise, by method.
    """

    clusters: dict[ClusterKey, dict[str, int]] = field(default_factory=dict)
    specs: list[PoolSpec] = field(default_factory=list)
    resizes: list[tuple[str, float, bool]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    resize_gate: threading.Event = field(default_factory=threading.Event)
    refusals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()
        self.resize_gate.set()

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

    def resize_control_plane(self, key: ClusterKey, seconds: float, *, reachable: bool) -> None:
        assert self.resize_gate.wait(20)
        self.resizes.append((key.location, seconds, reachable))

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
        self.session.headers.update(AUTHORIZATION)

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
        link = operation["selfLink"].partition("/container/")[2].replace("/zones/", "/locations/")

        def done() -> dict[str, Any] | None:
            found = self.ok("GET", f"container/{link}")
            return found if found["status"] == "DONE" else None

        return until(done, 20, f"{operation} ends", every_s=0.01)

    def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A call that starts an operation, to its good end."""
        operation = self.finish(self.ok(method, path, body))
        assert "error" not in operation, operation
        return operation


def official_calls() -> list[dict[str, Any]]:
    """Return the calls of the official gcp provider, in their order, without repeated reads.

    Recorded while the program of `infra` was brought up as the stack `trial`, changed 12 times,
    destroyed, brought up again and destroyed. A bucket's random suffix is SUFFIX, an operation's
    name OPERATION.
    """
    lines = Path(__file__).with_name("official_calls.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


@contextmanager
def serving(
    fleet: ListFleet | None = None,
    faults: Faults | None = None,
    middlewares: Iterable[Middleware] = (),
    resize_s: float = 0.0,
) -> Iterator[Google]:
    """A local Google without anything in it; fails if an exchange is not as Google documents it."""
    fleet, state, logs = fleet or ListFleet(), GoogleState(), LogStore()
    ending = threading.Event()
    google_faults = GoogleFaults(Faults() if faults is None else faults, ending)
    local = LocalGoogle(
        fleet, state=state, logs=logs, faults=google_faults, resize_s=resize_s, login=LOGIN
    )
    with tempfile.TemporaryDirectory() as folder:
        exchanges = Path(folder) / "exchanges.jsonl"
        record = [*middlewares, recorder(exchanges)]
        with web.serving(local.routes, middlewares=record) as url:
            google = Google(url, state, fleet, logs)
            try:
                yield google
            finally:
                ending.set()
                fleet.gate.set()
                fleet.resize_gate.set()
                google.session.close()
        expect_documented(exchanges, gaps=True)


def lead_to(google: Google, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment's variables so that clients call this local Google."""
    home = folder / "home"
    home.mkdir()
    variables = google_variables(Home(home), LOGIN, url=google.url, logging="127.0.0.1:1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
