"""Each process killed at each call of an `up` and of a `destroy`, before and after it.

Afterwards the user destroys, recovers or runs again; at the end nothing may be left by the local
Google's own lists. The fake engine's calls are all taken; tests/live/stack/test_recovery.py does
the same with a real engine at some of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median

import pytest

from schema.errors import ExitCode
from tests.generated.machine import VICTIMS, check, finish
from tests.generated.world import World, new_world, prepare

ACTIONS = ("up", "destroy")
NEXT = ("destroy", "recover", "run")
_EVERY = int(os.environ.get("PULL_STUDY_EVERY_KILL", "1"))
"""Take one call of so many, for a first look."""


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


def begin(world: World, action: str) -> None:
    """Do what must be done before the action."""
    if action == "destroy":
        assert world.run(keep=True).code == ExitCode.OK


def carry_out(world: World, action: str) -> None:
    check(world, world.run(keep=True) if action == "up" else world.destroy())


def calls_of(action: str) -> int:
    """The calls of an undisturbed one."""
    with new_world() as world:
        begin(world, action)
        carry_out(world, action)
        return len(world.google.calls)


def after_a_kill(action: str, victim: str, call: int, *, after: bool, then: str) -> float:
    """Kill, let the user go on, and check.

    Returns:
        Seconds, by the local Google's clock, from the kill until nothing is left or, for a run, its
        end.
    """
    with new_world() as world:
        begin(world, action)
        world.at_call(call, lambda: world.kill(victim), after=after)
        carry_out(world, action)
        assert world.google.injected == 1, "nobody was killed"
        world.calm()
        started = world.google.clock.monotonic()
        check(world, world.run() if then == "run" else getattr(world, then)())
        took = world.google.clock.monotonic() - started
        finish(world)
        return took


def cases(action: str) -> Iterator[tuple[str, int, bool, str]]:
    for call in range(1, calls_of(action) + 1, _EVERY):
        for number, victim in enumerate(VICTIMS):
            for after in (False, True):
                # each pair of call and victim with one of the three; each of the three with all
                yield victim, call, after, NEXT[(call + number + after) % 3]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("action", ACTIONS)
def test_after_a_kill_at_any_call_nothing_is_left(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    took: dict[str, list[float]] = {then: [] for then in NEXT}
    failed = []
    for victim, call, after, then in cases(action):
        try:
            took[then].append(after_a_kill(action, victim, call, after=after, then=then))
        except AssertionError as error:
            when = "after" if after else "before"
            failed.append(f"{victim} killed {when} call {call} of {action}, then {then}: {error}")
    kills = sum(map(len, took.values())) + len(failed)
    clean = {then: f"median {median(s):.0f} s, worst {max(s):.0f} s" for then, s in took.items()}
    counts = f"{kills} kills of {action}, {len(failed)} failed"
    with capsys.disabled():
        print(f"{counts}; from a kill to the end of the next command: {clean}")
    assert not failed, "\n\n".join([f"{len(failed)} of {kills}", *failed[:20]])


@pytest.mark.parametrize("victim", VICTIMS)
def test_after_a_kill_in_the_middle_of_an_up_nothing_is_left(victim: str) -> None:
    after_a_kill("up", victim, 60, after=True, then="recover")
