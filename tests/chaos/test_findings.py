"""The judgement of `make chaos` itself: it finds what is shown, and misses what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rehearsal.faults.catalogue import KINDS
from rehearsal.faults.faults import Faults, parse_fault
from schema.evidence_records import EvidenceRecord, SourceCount
from schema.run_records import (
    CellPhases,
    CellRecord,
    EventRecord,
    GapRecord,
    Phase,
    PhaseRecord,
    Source,
    Status,
)
from tests.chaos.findings import differences, findings, invented
from tests.chaos.outcome import Cell, Outcome, Strike, read_strikes

AT = datetime(2026, 11, 25, tzinfo=UTC)
HIT = {"uid": "u-1", "reason": "Pulled", "request": "PATCH /x"}
BOTH = [Source.WATCH, Source.EXPORTER]


def cell(at: Cell, status: Status = Status.VALID, **changes: Any) -> CellRecord:
    record = {
        "run": "r",
        "trial": at[0],
        "repetition": 1,
        "nodes": 4,
        "reference": "ghcr.io/o/i:t@sha256:a",
        "tag": "t",
        "node": f"n-{at[1]}",
        "pod": f"pod-{at[0]}-{at[1]}",
        "pod_uid": "u",
        "status": status,
        "reason": "" if status is Status.VALID else "why",
        "pull_s": 1.0,
        "pull_and_wait_s": 1.0,
        "image_bytes": 5,
        "warm_bytes": 0,
        "sources": {"Pulled": BOTH},
        "phases": CellPhases(released_at=AT, scheduled_at=AT + timedelta(milliseconds=10)),
    }
    return CellRecord.model_validate({**record, **changes})


def cells(**changes: CellRecord) -> dict[Cell, CellRecord]:
    """Two trials on four nodes, all valid but those named as `t1n2`."""
    found = {(t, n): cell((t, n)) for t in (1, 2) for n in (1, 2, 3, 4)}
    return found | {(int(name[1]), int(name[3])): each for name, each in changes.items()}


def event(uid: str, source: Source, *, late_s: float = 0.1, at_s: float = 0) -> EventRecord:
    at = AT + timedelta(seconds=at_s)
    name = f"pod.{int(at.timestamp() * 1e9):016x}"
    return EventRecord(
        source=source,
        received_at=at + timedelta(seconds=late_s),
        event={"metadata": {"uid": uid, "name": name}},
    )


def evidence(*, lost: int = 0, repeated: int = 0, **changes: Any) -> EvidenceRecord:
    count = SourceCount(seen=40, lost=lost, repeated=repeated, gaps=0)
    record = {
        "attempt": 1,
        "at": AT,
        "complete": True,
        "waited_s": 0,
        "sources": {Source.WATCH: count.model_copy(update={"lost": 0}), Source.EXPORTER: count},
        "seen_by_several": 40,
        "seen_by_one": 0,
        "seen_by_none": 0,
    }
    return EvidenceRecord.model_validate({**record, **changes})


def gap(source: Source, reason: str) -> GapRecord:
    return GapRecord(source=source, since=AT, until=AT, reason=reason)


def phase(name: Phase, seconds: float = 1, error: str | None = None) -> PhaseRecord:
    ended = AT + timedelta(seconds=seconds)
    return PhaseRecord(phase=name, started_at=AT, ended_at=ended, error=error)


def lost(status: Status = Status.VALID) -> CellRecord:
    return cell((1, 1), status, sources={"Pulled": []})


def scheduled_after(seconds: float) -> dict[Cell, CellRecord]:
    phases = CellPhases(released_at=AT, scheduled_at=AT + timedelta(seconds=seconds))
    return {at: each.model_copy(update={"phases": phases}) for at, each in cells().items()}


LOST_FOR_GOOD = cells(t1n1=cell((1, 1), Status.NODE_LOST), t2n1=cell((2, 1), Status.NODE_LOST))
FAILED_CELL = cells(t1n1=cell((1, 1), Status.FAILED))
SOUND = Outcome(cells=cells(), phases=(phase(Phase.COLLECT),), evidence=(evidence(),))
BROKEN = Outcome(code=3, cells=FAILED_CELL, output="something else")
RESUMED = {at: each.model_copy(update={"attempt": 2}) for at, each in cells().items()}

SHOWN: list[tuple[str, Outcome]] = [
    (
        "event-lost",
        Outcome(cells=cells(t1n1=lost(Status.MISSING_EVENTS))),
    ),
    (
        "event-lost:source=exporter",
        Outcome(
            cells=cells(t1n1=cell((1, 1), sources={"Pulled": [Source.WATCH]})),
            evidence=(evidence(lost=1),),
        ),
    ),
    (
        "entry-never",
        Outcome(
            cells=cells(t1n1=cell((1, 1), sources={"Pulled": [Source.WATCH]})),
            evidence=(evidence(lost=1),),
        ),
    ),
    (
        "event-duplicated",
        Outcome(
            cells=cells(),
            events=tuple(event("u-1", source) for source in BOTH for _ in range(2)),
            evidence=(evidence(repeated=2),),
        ),
    ),
    (
        "event-late",
        Outcome(cells=cells(), events=tuple(event("u-1", each, late_s=2.5) for each in BOTH)),
    ),
    (
        "entry-late:s=5",
        Outcome(cells=cells(), events=(event("u-1", Source.EXPORTER, late_s=6),)),
    ),
    (
        "event-out-of-order:source=watch",
        Outcome(
            cells=cells(),
            events=(event("u-2", Source.WATCH, at_s=1), event("u-1", Source.WATCH)),
        ),
    ),
    (
        "exporter-restarted",
        Outcome(cells=cells(), gaps=(gap(Source.EXPORTER, "the exporter restarted"),)),
    ),
    ("watch-closed", Outcome(gaps=(gap(Source.WATCH, "the watch was closed: reset"),))),
    ("watch-expired", Outcome(gaps=(gap(Source.WATCH, "the watch was closed: too old (410)"),))),
    ("logging-throttled", SOUND),
    ("page-token-expired", SOUND),
    ("sink-late", SOUND),
    ("google-unavailable", SOUND),
    ("api-slow", Outcome(cells=scheduled_after(0.6))),
    ("scheduler-stalled", Outcome(cells=scheduled_after(5.1))),
    ("api-throttled", Outcome(log="made the runner repeat 3 requests (429: 3)")),
    (
        "api-error",
        Outcome(
            log="11:00:07.500123Z trial 1\n11:00:08Z made the runner repeat 3 requests (500: 3)"
        ),
    ),
    ("api-reset", Outcome(log="made the runner repeat 3 requests (no answer: 3)")),
    (
        "two-pods",
        Outcome(cells=cells(t1n1=cell((1, 1), Status.ABORTED), t1n2=cell((1, 2), Status.REPEATED))),
    ),
    ("node-not-ready", Outcome(cells=cells(t1n1=cell((1, 1), Status.NODE_LOST)))),
    ("node-replaced", Outcome(cells=LOST_FOR_GOOD)),
    ("node-deleted", Outcome(cells=LOST_FOR_GOOD)),
    ("node-slow", Outcome(cells=cells(t1n1=cell((1, 1), pull_s=4.9)))),
    ("node-disk-full", Outcome(cells=cells(t1n1=cell((1, 1), Status.EVICTED)))),
    ("node-clock-off", Outcome(evidence=(evidence(clock_offsets_s={"n-1": -300.4}),))),
    ("cached-image", Outcome(cells=cells(t1n1=cell((1, 1), Status.CACHED)))),
    ("image-missing", Outcome(cells=FAILED_CELL)),
    ("registry-throttled", Outcome(cells=cells(t1n1=cell((1, 1), Status.RETRIED)))),
    ("registry-down", Outcome(cells=FAILED_CELL)),
    ("google-conflict", Outcome(code=21, output="Already exists: projects/p")),
    ("google-quota", Outcome(code=10, output="Insufficient regional quota")),
    ("google-error", Outcome(code=12)),
    ("google-operation-failed", Outcome(code=11, output="does not have enough resources")),
    ("google-stuck:s=4", Outcome(phases=(phase(Phase.PROVISION, 5),))),
    ("process-killed", Outcome(cells=RESUMED)),
]
"""A fault and a run that shows it."""


def strike(text: str, cell: Cell = (1, 1), **hit: str) -> Strike:
    return Strike(parse_fault(text), AT, *cell, {**HIT, **hit})


def test_every_kind_is_tried_here() -> None:
    assert {parse_fault(text).name for text, _ in SHOWN} | {"exporter-defaults"} == set(KINDS)


@pytest.mark.parametrize(("text", "outcome"), SHOWN, ids=[text for text, _ in SHOWN])
def test_a_fault_that_the_run_shows_is_found_and_nothing_is_invented(
    text: str, outcome: Outcome
) -> None:
    outcome = replace(outcome, strikes=(strike(text),))
    (finding,) = findings(outcome, (text,))
    assert finding.found, finding.wanted
    assert invented(outcome) == []


@pytest.mark.parametrize("text", [text for text, _ in SHOWN])
def test_a_fault_that_the_run_does_not_show_is_not_found(text: str) -> None:
    whole = {"logging-throttled", "page-token-expired", "sink-late", "google-unavailable"}
    outcome = BROKEN if parse_fault(text).name in whole else SOUND
    (finding,) = findings(replace(outcome, strikes=(strike(text),)), (text,))
    assert finding.found == ""
    assert finding.wanted


def test_a_fault_that_did_not_strike_is_not_found() -> None:
    (finding,) = findings(SOUND, ("image-missing",))
    assert (finding.strikes, finding.found, finding.wanted) == (0, "", "it did not strike")


@pytest.mark.parametrize(("told", "found"), [(900, True), (908, True), (880, False), (0, False)])
def test_the_loss_must_be_told_to_one_percent(told: int, found: bool) -> None:
    text = "exporter-defaults"
    truth = strike(text, (0, 0), events="1000", lost="900")
    outcome = Outcome(evidence=(evidence(lost=told),), strikes=(strike(text, (0, 0)), truth))
    (finding,) = findings(outcome, (text,))
    assert bool(finding.found) == found


def test_an_excluded_cell_that_nothing_struck_is_invented() -> None:
    disturbed = cells(t1n1=cell((1, 1), Status.FAILED), t2n3=cell((2, 3), Status.EVICTED))
    outcome = Outcome(cells=disturbed, strikes=(strike("image-missing"),))
    assert invented(outcome) == ["trial 2 node 3: evicted: why"]


def test_a_cell_with_another_status_than_its_fault_allows_is_invented() -> None:
    outcome = Outcome(cells=FAILED_CELL, strikes=(strike("cached-image"),))
    assert invented(outcome) == ["trial 1 node 1: failed: why"]


def test_a_node_short_of_disk_is_so_in_the_next_trial_and_just_before_but_not_long_before() -> None:
    short = {n: cell((n, 1), Status.DISK_PRESSURE) for n in (1, 2)}

    def told(strike_at: datetime) -> list[str]:
        phases = CellPhases(pulled_at=AT)
        first = short[1].model_copy(update={"phases": phases})
        struck = replace(strike("node-disk-full", (2, 1)), at=strike_at)
        return invented(Outcome(cells=cells(t1n1=first, t2n1=short[2]), strikes=(struck,)))

    assert told(AT + timedelta(seconds=2)) == []
    assert told(AT + timedelta(seconds=4)) == ["trial 1 node 1: disk-pressure: why"]


def test_tables_may_differ_in_struck_cells_alone() -> None:
    rows = {at: {"image_bytes": "5", "tag": "t"} for at in cells()}
    undisturbed = Outcome(cells=cells(), rows=rows)
    disturbed = Outcome(cells=FAILED_CELL, rows={**rows, (1, 1): {"image_bytes": ""}})
    assert differences(disturbed, undisturbed) == []
    wrong = Outcome(cells=cells(), rows={**rows, (2, 2): {"image_bytes": "6", "tag": "t"}})
    assert differences(wrong, undisturbed) == ["(2, 2): image_bytes is '6', not '5'"]
    fewer = {at: each for at, each in cells().items() if at != (2, 4)}
    assert differences(Outcome(cells=fewer, rows=rows), undisturbed) == [
        "(2, 4): the cell is not there"
    ]


def test_strikes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "injected.jsonl"
    assert list(read_strikes(path)) == []
    faults = Faults.read(["event-lost:trial=2", "sink-late"], path)
    faults.strike("event-lost", trial=2, node="gke-c-0003", uid="u")
    faults.strike("sink-late")
    first, second = read_strikes(path)
    assert (first.fault.text, first.cell, first.hit["uid"]) == ("event-lost:trial=2", (2, 3), "u")
    assert (second.fault.name, second.cell) == ("sink-late", (0, 0))
    assert all(json.loads(line) for line in path.read_text().splitlines())
