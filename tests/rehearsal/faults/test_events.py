from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.faults.events import EXPORTER, WATCH, EventFaults, Later, Verdict, Way, disturbed_log
from rehearsal.faults.faults import Faults
from rehearsal.faults.trials import Place

KEY = ClusterKey("p", "us-central1-a", "c")
THEN = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int = 1, reason: str = "Pulled", *, namespace: str = "pull-study") -> Any:
    about = {"kind": "Pod", "namespace": namespace, "name": "pod-1"}
    return {"metadata": {"uid": f"u-{number}"}, "reason": reason, "involvedObject": about}


def line(content: Any, stream: str = "stdout") -> LogLine:
    text = content if isinstance(content, str) else json.dumps(content)
    return LogLine(KEY, "monitoring", "exporter-1", "exporter", stream, text, THEN)


def faults(*texts: str) -> tuple[EventFaults, Faults]:
    asked = Faults.read(texts)
    places = {"pod-1": Place(2, "n-3")}
    return EventFaults(asked, places.get), asked


@pytest.fixture
def later() -> Iterator[Later]:
    one = Later()
    yield one
    one.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_fault_of_both_ways_strikes_the_same_event_on_each_and_is_written_once() -> None:
    events, asked = faults("event-lost:share=0.5")
    for number in range(40):
        reason = f"R{number}"
        watch = events.verdict(event(number, reason), WATCH)
        assert watch == events.verdict(event(number, reason), EXPORTER)
    assert 8 < len(asked.struck) < 32
    assert {line["trial"] for line in asked.struck} == {2}
    assert {line["node"] for line in asked.struck} == {"n-3"}


@pytest.mark.parametrize(("source", "lost"), [("watch", WATCH), ("exporter", EXPORTER)])
def test_a_fault_of_one_way_leaves_the_other_alone(source: str, lost: str) -> None:
    events, _ = faults(f"event-lost:source={source}")
    assert [way for way in (WATCH, EXPORTER) if events.verdict(event(), way).lost] == [lost]


@pytest.mark.parametrize(
    "other",
    [
        event(reason="Pulling"),
        event(namespace="monitoring"),
        {**event(), "involvedObject": {"kind": "Node", "name": "pod-1"}},
        {**event(), "involvedObject": {**event()["involvedObject"], "name": "pod-2"}},
        {"level": "warn", "message": "no event"},
    ],
)
def test_other_events_pass_untouched(other: Any) -> None:
    events, asked = faults("event-lost:reason=Pulled,trial=2,node=3", "event-late:reason=Pulled")
    assert events.verdict(other, WATCH) == Verdict()
    assert asked.struck == []


def test_an_entry_is_a_matter_of_the_log_alone() -> None:
    events, _ = faults("entry-never")
    assert events.verdict(event(), EXPORTER).lost
    assert not events.verdict(event(), WATCH).lost


def test_events_arrive_twice_late_and_overtaken(later: Later) -> None:
    arrived: list[str] = []
    way = Way[str](arrived.append, later)
    way.put("late", Verdict(late_s=0.05))
    way.put("overtaken", Verdict(behind=2))
    way.put("twice", Verdict(copies=2))
    way.put("lost", Verdict(lost=True))
    way.put("plain")
    assert arrived == ["twice", "twice", "plain", "overtaken"]
    wait_for(lambda: arrived[-1] == "late")


def test_an_event_that_nothing_overtakes_arrives_after_all(
    later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehearsal.faults.events._OVERTAKEN_S", 0.05)
    arrived: list[str] = []
    Way[str](arrived.append, later).put("alone", Verdict(behind=3))
    assert arrived == []
    wait_for(lambda: arrived == ["alone"])


def test_what_is_due_first_is_done_first(later: Later) -> None:
    done: list[int] = []
    for at in (3, 1, 2):
        later.put(at / 50, lambda at=at: done.append(at))  # type: ignore[misc]
    wait_for(lambda: len(done) == 3)
    assert done == [1, 2, 3]


@pytest.mark.parametrize(
    ("fault", "in_time"), [("event-late:s=0.05", False), ("entry-late:s=0.05", True)]
)
def test_a_late_event_was_printed_late_and_a_late_entry_in_time(
    later: Later, fault: str, in_time: bool
) -> None:
    events, _ = faults(fault)
    lines: list[LogLine] = []
    write = disturbed_log(lines.append, events, later)
    write(line(event()))
    write(line("the exporter's own words"))
    assert [each.text for each in lines] == ["the exporter's own words"]
    wait_for(lambda: len(lines) == 2)
    assert (lines[1].at == THEN) == in_time


def test_the_log_keeps_what_no_fault_is_about(later: Later) -> None:
    events, _ = faults("event-lost")
    lines: list[LogLine] = []
    write = disturbed_log(lines.append, events, later)
    other = [line(event(), "stderr"), line("{}"), line("{not json"), line(event(namespace="x"))]
    for each in [line(event()), *other]:
        write(each)
    assert lines == other
