from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rehearsal.cluster.fleet import LogLine
from rehearsal.faults.events import (
    EXPORTER,
    NATIVE,
    WATCH,
    DelayQueue,
    EventFaults,
    Verdict,
    faulty_events,
    faulty_log,
)
from rehearsal.faults.faults import Faults
from rehearsal.faults.trials import Place
from tests.rehearsal.faults.observed import THEN, event, line
from tests.until import until


def faults(*texts: str) -> tuple[EventFaults, Faults]:
    requested = Faults.read(texts)
    places = {"pod-1": Place(2, "n-3")}
    return EventFaults(requested, places.get), requested


@pytest.fixture
def delays() -> Iterator[DelayQueue]:
    one = DelayQueue(lambda _: None)
    yield one
    one.stop()


def test_a_fault_of_both_sources_affects_the_same_events_on_each_and_is_recorded_once() -> None:
    events, requested = faults("event:how=lost,share=0.5")
    for number in range(40):
        reason = f"R{number}"
        watch = events.verdict(event(number, reason), WATCH)
        assert watch == events.verdict(event(number, reason), EXPORTER)
    assert 8 < len(requested.injected) < 32
    assert {line["trial"] for line in requested.injected} == {2}
    assert {line["node"] for line in requested.injected} == {"n-3"}


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ("both", [WATCH, EXPORTER, NATIVE]),
        ("watch", [WATCH]),
        ("exporter", [EXPORTER]),
        ("logging", [EXPORTER, NATIVE]),
    ],
)
def test_a_fault_of_one_source_leaves_the_others_alone(source: str, lost: list[str]) -> None:
    events, _ = faults(f"event:how=lost,source={source}")
    assert [way for way in (WATCH, EXPORTER, NATIVE) if events.verdict(event(), way).lost] == lost


def test_gkes_own_log_shows_events_as_the_faults_say(delays: DelayQueue) -> None:
    events, _ = faults("event:how=lost,reason=Pulled", "event:how=late,source=logging,s=0.05")
    written: list[Any] = []
    write = faulty_events(written.append, events, delays)
    write(None)
    write(event())
    write(late := event(2, "Pulling"))
    assert written == [None]
    until(lambda: written == [None, late])


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
    events, requested = faults(
        "event:how=lost,reason=Pulled,trial=2,node=3", "event:how=late,reason=Pulled"
    )
    assert events.verdict(other, WATCH) == Verdict()
    assert requested.injected == []


def test_an_action_that_fails_is_reported_and_the_next_one_runs() -> None:
    reports: list[str] = []
    done: list[int] = []
    queue = DelayQueue(reports.append)
    queue.put(0, lambda: done.append(1 // 0))
    queue.put(0.01, lambda: done.append(2))
    until(lambda: done == [2])
    queue.stop()
    assert "ZeroDivisionError" in reports[0]


@pytest.mark.parametrize(
    ("fault", "in_time"),
    [("event:how=late,s=0.05", False), ("event:how=late,source=logging,s=0.05", True)],
)
def test_a_late_event_was_printed_late_and_a_late_entry_in_time(
    delays: DelayQueue, fault: str, in_time: bool
) -> None:
    events, _ = faults(fault)
    lines: list[LogLine] = []
    write = faulty_log(lines.append, events, delays)
    write(line(event()))
    write(line("a message of the exporter"))
    assert [each.text for each in lines] == ["a message of the exporter"]
    until(lambda: len(lines) == 2)
    assert (lines[1].at == THEN) == in_time


def test_the_log_keeps_what_no_fault_is_about(delays: DelayQueue) -> None:
    events, _ = faults("event:how=lost")
    lines: list[LogLine] = []
    write = faulty_log(lines.append, events, delays)
    other = [line(event(), "stderr"), line("{}"), line("{not json"), line(event(namespace="x"))]
    for each in [line(event()), *other]:
        write(each)
    assert lines == other
