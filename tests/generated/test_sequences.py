"""After any sequence of commands and faults nothing is left, and nothing false was said."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.generated.machine import Machine, Totals
from tests.generated.world import prepare

_FEW = 8
_MANY = int(os.environ.get("PULL_STUDY_SEQUENCES", "10000"))


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


def _run(examples: int, *, derandomize: bool) -> str:
    begun = time.monotonic()
    before, faults = Totals.sequences, Totals.faults
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
    took = time.monotonic() - begun
    done = Totals.sequences - before
    return (
        f"{done} sequences, {Totals.faults - faults} faults took effect, no resource without an "
        f"owner, no table that differs, {took:.0f} s ({done / took:.1f} a second); commands: "
        f"{dict(Totals.commands)}"
    )


def test_nothing_is_left_after_a_few_sequences() -> None:
    _run(_FEW, derandomize=True)


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_nothing_is_left_after_many_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    done = _run(_MANY, derandomize=False)
    with capsys.disabled():
        print(done)
