import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.errors import MeasureError
from experiment.kube import Obj
from experiment.measure.reflector import _WATCH_S, ListWatch, Reflector, lines_of
from experiment.outage import Refused
from experiment.waiting import Clock
from schema.errors import ExitCode
from tests.experiment.fakes import FakeClock

GONE = Refused(410, "too old resource version")
CUT = Refused(0, "connection reset")
NO_ROLES = Refused(403, "RBAC: clusterrole not found")


def thing(uid: str, version: int) -> Obj:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def change(kind: str, item: Obj) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


class Server:
    """An API server that lists and streams what it is seen, one entry a request."""

    def __init__(self) -> None:
        self.lists: list[list[Obj]] = []
        self.streams: list[list[bytes | Refused | Callable[[], None]]] = []
        self.asked: list[str] = []
        self.silences: list[float] = []
        self.idle = threading.Event()

    def list(self, _path: str, query: Mapping[str, str]) -> Obj:
        items = self.lists.pop(0)
        self.asked.append("list")
        version = max((int(i["metadata"]["resourceVersion"]) for i in items), default=1)
        return {"items": items, "metadata": {"resourceVersion": str(version)}}

    def watch(
        self, _path: str, query: Mapping[str, str], *, seconds: int, silence_s: float
    ) -> Iterator[bytes]:
        self.silences.append(silence_s)
        assert query["allowWatchBookmarks"] == "true"
        self.asked.append(f"watch from {query['resourceVersion']}")
        if not self.streams:
            self.idle.set()
            time.sleep(0.2)
            raise CUT
        for piece in self.streams.pop(0):
            if callable(piece):
                piece()
                continue
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


def follow(
    server: Server,
    seen: Seen,
    handle: Callable[[str, Obj], None] | None = None,
    *,
    events: bool = False,
    clock: Clock = time,
) -> Any:
    what = ListWatch("things", "/things", events=events)
    reflector = Reflector(server, what, handle or seen.handle, seen.gap, clock)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("how", ["refused", "in the stream"])
def test_events_are_listed_again_within_their_hour_without_a_gap_and_only_new_ones_are_reported(
    server: Server, seen: Seen, how: str
) -> None:
    gone = {"code": 410, "message": "too old resource version"}
    server.lists = [[thing("a", 5), thing("b", 6)], [thing("a", 5), thing("b", 8), thing("c", 9)]]
    server.streams = [[GONE if how == "refused" else change("ERROR", gone)]]
    follow(server, seen, events=True)
    assert server.asked[:4] == ["list", "watch from 6", "list", "watch from 9"]
    assert seen.changes == [("LISTED", name) for name in ("a", "b", "b", "c")]
    assert seen.gaps == []


def test_events_that_are_listed_again_after_more_than_their_hour_are_a_gap(
    server: Server, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.reflector._EVENTS_LAST", timedelta(0))
    server.lists = [[thing("a", 5)], []]
    server.streams = [[GONE]]
    follow(server, seen, events=True)
    ((why, recovered),) = seen.gaps
    assert "410" in why
    assert not recovered


def test_a_watch_of_events_may_be_silent_until_its_end(server: Server, seen: Seen) -> None:
    server.lists = [[]]
    follow(server, seen, events=True)
    assert min(server.silences) > _WATCH_S[0]


def test_a_quiet_watch_that_ends_as_asked_is_continued_without_a_gap(
    server: Server, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.reflector._WATCH_S", (0, 0))
    server.lists = [[]]
    server.streams = [[], []]
    follow(server, seen, events=True)
    assert server.asked == ["list"] + 3 * ["watch from 1"]
    assert seen.gaps == []


def test_the_time_without_an_api_server_is_measured_from_its_last_word(
    server: Server, seen: Seen
) -> None:
    clock = FakeClock()
    server.lists = [[]]
    server.streams = [
        [lambda: clock.sleep(40), change("ADDED", thing("a", 5)), lambda: clock.sleep(30), CUT],
    ]
    reflector = follow(server, seen, clock=clock)
    assert server.asked[2] == "watch from 5"
    assert reflector.all_away_s == 30


class Denying(Server):
    """Refuses to list, each time in another way, and then lists; 15 seconds pass each time."""

    def __init__(self, clock: FakeClock, *refusals: Refused) -> None:
        super().__init__()
        self.clock, self.refusals = clock, [*refusals]

    def list(self, _path: str, query: Mapping[str, str]) -> Obj:
        if self.refusals:
            self.clock.sleep(15)
            raise self.refusals.pop(0)
        self.lists.append([])
        return super().list(_path, query)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiment.measure.reflector._PAUSE_S", 0.0)


def reflector_of(server: Server, seen: Seen, path: str, clock: FakeClock) -> Reflector:
    """One that has listed, or ended."""
    what = ListWatch("things", path)
    reflector = Reflector(server, what, seen.handle, seen.gap, clock)  # type: ignore[arg-type]
    assert reflector.listed.wait(10)
    reflector.close()
    return reflector


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    ("status", "path", "words", "fix"),
    [
        (
            403,
            "/api/v1/namespaces/n/events",
            "list and watch of events, so",
            "events --namespace n",
        ),
        (403, "/api/v1/nodes", "list and watch of nodes, so", "nodes --all-namespaces"),
        (404, "/apis/batch/v1/namespaces/n/jobs", "list and watch of jobs, or the", "jobs --name"),
    ],
)
def test_a_right_that_stays_denied_ends_the_run_and_is_named(
    seen: Seen, status: int, path: str, words: str, fix: str
) -> None:
    clock = FakeClock()
    reflector = reflector_of(Denying(clock, *[Refused(status, "no")] * 9), seen, path, clock)
    assert isinstance(reflector.failure, MeasureError)
    assert words in reflector.failure.problem
    assert fix in reflector.failure.fix
    assert reflector.failure.exit_code is ExitCode.PERMISSION
    assert clock.now == 45, "denied for more than 20 seconds since the first time"


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    "refusals",
    [(NO_ROLES,), (Refused(404, "no"),), (NO_ROLES, CUT, NO_ROLES)],
    ids=["no roles yet", "no kind yet", "started again"],
)
def test_an_api_server_that_has_just_started_may_deny_for_some_seconds(
    seen: Seen, refusals: tuple[Refused, ...]
) -> None:
    clock = FakeClock()
    server = Denying(clock, *refusals)
    reflector = reflector_of(server, seen, "/api/v1/nodes", clock)
    assert reflector.failure is None
    assert seen.gaps


def test_a_request_that_no_server_accepts_ends_it_at_once(server: Server, seen: Seen) -> None:
    server = Denying(FakeClock(), Refused(400, "no such selector"))
    reflector = reflector_of(server, seen, "/api/v1/nodes", server.clock)
    assert "no such selector" in str(reflector.failure)
    assert server.clock.now == 15


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
