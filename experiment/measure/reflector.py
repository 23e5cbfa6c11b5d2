"""Reflects one kind of object: lists it once, then watches it until it is closed.

A cut, silent or expired watch is resumed at the version that was seen last, so the server sends
what happened meanwhile and nothing is missed. Where it does not remember that version any more
(410 Gone) the kind is listed again; objects that existed only in between, and changes that were
overwritten, may be missing. Both are reported as gaps, the first as one that was recovered.
Bookmarks keep the version young while nothing happens.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

import msgspec

from experiment.kube import Kube, Obj, Refused
from experiment.waiting import now

_WATCH_S = (240, 300)
_EARLY_S = 5
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_FINAL = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
_PAGE = "500"

Handler = Callable[[str, Obj], None]
"""Called with ADDED, MODIFIED or DELETED and the object, in the reflector's thread."""

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
    report_deletions: bool = True
    """After a new list, report missing objects as DELETED; False for events, which expire."""


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the whole lines of a stream that comes in pieces of any length."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())


class Reflector:
    """A thread that reflects one kind of object until it is closed.

    After a new list every object is reported as ADDED, and a missing one as DELETED, as it was seen
    last. What a handler raises, or a final refusal (400, 403, 404), ends it; `failure` holds it.

    Args:
        kube: the cluster.
        what: to list and watch.
        handle: called with every change.
        on_gap: called for each period without a watch, once it has ended.
    """

    def __init__(self, kube: Kube, what: ListWatch, handle: Handler, on_gap: OnGap) -> None:
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
        self._version = ""
        self._gap = ""
        self._pause_s = _PAUSE_S
        self._heard_at = now()
        self._known: dict[str, Obj] = {}
        threading.Thread(target=self._run, name=f"reflect-{what.name}", daemon=True).start()

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
        if refused.status in _FINAL:
            self.failure = refused.as_error()
            return
        status = f" ({refused.status})" if refused.status else ""
        why = f"the watch of {self._what.name} was closed: {refused.reason}{status}"
        self._gap = self._gap or why
        self._closing.wait(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        if refused.status == HTTPStatus.GONE:
            self._version = ""

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
            self._report("ADDED", item)
        self._version = str(page["metadata"]["resourceVersion"])
        self._hear(recovered=False)
        self.listed.set()

    def _watch(self) -> None:
        query = {
            **self._what.selectors,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        seconds = random.randint(*_WATCH_S)  # noqa: S311 (so that watches do not end together)
        started = time.monotonic()
        for line in lines_of(self._kube.watch(self._what.path, query, seconds=seconds)):
            if self._closing.is_set():
                return
            change = msgspec.json.decode(line)
            item = change["object"]
            if change["type"] == "ERROR":
                raise Refused(int(item.get("code") or 0), str(item.get("message") or "an error"))
            if change["type"] != "BOOKMARK":
                self._report(change["type"], item)
            self._version = str(item["metadata"]["resourceVersion"])
            self._hear(recovered=True)
        if time.monotonic() - started < seconds - _EARLY_S:
            raise Refused(0, "the API server ended it early")

    def _hear(self, *, recovered: bool) -> None:
        before, self._heard_at = self._heard_at, now()
        self._pause_s = _PAUSE_S
        if self._gap:
            self._on_gap(before, self._heard_at, self._gap, recovered)
            self._gap = ""

    def _report(self, change: str, item: Obj) -> None:
        uid = str(item["metadata"]["uid"])
        if change == "DELETED":
            self._known.pop(uid, None)
        elif self._what.report_deletions:
            self._known[uid] = item
        with self._handling:
            if not self._closing.is_set():
                self._handle(change, item)
