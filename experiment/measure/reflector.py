"""Reflects one kind of object: lists it once, then watches it until it is closed.

A cut or expired watch is resumed at the version that was seen last, so the server sends what
happened meanwhile and nothing is missed: a gap that was recovered. Bookmarks keep the version young
while nothing happens. Where the server does not remember it any more (410 Gone) the kind is listed
again; objects that existed only in between may be missing: a gap.

Events are different. The API server keeps no cache of them and sends no bookmarks, so after some
quiet minutes their version is always too old (kube-apiserver compacts etcd every five). But it
keeps each for an hour: a list within that time has all that happened, so nothing is missed. Only
what is newer than the last version is reported; of an event's updates the latest is there.
(k8s.io/kubernetes, default_storage_factory_builder.go, DefaultWatchCacheSizes; k8s.io/apiserver,
storage/etcd3/watcher.go.)
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus

import msgspec

from experiment.errors import Failure, MeasureError
from experiment.kube import SILENCE_S, Kube, Obj
from experiment.outage import Refused
from experiment.waiting import Clock, now

_WATCH_S = (240, 300)
_EARLY_S = 5
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_DENIED = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
_DENIED_S = 20.0
"""An API server that has just started may answer 403 and 404 for some seconds, until it has read
its roles and APIs (kube-apiserver's poststarthook/rbac/bootstrap-roles); longer is final."""
_PAGE = "500"
_EVENTS_LAST = timedelta(minutes=55)
"""The API server keeps events for an hour (kube-apiserver --event-ttl; GKE's default too)."""

Handler = Callable[[str, Obj], None]
"""Called with the change and the object, in the reflector's thread: ADDED, MODIFIED or DELETED, or
LISTED for an event of a list, which may have happened up to an hour ago."""

OnGap = Callable[[datetime, datetime, str, bool], None]
"""Called with start, end and reason of a period without a watch, and whether it was recovered."""


@dataclass(frozen=True, slots=True)
class ListWatch:
    """What to list and watch."""

    name: str
    path: str
    """Of the list."""
    selectors: dict[str, str] = field(default_factory=dict)
    """labelSelector, fieldSelector."""
    events: bool = False
    """It has no bookmarks, and its objects expire after an hour."""


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the whole lines of a stream that comes in pieces of any length."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())


class Reflector:
    """A thread that reflects one kind of object until it is closed.

    After a new list every object is reported as ADDED, and a missing one as DELETED, as it was seen
    last; of events only new ones are. What a handler raises, or a final refusal (400; 403 and 404
    for 20 seconds), ends it; `failure` holds it.

    Args:
        kube: the cluster.
        what: to list and watch.
        handle: called with every change.
        on_gap: called for each period without a watch, once it has ended.
        clock: measures how long the API server is away.
    """

    def __init__(
        self, kube: Kube, what: ListWatch, handle: Handler, on_gap: OnGap, clock: Clock = time
    ) -> None:
        self.name = what.name
        self.listed = threading.Event()
        """Set after the first list, and when reflecting has ended."""
        self.failure: Exception | None = None
        """Why it has ended; None while it runs."""
        self._kube = kube
        self._what = what
        self._handle = handle
        self._on_gap = on_gap
        self._closing = threading.Event()
        self._handling = threading.Lock()
        self._clock = clock
        self._heard = clock.monotonic()
        self._away_since: float | None = None
        self._denied_since: float | None = None
        self._was_away_s = 0.0
        self._version = ""
        self._newest = 0
        """Latest version seen."""
        self._gap = ""
        self._pause_s = _PAUSE_S
        self._heard_at = now()
        self._known: dict[str, Obj] = {}
        threading.Thread(target=self._run, name=f"reflect-{what.name}", daemon=True).start()

    @property
    def away_s(self) -> float:
        """For how long the API server has been away; 0 while it answers."""
        since = self._away_since
        return self._clock.monotonic() - since if since is not None else 0.0

    @property
    def all_away_s(self) -> float:
        """For how long it has been away in all."""
        return self._was_away_s + self.away_s

    @property
    def trouble(self) -> str:
        """Why the server does not answer at the moment, in brackets; empty if it is."""
        return f" ({self._gap})" if self._gap else ""

    def close(self) -> None:
        """Stop; later changes are not reported."""
        self._closing.set()
        with self._handling:  # the thread itself ends with its connection
            pass

    def _run(self) -> None:
        while not self._closing.is_set() and self.failure is None:
            try:
                if not self._version:
                    self._list()
                self._watch()
            except Refused as refused:
                self._after(refused)
            except Exception as error:  # noqa: BLE001 (raised by whoever waits)
                self.failure = error
        self.listed.set()

    def _after(self, refused: Refused) -> None:
        if self._closing.is_set():
            return
        if refused.status == HTTPStatus.BAD_REQUEST:
            self.failure = refused.as_error()
            return
        if refused.status in _DENIED:
            at = self._clock.monotonic()
            self._denied_since = at if self._denied_since is None else self._denied_since
            if at - self._denied_since >= _DENIED_S:
                self.failure = self._denial(refused)
                return
        else:
            self._denied_since = None
        if refused.status == HTTPStatus.GONE:
            self._version = ""
        elif self._away_since is None:
            self._away_since = self._heard
        if not (refused.status == HTTPStatus.GONE and self._lasting):
            status = f" ({refused.status})" if refused.status else ""
            why = f"the watch of {self._what.name} was closed: {refused.reason}{status}"
            self._gap = self._gap or why
        self._closing.wait(max(self._pause_s, refused.retry_after_s))
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def _denial(self, refused: Refused) -> MeasureError:
        """Name the right that is missing."""
        *before, resource = self._what.path.split("/")
        scope = f"--namespace {before[-1]}" if "namespaces" in before else "--all-namespaces"
        unknown = (
            ", or the server does not have them" if refused.status == HTTPStatus.NOT_FOUND else ""
        )
        return MeasureError(
            f"The cluster's API server does not let the runner list and watch {self.name} "
            f"({refused.status}): {refused.reason}. The login lacks the rights list and watch of "
            f"{resource}{unknown}, so pulls cannot be observed.",
            f"kubectl auth can-i watch {resource} {scope}; docs/running-on-gke.md has the roles",
            failure=Failure.PERMISSION,
        )

    @property
    def _lasting(self) -> bool:
        """Whether a list has all that happened since the server was last heard."""
        return self._what.events and now() - self._heard_at < _EVENTS_LAST

    def _list(self) -> None:
        listed: dict[str, Obj] = {}
        query = {**self._what.selectors, "limit": _PAGE}
        while True:
            page = self._kube.list(self._what.path, query)
            listed.update({str(item["metadata"]["uid"]): item for item in page["items"]})
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                break
        missing = [item for uid, item in self._known.items() if uid not in listed]
        for item in missing:
            self._report("DELETED", item)
        for item in listed.values():
            if not (self._what.events and 0 < _version(item) <= self._newest):
                self._report("LISTED" if self._what.events else "ADDED", item)
        self._is_back()
        self._take_version(page)
        self._hear(recovered=self._lasting)
        self.listed.set()

    def _watch(self) -> None:
        query = {
            **self._what.selectors,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        seconds = random.randint(*_WATCH_S)  # noqa: S311 (so that watches do not end together)
        started = self._clock.monotonic()
        silence_s = seconds + _EARLY_S if self._what.events else SILENCE_S
        stream = self._kube.watch(self._what.path, query, seconds=seconds, silence_s=silence_s)
        self._is_back()
        for line in lines_of(stream):
            if self._closing.is_set():
                return
            change = msgspec.json.decode(line)
            item = change["object"]
            if change["type"] == "ERROR":
                raise Refused(int(item.get("code") or 0), str(item.get("message") or "an error"))
            if change["type"] != "BOOKMARK":
                self._report(change["type"], item)
            self._take_version(item)
            self._hear(recovered=True)
        if self._clock.monotonic() - started < seconds - _EARLY_S:
            raise Refused(0, "the API server ended it early")
        self._hear(recovered=True)  # silence until the end that was asked for: nothing happened

    def _take_version(self, said: Obj) -> None:
        """Resume at the version of a list, an object or a bookmark."""
        self._version = str(said["metadata"]["resourceVersion"])
        self._newest = max(self._newest, _version(said))

    def _is_back(self) -> None:
        self._was_away_s += self.away_s
        self._away_since = self._denied_since = None

    def _hear(self, *, recovered: bool) -> None:
        """Note that nothing is missed until now, unless it was lost in a gap that ends here."""
        self._heard = self._clock.monotonic()
        before, self._heard_at = self._heard_at, now()
        self._pause_s = _PAUSE_S
        if self._gap:
            self._on_gap(before, self._heard_at, self._gap, recovered)
            self._gap = ""

    def _report(self, change: str, item: Obj) -> None:
        uid = str(item["metadata"]["uid"])
        if change == "DELETED":
            self._known.pop(uid, None)
        elif not self._what.events:
            self._known[uid] = item
        with self._handling:
            if not self._closing.is_set():
                self._handle(change, item)


def _version(said: Obj) -> int:
    """Return a version as a number: they are etcd's revisions, and comparable."""
    version = str(said["metadata"]["resourceVersion"])
    return int(version) if version.isdigit() else 0
