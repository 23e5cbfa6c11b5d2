"""A command killed at any moment leaves nothing that the next one cannot handle.

By the local Google's own lists: clusters, accounts, roles, grants, sinks, scheduler jobs. The call
to Google at which a process is killed is a fraction of the calls of a recorded `up` or `destroy`.
CI kills at fixed moments. The full test kills one to three commands in a row at random moments; it
prints the seed (PULL_STUDY_SEED repeats one). PULL_STUDY_REAL_SEQUENCES is the number of sequences.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from experiment.provision.stack_cluster import Presence
from tests.live.harness import await_exit, children, kill
from tests.live.stack.rig import LONGEST_S, Rig, open_rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Moment:
    """When which process is killed, and what is tried next."""

    action: str
    """`up` or `destroy`; `run` for an `up` after what was killed before."""
    victim: str
    """`runner`, `cli`, `provider` or `all`."""
    fraction: float
    """Of the action's calls to Google."""
    after: bool
    """Once Google has carried the call out, not before."""
    then: str
    """`destroy`, `run` or `recover`."""

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        place = f"{when}-{self.fraction:.0%}-of-{self.action}"
        return f"{self.victim}-{place}-then-{self.then}"


FIXED = (
    Moment("up", "runner", 0.1, after=False, then="run"),
    Moment("up", "cli", 0.4, after=True, then="destroy"),
    Moment("up", "provider", 0.6, after=False, then="recover"),
    Moment("up", "all", 0.85, after=True, then="run"),
    Moment("destroy", "runner", 0.3, after=True, then="recover"),
    Moment("destroy", "all", 0.7, after=False, then="destroy"),
)
RANDOM = int(os.environ.get("PULL_STUDY_REAL_SEQUENCES", "200"))


def draw(number: int, seed: int) -> list[Moment]:
    """One to three commands, each killed; the first is an `up` in three of five sequences."""
    values = random.Random(f"{seed}-{number}")
    actions = ["up" if number % 5 < 3 else "destroy"]
    actions += values.choices(("run", "destroy"), k=number % 3)
    return [
        Moment(
            action,
            ("runner", "cli", "provider", "all")[(number + place) % 4],
            values.uniform(0.0, 0.95),
            after=values.random() < 0.5,
            then=values.choice(("destroy", "run", "recover")),
        )
        for place, action in enumerate(actions)
    ]


@dataclass(frozen=True)
class Recorded:
    """An undisturbed `up` and `destroy`."""

    resources: list[str]
    """What a whole stack has in Google Cloud."""
    calls: dict[str, int]
    """To Google, by action."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(scope="module")
def recorded(rig: Rig) -> Recorded:
    rig.providers()
    cluster = rig.cluster()
    rig.calls.forget()
    cluster.provision()
    calls = {"up": len(rig.calls.calls)}
    resources = rig.resources()
    rig.calls.forget()
    cluster.teardown()
    calls["destroy"] = len(rig.calls.calls)
    return Recorded(resources, {**calls, "run": calls["up"]})


def _die(rig: Rig, moment: Moment, calls: int, *, again: bool = False) -> bool:
    """Start the action, and kill its victim at the moment; whether it lasted that long.

    Args:
        calls: of an undisturbed action.
        again: after another command was killed.
    """
    providers = rig.providers()
    maker = rig.maker(moment.action)
    if moment.action == "destroy" and not again:
        rig.cluster().provision()
    cli: list[int] = []

    def happen() -> None:
        cli.extend(children(maker.pid))
        victims = {"runner": [maker.pid], "cli": cli, "provider": [providers.pid]}
        victims["all"] = [providers.pid, *cli, maker.pid]
        for pid in victims[moment.victim]:
            kill(pid)

    rig.calls.forget()
    # the first call of a destroy is the runner's own, before there is a CLI
    at = 2 + round(moment.fraction * (calls - 2))
    rig.calls.happen, rig.calls.after, rig.calls.at = happen, moment.after, at
    assert maker.stdin is not None
    maker.stdin.write("go\n")
    maker.stdin.close()
    try:
        maker.wait(timeout=LONGEST_S)
    finally:
        maker.kill()
    died = len(rig.calls.calls) >= at
    assert again or cli, f"no process was killed within {len(rig.calls.calls)} calls"
    for pid in cli:
        await_exit(pid)
    if died and moment.victim in {"provider", "all"}:
        providers.wait(timeout=20)
    rig.calls.forget()
    return died


def _expect_recovery(rig: Rig, recorded: Recorded, moments: Sequence[Moment]) -> int:
    """Kill the commands, try the next one, and destroy; how many commands were killed."""
    kills = 0
    for number, moment in enumerate(moments):
        kills += _die(rig, moment, recorded.calls[moment.action], again=number > 0)
    rig.providers()
    progress: list[str] = []
    cluster = rig.cluster(progress)
    then = moments[-1].then
    if then == "run":
        cluster.recover(resumed=False)
        cluster.provision()
        assert rig.resources() == recorded.resources, progress
    elif then == "recover":
        presence = cluster.repair()
        found = cluster.find()
        assert (found is not None) == cluster.stack.knows_cluster()
        assert presence is not Presence.NOTHING or found is None
    rig.cluster(progress).teardown()
    assert rig.resources() == [], progress
    assert rig.fleet.clusters == {}
    return kills


@pytest.mark.parametrize("moment", FIXED, ids=str)
def test_after_a_kill_the_next_command_leaves_no_orphan(
    rig: Rig, recorded: Recorded, moment: Moment
) -> None:
    assert _expect_recovery(rig, recorded, [moment]) == 1


@pytest.mark.full
@pytest.mark.parametrize("number", range(RANDOM))
def test_after_kills_at_random_moments_the_next_command_leaves_no_orphan(
    rig: Rig, recorded: Recorded, number: int
) -> None:
    seed = int(os.environ.get("PULL_STUDY_SEED") or random.SystemRandom().randrange(10**6))
    moments = draw(number, seed)
    print(f"PULL_STUDY_SEED={seed}: {', '.join(map(str, moments))}")
    print(f"kills: {_expect_recovery(rig, recorded, moments)}")
