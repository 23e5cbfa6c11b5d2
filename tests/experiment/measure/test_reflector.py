import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.kube import Obj, Refused
from experiment.measure.reflector import ListWatch, Reflector, lines_of

GONE = Refused(410, "too old resource version")
CUT = Refused(0, "connection reset")


def thing(uid: str, version: int) -> Obj:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def change(kind: str, item: Obj) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


class Server:
    """An API server that lists and streams what it is seen, one entry a request."""

    def __init__(self) -> None:
        self.lists: list[list[Obj]] = []
        self.streams: list[list[bytes | Refused]] = []
        self.asked: list[str] = []
        self.idle = threading.Event()

    def list(self, _path: str, query: Mapping[str, str]) -> Obj:
        items = self.lists.pop(0)
        self.asked.append("list")
        version = max((int(i["metadata"]["resourceVersion"]) for i in items), default=1)
        return {"items": items, "metadata": {"resourceVersion": str(version)}}

    def watch(self, _path: str, query: Mapping[str, str], *, seconds: int) -> Iterator[bytes]:
        assert query["allowWatchBookmarks"] == "true"
        self.asked.append(f"watch from {query['resourceVersion']}")
        if not self.streams:
            self.idle.set()
            time.sleep(0.2)
            raise CUT
        for piece in self.streams.pop(0):
            if isinstance(piece, Refused):
                raise piece
            yield piece


class Seen:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.gaps: list[tuple[str, bool]] = []

    def handle(self, kind: str, item: Obj) -> None:
        self.changes.append((kind, item["metadata"]["uid"]))

    def gap(self, since: datetime, until: datetime, why: str, recovered: bool) -> None:
        assert since <= until
        self.gaps.append((why, recovered))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def seen() -> Seen:
    return Seen()


def follow(server: Server, seen: Seen, handle: Callable[[str, Obj], None] | None = None) -> Any:
    what = ListWatch("things", "/things")
    reflector = Reflector(server, what, handle or seen.handle, seen.gap)  # type: ignore[arg-type]
    server.idle.wait(10)
    reflector.close()
    return reflector


def test_what_is_there_and_what_comes_is_reported(server: Server, seen: Seen) -> None:
    server.lists = [[thing("a", 5)]]
    server.streams = [[change("ADDED", thing("b", 6)), change("MODIFIED", thing("a", 7))]]
    follow(server, seen)
    assert seen.changes == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a")]


def test_a_cut_watch_continues_where_it_was_and_misses_nothing(server: Server, seen: Seen) -> None:
    server.lists = [[]]
    server.streams = [
        [change("ADDED", thing("a", 6)), CUT],
        [change("ADDED", thing("b", 7))],
    ]
    follow(server, seen)
    assert server.asked[:3] == ["list", "watch from 1", "watch from 6"]
    assert seen.changes == [("ADDED", "a"), ("ADDED", "b")]
    why, recovered = seen.gaps[0]
    assert "closed" in why
    assert recovered


def test_a_bookmark_moves_the_version_on_and_is_not_reported(server: Server, seen: Seen) -> None:
    server.lists = [[]]
    server.streams = [[change("BOOKMARK", thing("", 90)), CUT]]
    follow(server, seen)
    assert server.asked[2] == "watch from 90"
    assert seen.changes == []


@pytest.mark.parametrize("how", ["refused", "in the stream"])
def test_an_expired_version_is_a_gap_and_lists_again(server: Server, seen: Seen, how: str) -> None:
    gone = {"code": 410, "message": "too old resource version"}
    server.lists = [[thing("a", 5), thing("b", 5)], [thing("b", 8), thing("c", 9)]]
    server.streams = [[GONE if how == "refused" else change("ERROR", gone)]]
    follow(server, seen)
    assert server.asked[:4] == ["list", "watch from 5", "list", "watch from 9"]
    assert seen.changes[2:] == [("DELETED", "a"), ("ADDED", "b"), ("ADDED", "c")]
    why, recovered = seen.gaps[0]
    assert "410" in why
    assert not recovered


def test_a_final_refusal_ends_it_with_its_reason(server: Server, seen: Seen) -> None:
    server.lists = [[]]
    server.streams = [[Refused(403, "watching things is forbidden")]]
    server.idle.set()
    reflector = follow(server, seen)
    deadline = time.monotonic() + 5
    while reflector.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "forbidden" in str(reflector.failure)


def test_what_a_handler_raises_is_kept(server: Server, seen: Seen) -> None:
    def full(_kind: str, _item: Obj) -> None:
        raise OSError("no space left on device")

    server.lists = [[thing("a", 5)]]
    server.idle.set()
    reflector = follow(server, seen, full)
    assert "no space" in str(reflector.failure)


@given(st.lists(st.binary(max_size=20).filter(lambda line: line.strip() and b"\n" not in line)))
def test_lines_come_whole_however_the_stream_is_cut(lines: list[bytes]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    for size in (1, 3, 1000):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert list(lines_of(pieces)) == lines
