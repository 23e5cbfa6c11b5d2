"""What strikes the runner on its way to the API server: rules of a front before it.

The cluster's endpoint in the GKE API is then the front's, so the runner and Pulumi come through
here, the nodes and the exporter do not. Requests are struck while a trial is on or about to be
released, so that a cluster is provisioned and prepared undisturbed.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rehearsal.faults.events import WATCH, EventFaults, Later, Way
from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Emit, Request
from rehearsal.faults.trials import StudyPods, node_of
from schema.names import JOB_NAMESPACE

KINDS = (
    "api-slow",
    "api-throttled",
    "api-error",
    "api-reset",
    "two-pods",
    "watch-closed",
    "watch-expired",
)
"""Kinds that only a front can do; the kinds of event_faults may need one too."""

_EVENTS = ("/api/v1/events", f"/api/v1/namespaces/{JOB_NAMESPACE}/events")
_POD = re.compile(rf"/api/v1/namespaces/{JOB_NAMESPACE}/pods/(?P<name>[^/]+)")
_NUMBER = re.compile(r"\d+$")
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class _Watch:
    """A watch that is open."""

    path: str
    emit: Emit
    close: Callable[[], None]


class ApiRules:
    """The rules (rehearsal.faults.proxy.Rules).

    Args:
        faults: that were asked for.
        study: tells which trial is on.
        events: decides about events.
        later: does what is late.
    """

    def __init__(self, faults: Faults, study: StudyPods, events: EventFaults, later: Later) -> None:
        self._faults = faults
        self._study = study
        self._events = events
        self._later = later
        self._guard = threading.Lock()
        self._number = itertools.count()
        self._watches: list[_Watch] = []
        self._closed_until: dict[str, float] = {}
        self._expired: set[str] = set()

    def before(self, request: Request) -> Request | Answer:
        """Strike a request; see front.Rules."""
        if _is_watch(request) and (answer := self._refused_watch(request)):
            return answer
        trial = self._trial_of(request)
        if trial == 0:
            return request
        if slow := self._strike("api-slow", request, trial):
            time.sleep(slow.number("ms") / 1000)
        if self._strike("api-reset", request, trial):
            raise ConnectionReset
        if self._strike("api-throttled", request, trial):
            sentence = "The server has received too many requests and has asked us to try later."
            return _status(429, "TooManyRequests", sentence, {"Retry-After": "1"})
        if self._strike("api-error", request, trial):
            return _status(500, "InternalError", "Internal error occurred: a fault was asked for.")
        return self._misdirected(request)

    def open_stream(self, request: Request, emit: Emit, close: Callable[[], None]) -> Emit | None:
        """Watches alone are streams; see front.Rules."""
        if not _is_watch(request):
            return None
        with self._guard:
            self._watches.append(_Watch(request.path, emit, close))
        if request.path not in _EVENTS:
            return emit
        way = Way[bytes](emit, self._later)
        return partial(self._take_event, way)

    def body(self, request: Request, body: bytes) -> bytes:
        """Leave lost events out of a list, as the runner must not find them there either."""
        if request.path not in _EVENTS or request.method != "GET":
            return body
        try:
            listed = json.loads(body)
            items = [each for each in listed["items"] if not self._verdict(each).lost]
        except (ValueError, KeyError, TypeError):  # an error's body
            return body
        return json.dumps({**listed, "items": items}).encode()

    def close_watches(self, fault: Fault) -> int:
        """Close the watches that a fault of watches names; how many there were.

        `watch-closed` breaks them off, and refuses new ones until its time is over; `watch-expired`
        tells each that it is too old, or the next one if there is none.
        """
        resource = fault.word("resource")
        with self._guard:
            struck = [watch for watch in self._watches if _names(resource, watch.path)]
            self._watches = [watch for watch in self._watches if watch not in struck]
            if fault.name == "watch-closed":
                self._closed_until[resource] = time.monotonic() + fault.number("s")
            elif not struck:
                self._expired.add(resource)
        for watch in struck:
            if fault.name == "watch-closed":
                watch.close()
            else:
                watch.emit(_gone("1"))
        return len(struck)

    def _refused_watch(self, request: Request) -> Answer | None:
        with self._guard:
            for resource, until in self._closed_until.items():
                if _names(resource, request.path) and time.monotonic() < until:
                    return Answer(200, b"", _JSON)
            for resource in self._expired:
                if _names(resource, request.path):
                    self._expired.remove(resource)
                    return Answer(200, _gone(request.query.get("resourceVersion", "1")), _JSON)
        return None

    def _take_event(self, way: Way[bytes], line: bytes) -> None:
        try:
            change = json.loads(line)
            verdict = self._verdict(change["object"])
        except (ValueError, KeyError, TypeError):
            way.put(line)
        else:
            way.put(line, verdict)

    def _verdict(self, event: dict[str, Any]) -> Any:
        return self._events.verdict(event, WATCH)

    def _strike(self, name: str, request: Request, trial: int) -> Fault | None:
        return self._faults.strike(
            name,
            trial=trial,
            key=str(next(self._number)),
            about=partial(_is_about, request),
            request=f"{request.method} {request.path}",
        )

    def _trial_of(self, request: Request) -> int:
        """The trial that a request is about, or else the one that is on."""
        pod = _POD.fullmatch(request.path)
        place = self._study.place(pod["name"]) if pod else None
        return place.trial if place else self._study.trial

    def _misdirected(self, request: Request) -> Request:
        """Send a pod to another node than the runner wants it on, where that was asked for."""
        match = _POD.fullmatch(request.path)
        if request.method != "PATCH" or match is None or not self._faults.of("two-pods"):
            return request
        place, node = self._study.place(match["name"]), _wanted_node(json.loads(request.body))
        trial = place.trial if place else 0
        fault = self._faults.strike("two-pods", trial=trial, node=node, pod=match["name"])
        if fault is None:
            return request
        to = int(fault.number("to"))
        other = _NUMBER.sub(lambda number: f"{to:0{len(number[0])}d}", node)
        body = request.body.replace(f'"{node}"'.encode(), f'"{other}"'.encode())
        return replace(request, body=body)


def _is_watch(request: Request) -> bool:
    return request.method == "GET" and request.query.get("watch", "") in {"true", "True", "1"}


def _names(resource: str, path: str) -> bool:
    return not resource or path.endswith(f"/{resource}")


def _is_about(request: Request, fault: Fault) -> bool:
    verb, resource = fault.word("verb"), fault.word("resource")
    if _is_watch(request) and not resource:
        return False  # `watch-closed` is for them
    return verb in {"", request.method} and resource in request.path


def _wanted_node(patch: Any) -> str:
    """The node that a JSON patch of a pod gives it an affinity to; empty if it does not."""
    for step in patch:
        if step["path"] == "/spec/affinity":
            return node_of({"spec": {"affinity": step["value"]}})
    return ""


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Answer(code, json.dumps(body).encode(), {**_JSON, **(headers or {})})


def _gone(version: str) -> bytes:
    """A watch's last line where its version is too old, as the API server gives it."""
    message = f"too old resource version: {version} ({int(version or 1) + 1})"
    error = json.loads(_status(410, "Expired", message).body)
    return json.dumps({"type": "ERROR", "object": error}).encode() + b"\n"
