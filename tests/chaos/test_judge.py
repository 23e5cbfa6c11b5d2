from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rehearsal.faults.catalogue import KINDS, shown
from rehearsal.faults.faults import parse_fault
from schema.run_records import CellPhases, CellRecord, Status
from tests.chaos.judge import TABLE, invented, missed
from tests.chaos.matrix import MATRIX
from tests.chaos.outcome import Injection, Outcome

AT = datetime(2026, 11, 25, tzinfo=UTC)
ELSEWHERE = {
    ("google", "quota"),
    ("list", "late"),
    ("list", "zone"),
    ("new-project", ""),
    ("operation", "failed"),
    ("operator-down", ""),
    ("view-missing", ""),
}
"""Of tests/live/stack/test_google_errors.py, tests/live/study/test_minicluster.py, tests/rehearsal
and tests/experiment."""
PULL = "pull:how=404,trial=1,node=1"


def cell(status: Status, node: int = 1) -> CellRecord:
    return CellRecord(
        run="r",
        trial=1,
        repetition=1,
        nodes=4,
        reference="ghcr.io/o/i:t@sha256:a",
        tag="t",
        node=f"n-{node}",
        pod="p",
        pod_uid="u",
        status=status,
        reason="" if status is Status.VALID else "why",
        pull_s=1.0,
        pull_and_wait_s=1.0,
        image_bytes=5,
        warm_bytes=0,
        sources={},
        phases=CellPhases(),
    )


def outcome(*statuses: Status, injected: bool = True) -> Outcome:
    cells = {(1, node): cell(status, node) for node, status in enumerate(statuses, 1)}
    injections = (Injection(parse_fault(PULL), AT, (1, 1)),) if injected else ()
    return Outcome(cells=cells, injections=injections)


def test_every_kind_and_variant_has_a_row_and_a_run() -> None:
    known = {
        (name, how) for name, kind in KINDS.items() for how in shown(kind).get("how", "").split("/")
    } - ELSEWHERE
    assert set(TABLE) == known
    faults = [parse_fault(text) for scenario in MATRIX for text in scenario.faults]
    assert {(fault.name, fault.how) for fault in faults} == known


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (outcome(Status.FAILED, Status.VALID), ""),
        (outcome(Status.VALID), "valid, not: failed"),
        (outcome(Status.FAILED, injected=False), "not injected"),
        (Outcome(injections=outcome(Status.VALID).injections), "no cell"),
    ],
)
def test_a_fault_must_be_injected_and_shown(run: Outcome, problem: str) -> None:
    found = list(missed(run, (PULL,)))
    assert found == [] if not problem else problem in found[0]


@pytest.mark.parametrize(
    ("run", "cells"),
    [
        (outcome(Status.FAILED, Status.VALID), []),
        (outcome(Status.FAILED, Status.FAILED), ["(1, 2): failed"]),
        (outcome(Status.CACHED), ["(1, 1): cached"]),
    ],
)
def test_a_cell_that_no_fault_excludes_is_invented(run: Outcome, cells: list[str]) -> None:
    assert list(invented(run)) == [f"invented: {each}: why" for each in cells]
