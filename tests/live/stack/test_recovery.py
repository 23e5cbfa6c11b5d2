"""A command killed at any moment leaves nothing that the next one cannot handle.

By the local Google's own lists: clusters, accounts, roles, grants, sinks, scheduler jobs. The call
to Google at which a process is killed is a fraction of the calls of a recorded `up` or `destroy`.
CI kills at fixed moments; the full matrix at random ones, whose seed it prints (PULL_STUDY_SEED
repeats one).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
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
RANDOM = 20


def draw(number: int, seed: int) -> Moment:
    """Of twenty, spread evenly over twelve moments of an `up` and eight of a `destroy`."""
    values = random.Random(f"{seed}-{number}")
    action, place, count = ("up", number, 12) if number < 12 else ("destroy", number - 12, 8)
    return Moment(
        action,
        ("runner", "cli", "provider", "all")[number % 4],
        (place + values.random()) / count * 0.95,
        after=values.random() < 0.5,
        then=values.choice(("destroy", "run", "recover")),
    )


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
    return Recorded(resources, {**calls, "destroy": len(rig.calls.calls)})


def _die(rig: Rig, moment: Moment, calls: int) -> None:
    """Start the action, and kill its victim at the moment."""
    providers = rig.providers()
    maker = rig.maker(moment.action)
    if moment.action == "destroy":
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
    maker.wait(timeout=LONGEST_S)
    assert cli, f"no process was killed within {len(rig.calls.calls)} calls"
    for pid in cli:
        await_exit(pid)
    if moment.victim in {"provider", "all"}:
        providers.wait(timeout=20)
    rig.calls.forget()


def _expect_recovery(rig: Rig, recorded: Recorded, moment: Moment) -> None:
    _die(rig, moment, recorded.calls[moment.action])
    rig.providers()
    progress: list[str] = []
    cluster = rig.cluster(progress)
    if moment.then == "run":
        cluster.recover(resumed=False)
        cluster.provision()
        assert rig.resources() == recorded.resources, progress
    elif moment.then == "recover":
        presence = cluster.repair()
        found = cluster.find()
        assert (found is not None) == cluster.stack.knows_cluster()
        assert presence is not Presence.NOTHING or found is None
    rig.cluster(progress).teardown()
    assert rig.resources() == [], progress
    assert rig.fleet.clusters == {}


@pytest.mark.parametrize("moment", FIXED, ids=str)
def test_after_a_kill_the_next_command_leaves_no_orphan(
    rig: Rig, recorded: Recorded, moment: Moment
) -> None:
    _expect_recovery(rig, recorded, moment)


@pytest.mark.full
@pytest.mark.parametrize("number", range(RANDOM))
def test_after_a_kill_at_a_random_moment_the_next_command_leaves_no_orphan(
    rig: Rig, recorded: Recorded, number: int
) -> None:
    seed = int(os.environ.get("PULL_STUDY_SEED") or random.SystemRandom().randrange(10**6))
    moment = draw(number, seed)
    print(f"PULL_STUDY_SEED={seed}: {moment}")
    _expect_recovery(rig, recorded, moment)
