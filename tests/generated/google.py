"""A local Google without sockets, on a clock that only waiting moves.

It is the rehearsal's own Google: its handlers are called where a client would send a request. GKE's
operations take minutes of this clock. A test lets something happen at any call.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cluster.fleet import ClusterKey, FleetError
from rehearsal.google.api import LocalGoogle
from rehearsal.google.environment import ENDPOINTS, PROJECT
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.http import Endpoint, GoogleError
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call
from tests.rehearsal.local_google import AUTHORIZATION, LOGIN, ListFleet

URL = "http://google.local"
ENDPOINT_VARIABLES = {
    f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{URL}/{path}" for name, path in ENDPOINTS.items()
}
BEGIN = datetime(2026, 11, 27, tzinfo=UTC)
_CALL_S = 0.1
"""What each call takes."""
_OPERATION_S = {"CREATE_CLUSTER": 240.0, "DELETE_CLUSTER": 150.0, "CREATE_NODE_POOL": 60.0}
_OTHER_OPERATION_S = 20.0
_VARIABLE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{\d+\})+))?\}")
_STOCK_OUT = (
    "Google Compute Engine: Not all instances running in IGM after 35.2s. Expected 4, running 0, "
    "transitioning 4. Current errors: [ZONE_RESOURCE_POOL_EXHAUSTED]: The zone "
    "'projects/p/zones/{0}' does not have enough resources available to fulfill the request."
)


class VirtualClock:
    """Time that moves when somebody waits; what is due meanwhile happens on the way."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.passes: Callable[[float], None] = lambda _seconds: None
        """Is called with each piece of time, before what is due at its end happens."""

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        end = self._now + max(seconds, 0.0)
        while self._due and self._due[0][0] <= end:
            at, _, act = heapq.heappop(self._due)
            self._move(at)
            act()
        self._move(end)

    def _move(self, to: float) -> None:
        self.passes(max(to - self._now, 0.0))
        self._now = max(self._now, to)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._now + seconds, next(self._numbers), act))

    @property
    def date(self) -> datetime:
        return BEGIN + timedelta(seconds=self._now)


class Answer:
    """The part of requests.Response that the clients read."""

    def __init__(self, status: int, content: bytes, date: datetime) -> None:
        self.status_code = status
        self.content = content
        self.ok = status < 400
        self.reason = "reason"
        self.headers = {"Date": format_datetime(date, usegmt=True)}
        self.elapsed = timedelta(seconds=_CALL_S)

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Refusal:
    """Calls that Google answers with an error, or whose answer is lost."""

    status: int
    """0: the call is carried out, and its answer is lost."""
    count: int
    message: str = "injected"
    reason: str = ""
    path: str = ""
    """Only calls whose method and path match; empty for all."""


@dataclass
class Happening:
    """What happens at a call, before or after Google has carried it out."""

    at: int
    after: bool
    act: Callable[[], None]


@dataclass
class _Place:
    pattern: re.Pattern[str]
    endpoint: Endpoint


@dataclass
class Google:
    """The local Google and what a test does with it."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    fleet: ListFleet = field(default_factory=ListFleet)
    state: GoogleState = field(default_factory=GoogleState)
    calls: list[str] = field(default_factory=list)
    """Of the present command."""
    happenings: list[Happening] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    injected: int = 0
    """Faults that took effect."""
    broken_pools: int = 0
    """Creations of pools that end without room, from now on."""
    slow_s: float = 0.0
    """What the next operation takes longer."""
    late_lists: int = 0
    """Lists of clusters, from now on, that lack all of them."""
    missing_zones: bool = False
    """They say so."""
    dead: Callable[[], bool] = lambda: False
    """The caller was killed."""
    charged_s: float = 0.0
    """For how long a cluster has existed."""

    def __post_init__(self) -> None:
        self.clock.passes = self._charge
        self.local = LocalGoogle(
            self.fleet,
            state=self.state,
            logs=LogStore(),
            faults=_Faults(self),
            base_url=f"{URL}/",
            start=self._start,
            login=LOGIN,
        )
        self._places: dict[str, list[_Place]] = {}
        for endpoint in self.local.endpoints:
            self._places.setdefault(endpoint.method, []).append(
                _Place(_pattern(endpoint.path), endpoint)
            )
        self._known: dict[tuple[str, str], tuple[Endpoint, dict[str, str]]] = {}

    def _charge(self, seconds: float) -> None:
        self.charged_s += seconds if self.clusters else 0.0

    def calm(self) -> None:
        """Let nothing go wrong from now on."""
        self.happenings.clear()
        self.refusals.clear()
        self.broken_pools = self.late_lists = 0
        self.slow_s = 0.0
        self.missing_zones = False

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Answer:
        """Answer as requests.Session.request does.

        Raises:
            requests.ConnectionError: the answer is lost.
        """
        path = urlsplit(url).path
        self.calls.append(f"{method} {path}")
        number = len(self.calls)
        self._happen(number, after=False)
        self.clock.sleep(_CALL_S)
        refusal = self._refusal(method, path)
        if refusal is not None and refusal.status:
            error = GoogleError(refusal.status, refusal.message, reason=refusal.reason)
            answer = error.response()
        else:
            answer = self._answered(method, path, json, dict(params or {}))
        self._happen(number, after=True)
        if refusal is not None and not refusal.status:
            raise requests.ConnectionError("Connection reset by peer")
        body = answer.body
        content = body if isinstance(body, bytes) else b""
        return Answer(answer.status, content, self.clock.date)

    def _answered(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        endpoint, variables = self._endpoint(method, path)
        call = Call(
            method=method,
            url_path=path,
            path=variables,
            query=query,
            query_string="",
            raw=b"" if body is None else json.dumps(body).encode(),
            base_url=f"{URL}/",
            authorization=AUTHORIZATION["Authorization"],
        )
        answer = endpoint.answer(call, self.local.guard)
        if self.late_lists and method == "GET" and path.endswith("/locations/-/clusters"):
            return self._late(answer)
        return answer

    def _late(self, answer: Any) -> Any:
        from aiohttp import web

        self.late_lists -= 1
        self.injected += 1
        clusters = json.loads(answer.body).get("clusters", [])
        zones = sorted({each["location"] for each in clusters}) if self.missing_zones else []
        return web.json_response({"clusters": [], **({"missingZones": zones} if zones else {})})

    def _happen(self, number: int, *, after: bool) -> None:
        if self.dead():
            raise Killed
        for each in [each for each in self.happenings if (each.at, each.after) == (number, after)]:
            self.happenings.remove(each)
            self.injected += 1
            each.act()

    def _refusal(self, method: str, path: str) -> Refusal | None:
        for each in self.refusals:
            if each.count and re.search(each.path, f"{method} {path}"):
                each.count -= 1
                self.injected += 1
                return each
        return None

    def _endpoint(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        known = self._known.get((method, path))
        if known is None:
            for place in self._places.get(method, ()):
                if match := place.pattern.fullmatch(path):
                    known = place.endpoint, match.groupdict()
                    break
            else:
                raise AssertionError(f"the local Google does not know {method} {path}")
            self._known[method, path] = known
        return known

    def _start(self, name: str, work: Callable[[], None]) -> None:
        operation = next(each for each in self.state.find(Kind.OPERATION) if each["name"] == name)
        takes = _OPERATION_S.get(operation["operationType"], _OTHER_OPERATION_S)
        if self.slow_s:
            self.injected += 1
        self.clock.after(takes + self.slow_s, work)
        self.slow_s = 0.0

    def begin_foreign_operation(self, lasting_s: float) -> None:
        """Let GKE work on every cluster for a while, by itself."""
        for key in self.fleet.clusters:
            name = f"operation-foreign-{self.clock.monotonic()}"
            full = f"projects/{key.project}/locations/{key.location}/operations/{name}"
            target = f"{URL}/projects/{key.project}/zones/{key.location}/clusters/{key.name}"
            operation: Json = {
                "name": name,
                "operationType": "UPGRADE_MASTER",
                "status": "RUNNING",
                "targetLink": target,
            }
            self.state.put(Kind.OPERATION, full, operation)
            self.injected += 1
            self.clock.after(
                lasting_s,
                lambda full=full, operation=operation: self.state.put(  # type: ignore[misc]
                    Kind.OPERATION, full, {**operation, "status": "DONE"}
                ),
            )

    # What exists, by Google's own lists.

    @property
    def clusters(self) -> list[str]:
        """The clusters that exist, whatever their state: they cost money."""
        return [
            f"{each['body']['location']}/{each['body']['name']}"
            for each in self.state.find(Kind.CLUSTER)
        ]

    def resources(self) -> list[str]:
        """What exists in Google Cloud but for the archive: bucket, sink, the sink's grant."""
        found = [f"cluster {each}" for each in self.clusters]
        found += [f"account {each['email']}" for each in self.state.find(Kind.SERVICE_ACCOUNT)]
        found += [f"job {each['name']}" for each in self.state.find(Kind.SCHEDULER_JOB)]
        left = (Kind.DISK, Kind.ADDRESS, Kind.FIREWALL)
        found += [f"{kind} {each['name']}" for kind in left for each in self.state.find(kind)]
        policy = self.state.get(Kind.POLICY, f"projects/{PROJECT}") or {"bindings": []}
        found += [
            f"grant {each['role']} {member}"
            for each in policy["bindings"]
            for member in each["members"]
        ]
        return sorted(found)

    def archives(self) -> list[str]:
        """The buckets, sinks and grants that outlive a stack."""
        found = [f"bucket {each['name']}" for each in self.state.find(Kind.BUCKET)]
        found += [f"sink {each['name']}" for each in self.state.find(Kind.SINK)]
        return sorted(found)


class Killed(BaseException):
    """The runner was killed: nothing that it would do happens any more."""


class _Faults(GoogleFaults):
    """Operations that fail for lack of machines."""

    def __init__(self, google: Google) -> None:
        super().__init__()
        self._google = google

    def work(self, operation_type: str, key: ClusterKey) -> None:
        if operation_type == "CREATE_NODE_POOL" and self._google.broken_pools:
            self._google.broken_pools -= 1
            self._google.injected += 1
            raise FleetError(_STOCK_OUT.format(key.location))


def _pattern(path: str) -> re.Pattern[str]:
    """A route's path as aiohttp reads it."""
    parts, at = [], 0
    for match in _VARIABLE.finditer(path):
        parts += [re.escape(path[at : match.start()]), f"(?P<{match[1]}>{match[2] or '[^{}/]+'})"]
        at = match.end()
    return re.compile("".join([*parts, re.escape(path[at:])]))
