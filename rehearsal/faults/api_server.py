"""Faults between the runner and the API server: rules of a proxy before it.

The cluster's endpoint in the GKE API is then the proxy's, so the runner and Pulumi go through it;
the nodes and the exporter do not. Requests are affected only while a trial runs or is about to be
released, so that a cluster is provisioned and prepared undisturbed.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from rehearsal.faults.events import WATCH, DelayQueue, EventFaults, Verdict, deliver
from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Emit, Request, Rules, Stream
from rehearsal.faults.trials import StudyPods
from schema.names import JOB_NAMESPACE

KINDS = ("api", "api-away", "two-pods", "watch")
"""Kinds that need the proxy; events may need it too."""

_EVENTS = ("/api/v1/events", f"/api/v1/namespaces/{JOB_NAMESPACE}/events")
_POD = re.compile(rf"/api/v1/namespaces/{JOB_NAMESPACE}/pods/(?P<name>[^/]+)")
_BINDINGS = f"/api/v1/namespaces/{JOB_NAMESPACE}/bindings"
_NUMBER = re.compile(r"\d+$")
_JSON = {"Content-Type": "application/json"}
_MESSAGES = {
    429: "The server has received too many requests and has asked us to try later.",
    500: "Internal error occurred: an injected fault.",
}


class ApiRules(Rules):
    """The rules of the proxy before one API server; `study` says which trial runs."""

    def __init__(
        self, faults: Faults, study: StudyPods, events: EventFaults, delays: DelayQueue
    ) -> None:
        self._faults = faults
        self._study = study
        self._events = events
        self._delays = delays
        self._guard = threading.Lock()
        self._number = itertools.count()
        self._watches: list[Stream] = []
        self._closed_until: dict[str, float] = {}
        self._expired: set[str] = set()
        self._away_until = 0.0

    def delay_s(self, request: Request) -> float:
        slow = self._inject(request, "slow")
        return slow.number("ms") / 1000 if slow else 0.0

    def before(self, request: Request) -> Request | Answer:
        if time.monotonic() < self._away_until:
            raise ConnectionReset
        if _is_watch(request) and (answer := self._refused_watch(request)):
            return answer
        if self._inject(request, "reset"):
            raise ConnectionReset
        if fault := self._inject(request, "error"):
            return _status(int(fault.number("status")))
        return self._misdirected(request)

    def open_stream(self, stream: Stream) -> Emit | None:
        """Watches are read by lines, if a fault concerns them."""
        if not _is_watch(stream.request):
            return None
        with self._guard:
            self._watches.append(stream)
        if stream.request.path not in _EVENTS or not self._events:
            return stream.emit
        return partial(self._take_event, stream.emit)

    def close_stream(self, stream: Stream) -> None:
        with self._guard:
            if stream in self._watches:
                self._watches.remove(stream)

    def editor(self, request: Request) -> Callable[[bytes], bytes] | None:
        """Leave lost events out of lists, where the runner must not find them either."""
        if request.path not in _EVENTS or request.method != "GET" or not self._events:
            return None
        return self._without_lost

    def end_watches(self, fault: Fault) -> int:
        """End the open watches of the fault's resource; return how many there were.

        `closed` resets them, and refuses new ones until its time is over; `410` ends each with
        410 Gone, or the next one if none is open.
        """
        resource = fault.word("resource")
        with self._guard:
            ended = [each for each in self._watches if _names(resource, each.request.path)]
            self._watches = [each for each in self._watches if each not in ended]
            if fault.how == "closed":
                self._closed_until[resource] = time.monotonic() + fault.number("s")
            elif not ended:
                self._expired.add(resource)
        for stream in ended:
            if fault.how == "closed":
                stream.reset()
            else:
                stream.emit(_gone("1"))
        return len(ended)

    def go_away(self, seconds: float) -> int:
        """Reset the open watches, and each request until the time is over; return how many."""
        with self._guard:
            ended, self._watches = self._watches, []
            self._away_until = time.monotonic() + seconds
        for stream in ended:
            stream.reset()
        return len(ended)

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

    def _take_event(self, emit: Emit, line: bytes) -> None:
        try:
            verdict = self._events.verdict(json.loads(line)["object"], WATCH)
        except (ValueError, KeyError, TypeError):  # not an event
            verdict = Verdict()
        deliver(line, verdict, emit, self._delays)

    def _without_lost(self, body: bytes) -> bytes:
        try:
            listed = json.loads(body)
            items = [each for each in listed["items"] if not self._events.verdict(each, WATCH).lost]
        except (ValueError, KeyError, TypeError):  # an error's body
            return body
        return json.dumps({**listed, "items": items}).encode()

    def _inject(self, request: Request, how: str) -> Fault | None:
        trial = self._trial_of(request) if self._faults.of("api", how=how) else 0
        if trial == 0:
            return None
        return self._faults.inject(
            "api",
            how=how,
            trial=trial,
            key=str(next(self._number)),
            about=partial(_is_about, request),
            request=f"{request.method} {request.path}",
        )

    def _trial_of(self, request: Request) -> int:
        """Return the trial that a request concerns, or else the one that runs."""
        pod = _POD.fullmatch(request.path)
        name = pod["name"] if pod else _binding(request)[0]
        place = self._study.place(name) if name else None
        return place.trial if place else self._study.trial

    def _misdirected(self, request: Request) -> Request:
        """Send a pod to another node than the runner's, if requested."""
        name, node = _binding(request)
        if not name or not self._faults.of("two-pods"):
            return request
        place = self._study.place(name)
        trial = place.trial if place else 0
        fault = self._faults.inject("two-pods", trial=trial, node=node, pod=name)
        if fault is None:
            return request
        to = int(fault.number("to"))
        other = _NUMBER.sub(lambda number: f"{to:0{len(number[0])}d}", node)
        return replace(
            request, body=request.body.replace(f'"{node}"'.encode(), f'"{other}"'.encode())
        )


def _is_watch(request: Request) -> bool:
    return request.method == "GET" and request.query.get("watch", "") in {"true", "True", "1"}


def _names(resource: str, path: str) -> bool:
    return not resource or path.endswith(f"/{resource}")


def _is_about(request: Request, fault: Fault) -> bool:
    verb, resource = fault.word("verb"), fault.word("resource")
    if _is_watch(request) and not resource:
        return False  # the kind `watch` is for them
    return verb in {"", request.method} and resource in request.path


def _binding(request: Request) -> tuple[str, str]:
    """Return the pod and node of a binding that is created; empty for another request."""
    if (request.method, request.path) != ("POST", _BINDINGS):
        return "", ""
    body = json.loads(request.body)
    return body["metadata"]["name"], body["target"]["name"]


def _status(code: int, reason: str = "", message: str = "") -> Answer:
    phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else "Unknown"
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or _MESSAGES.get(code, f"{phrase}: an injected fault."),
        "reason": reason or ("InternalError" if code == 500 else phrase.replace(" ", "")),  # noqa: PLR2004
        "code": code,
    }
    retry = {"Retry-After": "1"} if code == HTTPStatus.TOO_MANY_REQUESTS else {}
    return Answer(code, json.dumps(body).encode(), {**_JSON, **retry})


def _gone(version: str) -> bytes:
    """Return a watch's last line where its version is too old, as the API server writes it."""
    message = f"too old resource version: {version} ({int(version or 1) + 1})"
    error = json.loads(_status(410, "Expired", message).body)
    return json.dumps({"type": "ERROR", "object": error}).encode() + b"\n"
