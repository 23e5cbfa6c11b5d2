"""Sequences that failed once, as short as they could be made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.generated.machine import Fault, play
from tests.generated.world import prepare

Steps = Sequence[tuple[str, Sequence[Fault]]]

KEPT: dict[str, Steps] = {
    "a destroy whose first look at Google gets no answer goes on": (
        ("run keep", ()),
        ("destroy", [Fault("refuse", status=0)]),
    ),
    "an extend that ends in a timeout does not say that the cluster was not brought up": (
        ("run keep", ()),
        ("extend", [Fault("slow", count=5)]),
    ),
    "an interrupted destroy says what is up": (
        ("run keep", ()),
        ("destroy", [Fault("kill interrupt", at=19)]),
    ),
    "a recover whose refresh is killed says what is up": (
        ("run keep", [Fault("slow", count=5)]),
        ("recover", [Fault("kill cli", at=65)]),
    ),
    "a run that is interrupted in its checks names the cluster of an earlier run": (
        ("run keep", ()),
        ("destroy", [Fault("kill runner", at=1)]),
        ("run", [Fault("kill interrupt", at=1)]),
    ),
    "a run that cannot repair the state names the cluster of an earlier run": (
        ("run", [Fault("kill all", at=55)]),
        ("destroy", [Fault("kill runner", at=1)]),
        ("run", [Fault("kill cli", at=7)]),
    ),
    "a cluster that a second run deletes after it was said to be kept is no false word": (
        ("run keep", [Fault("no room"), Fault("second run", at=90)]),
    ),
    "a resume with nothing to do names the cluster that another, killed run left": (
        ("run", [Fault("second run", at=1), Fault("kill all", at=70)]),
        ("resume", ()),
    ),
    "what another, killed run left is no part of a resume with nothing to do": (
        ("run", [Fault("second run", at=1), Fault("kill runner", at=3)]),
        ("resume", ()),
    ),
    "what a second run creates after recover asked for clusters makes no answer false": (
        ("recover", [Fault("measuring all"), Fault("second run", at=6)]),
    ),
    "an interrupted sweep says so": (
        ("run keep", ()),
        ("pass_time 30", ()),
        ("sweep", [Fault("kill interrupt", at=2)]),
    ),
    "a run that failed does not say that its cluster is kept": (
        ("run keep", [Fault("refuse", status=403, count=60, path="POST .*clusters$")]),
    ),
}


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


@pytest.mark.parametrize("steps", KEPT.values(), ids=list(KEPT))
def test_a_sequence_that_failed_once(steps: Steps) -> None:
    play(steps)
