from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from rehearsal.faults.api_server import ApiRules
from rehearsal.faults.events import DelayQueue, EventFaults
from rehearsal.faults.faults import Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Request, Stream
from rehearsal.faults.trials import Place, StudyPods
from tests.rehearsal.faults.observed import event

PODS = "/api/v1/namespaces/pull-study/pods"
JOBS = "/apis/batch/v1/namespaces/pull-study/jobs"
EVENTS = "/api/v1/events"


class Study(StudyPods):
    """A study at a trial, with one pod."""

    def __init__(self) -> None:
        self.at = 2

    @property
    def trial(self) -> int:
        return self.at

    def place(self, pod: str) -> Place | None:
        return Place(2, "") if pod == "pod-1" else None


class Scene:
    def __init__(self, delays: DelayQueue, *texts: str) -> None:
        self.faults = Faults.read(texts)
        self.study = Study()
        events = EventFaults(self.faults, lambda _: Place(2, "n-0003"))
        self.rules = ApiRules(self.faults, self.study, events, delays)


Play = Callable[..., Scene]


@pytest.fixture
def play() -> Iterator[Play]:
    delays = DelayQueue(lambda _: None)
    yield lambda *texts: Scene(delays, *texts)
    delays.stop()


def get(target: str) -> Request:
    return Request("GET", target, b"")


def watch(path: str) -> Request:
    return get(f"{path}?watch=true")


def release(node: str) -> Request:
    body = {"metadata": {"name": "pod-1"}, "target": {"kind": "Node", "name": node}}
    return Request("POST", "/api/v1/namespaces/pull-study/bindings", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("code", "reason"),
    [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")],
)
def test_the_api_server_refuses_for_a_while(play: Play, code: int, reason: str) -> None:
    scene = play(f"api:status={code},count=2,resource=pods")
    other = Request("POST", JOBS, b"{}")
    assert scene.rules.before(other) == other
    for _ in range(2):
        answer = scene.rules.before(get(PODS))
        assert isinstance(answer, Answer)
        status = json.loads(answer.body)
        assert (answer.status, status["code"], status["reason"]) == (code, code, reason)
        assert ("Retry-After" in answer.headers) == (code == 429)
    assert scene.rules.before(get(PODS)) == get(PODS)
    assert len(scene.faults.injected) == 2


def test_nothing_is_injected_while_no_trial_or_another_one_runs(play: Play) -> None:
    scene = play("api:status=500,trial=2", "api:status=500,trial=3,count=1")
    scene.study.at = 0
    assert scene.rules.before(get(PODS)) == get(PODS)
    scene.study.at = 1
    assert scene.rules.before(get(PODS)) == get(PODS)
    scene.study.at = 3
    assert isinstance(scene.rules.before(get(PODS)), Answer)


def test_watches_have_faults_of_their_own(play: Play) -> None:
    scene = play("api:count=0")
    request = get(f"{EVENTS}?watch=True&resourceVersion=7")
    assert scene.rules.before(request) == request


def test_watches_are_closed_and_refused_until_the_time_is_over(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rehearsal.faults.api_server.time.monotonic", lambda: now[0])
    scene = play("watch:how=closed,s=2")
    closed: list[str] = []
    for path in (EVENTS, PODS):
        stream = Stream(watch(path), lambda _: None, lambda p=path: closed.append(p))  # type: ignore[misc]
        assert scene.rules.open_stream(stream)
    assert scene.rules.end_watches(scene.faults.of("watch")[0]) == 1
    assert closed == [EVENTS]
    answer = scene.rules.before(watch(EVENTS))
    assert isinstance(answer, Answer)
    assert answer.body == b""
    assert isinstance(scene.rules.before(watch(PODS)), Request)
    now[0] += 2
    assert isinstance(scene.rules.before(watch(EVENTS)), Request)


def test_an_api_server_that_is_away_resets_every_watch_and_request_until_the_time_is_over(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rehearsal.faults.api_server.time.monotonic", lambda: now[0])
    scene = play("api-away:s=30")
    closed: list[str] = []
    stream = Stream(watch(PODS), lambda _: None, lambda: closed.append(PODS))
    scene.rules.open_stream(stream)
    assert scene.rules.go_away(30) == 1
    assert closed == [PODS]
    with pytest.raises(ConnectionReset):
        scene.rules.before(get(PODS))
    now[0] += 30
    assert isinstance(scene.rules.before(get(PODS)), Request)


def test_the_next_watch_ends_with_410_where_those_before_have_ended(play: Play) -> None:
    scene = play("watch:how=410")
    stream = Stream(watch(EVENTS), lambda _: None, lambda: None)
    scene.rules.open_stream(stream)
    scene.rules.close_stream(stream)
    assert scene.rules.end_watches(scene.faults.of("watch")[0]) == 0
    answer = scene.rules.before(get(f"{EVENTS}?watch=true&resourceVersion=41"))
    assert isinstance(answer, Answer)
    change = json.loads(answer.body)
    assert (answer.status, change["type"], change["object"]["code"]) == (200, "ERROR", 410)
    assert change["object"]["message"] == "too old resource version: 41 (42)"
    assert isinstance(scene.rules.before(watch(EVENTS)), Request)


def test_lost_events_are_neither_watched_nor_listed(play: Play) -> None:
    scene = play("event:reason=Pulled,source=watch")
    lines: list[bytes] = []
    take = scene.rules.open_stream(Stream(watch(EVENTS), lines.append, lambda: None))
    assert take is not None
    changes = [
        json.dumps({"type": "ADDED", "object": each}).encode()
        for each in (event(1), event(2, "Pulling"))
    ]
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'
    for line in (*changes, bookmark, b"not json"):
        take(line)
    assert lines == [changes[1], bookmark, b"not json"]
    edit = scene.rules.editor(get(EVENTS))
    assert edit is not None
    listed = json.dumps({"items": [event(1), event(2, "Pulling")], "kind": "EventList"}).encode()
    assert [each["reason"] for each in json.loads(edit(listed))["items"]] == ["Pulling"]
    assert edit(b"an error") == b"an error"
    assert scene.rules.editor(get(PODS)) is None


def test_a_request_about_a_pod_belongs_to_the_pods_trial(play: Play) -> None:
    scene = play("api:status=500,trial=2,resource=bindings")
    scene.study.at = 1
    assert isinstance(scene.rules.before(release("gke-c-pool-0001")), Answer)
    assert scene.faults.injected[0]["trial"] == 2
