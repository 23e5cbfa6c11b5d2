"""A command killed at any moment leaves nothing that the next one cannot handle.

By the local Google's own lists: clusters, accounts, roles, grants, sinks, scheduler jobs. Moments
are drawn by a seed, which is in each test's name; PULL_STUDY_SEED repeats one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from experiment.provision.stack_cluster import Presence
from tests.live.recovery_bed import LONGEST_S, Bed, children, gone, kill, recovery_bed

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(900)]

SEED = int(os.environ.get("PULL_STUDY_SEED") or random.SystemRandom().randrange(10**6))
CALLS = {"up": (1, 46), "destroy": (2, 18)}
"""First and last call to Google of a whole `up` and `destroy` at which somebody can be killed; the
very first of a `destroy` is the runner's own, before there is a CLI."""


@dataclass(frozen=True)
class Moment:
    """When who is killed, and what is tried next."""

    action: str
    victim: str
    call: int
    after: bool
    then: str

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        return f"{self.victim}-{when}-call-{self.call}-of-{self.action}-then-{self.then}"


def _moments(seed: int) -> list[Moment]:
    """Twelve moments of an `up` and eight of a `destroy`, spread evenly, in pairs of neighbours."""
    draw = random.Random(seed)
    victims = ["runner", "cli", "provider", "all"] * 5
    draw.shuffle(victims)
    found = []
    for action, count in (("up", 12), ("destroy", 8)):
        begin, end = CALLS[action]
        thens = ["destroy", "run", "recover", "destroy"]
        for number in range(count):
            first, last = (begin + (end - begin + 1) * (number + part) // count for part in (0, 1))
            found.append(
                Moment(
                    action,
                    victims.pop(),
                    draw.randint(first, max(first, last - 1)),
                    draw.random() < 0.5,
                    thens[number % len(thens)],
                )
            )
    return found


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with recovery_bed(tmp_path_factory.mktemp("bed")) as bed:
        yield bed


@pytest.fixture(scope="module")
def everything(bed: Bed) -> list[str]:
    """What a whole stack has in Google Cloud."""
    bed.providers()
    cluster = bed.cluster()
    cluster.provision()
    found = bed.there()
    cluster.teardown()
    return found


def _die(bed: Bed, moment: Moment) -> None:
    """Begin what the moment says, and kill whom it says then."""
    providers = bed.providers()
    maker = bed.maker(moment.action)
    if moment.action == "destroy":
        bed.cluster().provision()
    cli: list[int] = []

    def happen() -> None:
        cli.extend(children(maker.pid))
        victims = {"runner": [maker.pid], "cli": cli, "provider": [providers.pid]}
        victims["all"] = [providers.pid, *cli, maker.pid]
        for pid in victims[moment.victim]:
            kill(pid)

    bed.calls.forget()
    bed.calls.happen, bed.calls.after, bed.calls.at = happen, moment.after, moment.call
    assert maker.stdin is not None
    maker.stdin.write("go\n")
    maker.stdin.close()
    maker.wait(timeout=LONGEST_S)
    assert cli, f"nobody was killed within {len(bed.calls.calls)} calls"
    for pid in cli:
        gone(pid)
    if moment.victim in {"provider", "all"}:
        providers.wait(timeout=20)
    bed.calls.forget()


@pytest.mark.parametrize("moment", _moments(SEED), ids=lambda moment: f"seed-{SEED}-{moment}")
def test_whatever_was_killed_the_next_command_leaves_no_orphan(
    bed: Bed, everything: list[str], moment: Moment
) -> None:
    _die(bed, moment)
    bed.providers()
    said: list[str] = []
    cluster = bed.cluster(said)
    if moment.then == "run":
        cluster.recover(resumed=False)
        cluster.provision()
        assert bed.there() == everything, said
    elif moment.then == "recover":
        presence = cluster.repair()
        found = cluster.find()
        assert (found is not None) == cluster.stack.knows_cluster()
        assert presence is not Presence.NOTHING or found is None
    bed.cluster(said).teardown()
    assert bed.there() == [], said
    assert bed.fleet.clusters == {}
