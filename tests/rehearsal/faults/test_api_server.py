from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rehearsal.faults.api_server import ApiRules
from rehearsal.faults.events import EventFaults, Later
from rehearsal.faults.faults import Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Request
from rehearsal.faults.trials import Place, StudyPods

PODS = "/api/v1/namespaces/pull-study/pods"
JOBS = "/apis/batch/v1/namespaces/pull-study/jobs"
EVENTS = "/api/v1/events"


class Study(StudyPods):
    """A study that is at a trial, with one pod."""

    def __init__(self) -> None:
        self.at = 2

    @property
    def trial(self) -> int:
        return self.at

    def place(self, pod: str) -> Place | None:
        return Place(2, "") if pod == "pod-1" else None


class Scene:
    def __init__(self, later: Later, *texts: str) -> None:
        self.faults = Faults.read(texts)
        self.study = Study()
        events = EventFaults(self.faults, lambda _: Place(2, "n-0003"))
        self.rules = ApiRules(self.faults, self.study, events, later)

    def struck(self) -> list[object]:
        return [line["fault"] for line in self.faults.struck]


Play = Callable[..., Scene]


@pytest.fixture
def play() -> Iterator[Play]:
    later = Later()
    yield lambda *texts: Scene(later, *texts)
    later.stop()


def get(target: str) -> Request:
    return Request("GET", target, b"")


def release(node: str) -> Request:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    patch = [
        {"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": required}},
        {"op": "remove", "path": "/spec/schedulingGates"},
    ]
    return Request("PATCH", f"{PODS}/pod-1", json.dumps(patch).encode())


def event(number: int, reason: str = "Pulled") -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "pull-study", "name": "pod-1"}
    return {"metadata": {"uid": f"u-{number}"}, "reason": reason, "involvedObject": about}


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [("api-throttled", 429, "TooManyRequests"), ("api-error", 500, "InternalError")],
)
def test_the_api_server_refuses_for_a_while(play: Play, fault: str, code: int, reason: str) -> None:
    scene = play(f"{fault}:count=2,resource=pods")
    other = Request("POST", JOBS, b"{}")
    assert scene.rules.before(other) == other
    for _ in range(2):
        answer = scene.rules.before(get(PODS))
        assert isinstance(answer, Answer)
        status = json.loads(answer.body)
        assert (answer.status, status["code"], status["reason"]) == (code, code, reason)
        assert ("Retry-After" in answer.headers) == (code == 429)
    assert scene.rules.before(get(PODS)) == get(PODS)
    assert scene.struck() == [fault] * 2


def test_a_connection_is_reset(play: Play) -> None:
    scene = play("api-reset:count=1,verb=POST")
    assert scene.rules.before(get(JOBS)) == get(JOBS)
    with pytest.raises(ConnectionReset):
        scene.rules.before(Request("POST", JOBS, b"{}"))
    assert scene.struck() == ["api-reset"]


def test_answers_wait(play: Play) -> None:
    scene = play("api-slow:ms=50,count=1")
    begun = time.monotonic()
    assert scene.rules.before(get(PODS)) == get(PODS)
    assert time.monotonic() - begun >= 0.05


def test_nothing_is_struck_while_no_trial_is_on_or_another_one(play: Play) -> None:
    scene = play("api-error:trial=2", "api-error:trial=3,count=1")
    scene.study.at = 0
    assert scene.rules.before(get(PODS)) == get(PODS)
    scene.study.at = 1
    assert scene.rules.before(get(PODS)) == get(PODS)
    scene.study.at = 3
    assert isinstance(scene.rules.before(get(PODS)), Answer)


def test_watches_are_struck_by_their_own_faults_alone(play: Play) -> None:
    scene = play("api-error:count=0")
    watch = get(f"{EVENTS}?watch=True&resourceVersion=7")
    assert scene.rules.before(watch) == watch


def test_a_pod_is_sent_to_another_node(play: Play) -> None:
    scene = play("two-pods:trial=2,node=1,to=12")
    untouched = release("gke-c-pool-0003")
    assert scene.rules.before(untouched) == untouched
    sent = scene.rules.before(release("gke-c-pool-0001"))
    assert isinstance(sent, Request)
    assert sent.body == release("gke-c-pool-0012").body
    assert [(line["node"], line["pod"]) for line in scene.faults.struck] == [
        ("gke-c-pool-0001", "pod-1")
    ]


def test_watches_are_closed_and_refused_until_the_time_is_over(play: Play) -> None:
    scene = play("watch-closed:s=0.1")
    closed: list[str] = []
    for path in (EVENTS, PODS):
        watch = get(f"{path}?watch=true")
        assert scene.rules.open_stream(watch, lambda _: None, lambda p=path: closed.append(p))  # type: ignore[misc]
    (fault,) = scene.faults.of("watch-closed")
    assert scene.rules.close_watches(fault) == 1
    assert closed == [EVENTS]
    answer = scene.rules.before(get(f"{EVENTS}?watch=true"))
    assert isinstance(answer, Answer)
    assert answer.body == b""
    assert isinstance(scene.rules.before(get(f"{PODS}?watch=true")), Request)
    time.sleep(0.11)
    assert isinstance(scene.rules.before(get(f"{EVENTS}?watch=true")), Request)


def test_an_open_watch_is_told_that_it_is_too_old(play: Play) -> None:
    scene = play("watch-expired")
    lines: list[bytes] = []
    scene.rules.open_stream(get(f"{EVENTS}?watch=true"), lines.append, lambda: None)
    (fault,) = scene.faults.of("watch-expired")
    assert scene.rules.close_watches(fault) == 1
    assert json.loads(lines[0])["object"]["code"] == 410
    assert isinstance(scene.rules.before(get(f"{EVENTS}?watch=true")), Request)


def test_the_next_watch_is_told_so_where_none_was_open(play: Play) -> None:
    scene = play("watch-expired:resource=")
    (fault,) = scene.faults.of("watch-expired")
    scene.rules.close_watches(fault)
    answer = scene.rules.before(get(f"{EVENTS}?watch=true&resourceVersion=41"))
    assert isinstance(answer, Answer)
    change = json.loads(answer.body)
    assert (answer.status, change["type"], change["object"]["code"]) == (200, "ERROR", 410)
    assert change["object"]["message"] == "too old resource version: 41 (42)"
    assert isinstance(scene.rules.before(get(f"{EVENTS}?watch=true")), Request)


def test_lost_events_are_neither_watched_nor_listed(play: Play) -> None:
    scene = play("event-lost:reason=Pulled,source=watch")
    lines: list[bytes] = []
    take = scene.rules.open_stream(get(f"{EVENTS}?watch=1"), lines.append, lambda: None)
    assert take is not None
    changes = [
        json.dumps({"type": "ADDED", "object": each}).encode()
        for each in (event(1), event(2, "Pulling"))
    ]
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'
    for line in (*changes, bookmark, b"not json"):
        take(line)
    assert lines == [changes[1], bookmark, b"not json"]
    listed = json.dumps({"items": [event(1), event(2, "Pulling")], "kind": "EventList"}).encode()
    kept = json.loads(scene.rules.body(get(EVENTS), listed))
    assert [each["reason"] for each in kept["items"]] == ["Pulling"]
    assert scene.rules.body(get(PODS), listed) == listed
    assert scene.rules.body(get(EVENTS), b"an error") == b"an error"


def test_what_is_no_watch_is_no_stream(play: Play) -> None:
    assert play().rules.open_stream(get(EVENTS), lambda _: None, lambda: None) is None


def test_a_request_about_a_pod_belongs_to_the_pods_trial(play: Play) -> None:
    scene = play("api-error:trial=2,verb=PATCH")
    scene.study.at = 1
    assert isinstance(scene.rules.before(release("gke-c-pool-0001")), Answer)
    assert scene.faults.struck[0]["trial"] == 2
