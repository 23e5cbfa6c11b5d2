"""Following a kind of object: listed once, then watched for as long as the run lasts.

A cut, silent or expired watch is resumed at the version that was seen last, so the server hands
over what happened meanwhile and nothing is missed. Where it does not remember that version any
more (410 Gone) the kind is listed anew, and objects that came and went in between, and changes that
were overtaken, may be missing. Both are told as gaps, the first as one that was recovered.
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

_FIRST_LIST_S = 60
_WATCH_S = (240, 300)
_EARLY_S = 5
_PAUSE_S = 0.5
_FOR_GOOD = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
_PAGE = "500"

Handler = Callable[[str, Obj], None]
"""Called with ADDED, MODIFIED or DELETED and the object, in the follower's thread."""

OnGap = Callable[[datetime, datetime, str, bool], None]
"""Called with begin, end and reason of a stretch without a watch, and whether nothing is missing
of it after all."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed."""

    name: str
    path: str
    """Of the list."""
    selectors: dict[str, str] = field(default_factory=dict)
    """labelSelector, fieldSelector."""
    vanishing: bool = True
    """An object that is gone after a gap is handed on as DELETED; for events that says nothing."""


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The whole lines of a stream that comes in pieces of any length."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())


class Follower:
    """A thread that follows one kind of object until it is closed.

    After a gap every object that is there is handed on as ADDED, and one that is not any more as
    DELETED, as it was seen last. What a handler raises, or a refusal for good, ends following;
    `failure` holds it.

    Args:
        kube: the cluster.
        what: to follow.
        handle: gets every change.
        on_gap: told of each stretch without a watch, once it is over.
        now: the runner's clock.
    """

    def __init__(
        self,
        kube: Kube,
        what: Followed,
        handle: Handler,
        on_gap: OnGap,
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._what = what
        self._handle = handle
        self._on_gap = on_gap
        self._now = now
        self._closing = threading.Event()
        self._listed = threading.Event()
        self._handling = threading.Lock()
        self._version = ""
        self._gap = ""
        self._heard_at = now()
        self._known: dict[str, Obj] = {}
        self.failure: Exception | None = None
        """Why following has ended for good; None while it goes on."""
        threading.Thread(target=self._run, name=f"follow-{what.name}", daemon=True).start()
        self._listed.wait(_FIRST_LIST_S)

    def close(self) -> None:
        """Stop following; what comes later is not handed on."""
        self._closing.set()
        with self._handling:  # the thread itself ends with its connection
            pass

    def _run(self) -> None:
        while not self._closing.is_set() and self.failure is None:
            try:
                if not self._version:
                    self._list()
                self._follow()
            except Refused as refused:
                self._after(refused)
            except Exception as error:  # noqa: BLE001 (told by whoever waits for what is followed)
                self.failure = error
        self._listed.set()

    def _after(self, refused: Refused) -> None:
        if self._closing.is_set():
            return
        if refused.status in _FOR_GOOD:
            self.failure = refused.as_error()
            return
        status = f" ({refused.status})" if refused.status else ""
        why = f"the watch of {self._what.name} was closed: {refused.reason}{status}"
        self._gap = self._gap or why
        self._closing.wait(_PAUSE_S)
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
        gone = [item for uid, item in self._known.items() if uid not in listed]
        for item in gone:
            self._take("DELETED", item)
        for item in listed.values():
            self._take("ADDED", item)
        self._version = str(page["metadata"]["resourceVersion"])
        self._hear(recovered=False)
        self._listed.set()

    def _follow(self) -> None:
        asked = {
            **self._what.selectors,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        seconds = random.randint(*_WATCH_S)  # noqa: S311 (so that watches do not end together)
        begun = time.monotonic()
        for line in lines_of(self._kube.watch(self._what.path, asked, seconds=seconds)):
            if self._closing.is_set():
                return
            change = msgspec.json.decode(line)
            item = change["object"]
            if change["type"] == "ERROR":
                raise Refused(int(item.get("code") or 0), str(item.get("message") or "an error"))
            if change["type"] != "BOOKMARK":
                self._take(change["type"], item)
            self._version = str(item["metadata"]["resourceVersion"])
            self._hear(recovered=True)
        if time.monotonic() - begun < seconds - _EARLY_S:
            raise Refused(0, "the API server ended it early")

    def _hear(self, *, recovered: bool) -> None:
        before, self._heard_at = self._heard_at, self._now()
        if self._gap:
            self._on_gap(before, self._heard_at, self._gap, recovered)
            self._gap = ""

    def _take(self, change: str, item: Obj) -> None:
        uid = str(item["metadata"]["uid"])
        if change == "DELETED":
            self._known.pop(uid, None)
        elif self._what.vanishing:
            self._known[uid] = item
        with self._handling:
            if not self._closing.is_set():
                self._handle(change, item)
