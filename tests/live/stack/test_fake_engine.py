"""The fake engine of the generated sequences does what a real one does.

Compared are the calls of an `up` and of a `destroy` that change something, the state that an `up`
leaves, and what is pending after the CLI was killed at the creation of the cluster.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pulumi import automation

from tests.generated.world import World, new_world, prepare
from tests.live.harness import children, kill
from tests.live.stack.rig import Rig

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(300),
    # A killed CLI breaks its stream of events.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

_CLUSTER = "gcp:container/cluster:Cluster"
_CREATION = re.compile(r"POST .*/clusters$")
_SUFFIX = re.compile(r"(pull-study-size-4)-[0-9a-f]{7}\b")
_TIME = re.compile(r'timestamp\("[^"]*"\)')
_LAST_UPDATE = "pulumi:pulumi:StackReference"


@dataclass(frozen=True)
class Seen:
    """What an engine did."""

    up: Counter[str]
    destroy: Counter[str]
    state: dict[str, Any]
    """Entries after `up`, by URN."""
    left: set[str]
    """Types of what is in the state after `destroy`."""
    pending: dict[str, str]
    """After the kill: kinds of operations by URN."""
    whole: set[str]
    """After the kill: URNs of what is in the state."""
    message: str
    """Of the killed command."""


def changing(calls: Iterable[str]) -> Counter[str]:
    """Calls that may change something, without the random end of the bucket's name."""
    plain = (_SUFFIX.sub(r"\1-SUFFIX", call) for call in calls)
    return Counter(call for call in plain if not call.startswith("GET "))


def entries(deployment: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the state has of each resource of the cloud."""
    found = (deployment or {}).get("resources") or []
    return {
        each["urn"]: (
            each["type"],
            _TIME.sub("TIME", _SUFFIX.sub(r"\1-SUFFIX", str(each.get("id", "")))),
            bool(each.get("retainOnDelete")),
            each.get("deletedWith") or "",
            sorted(urn for urn in each.get("dependencies") or () if _LAST_UPDATE not in urn),
            each.get("parent", ""),
            str(each.get("provider", "")).rpartition("::")[0],
        )
        for each in found
        if each["type"].startswith("gcp:")
    }


def pending(deployment: Mapping[str, Any] | None) -> dict[str, str]:
    operations = (deployment or {}).get("pending_operations") or []
    return {each["resource"]["urn"]: each["type"] for each in operations}


def cloud_types(deployment: Mapping[str, Any] | None) -> set[str]:
    found = (deployment or {}).get("resources") or []
    return {each["type"] for each in found if each["type"].startswith(("gcp:", "kubernetes:"))}


def of_the_fake() -> Seen:
    with pytest.MonkeyPatch.context() as patch, new_world() as world:
        prepare(patch)
        cluster = world.cluster(world.folder)
        cluster.provision()
        up = changing(world.google.calls)
        state = entries(cluster.stack._stack.export_stack().deployment)
        world.google.calls.clear()
        cluster.teardown()
        destroy = changing(world.google.calls)
        left = cloud_types(cluster.stack._stack.export_stack().deployment)
        message, deployment = _fake_kill(world)
        return Seen(
            up, destroy, state, left, pending(deployment), set(entries(deployment)), message
        )


def _fake_kill(world: World) -> tuple[str, Mapping[str, Any] | None]:
    cluster = world.cluster(world.folder)
    world.google.calls.clear()
    cluster.stack._stack.up(on_event=lambda _event: None)
    calls = enumerate(world.google.calls, start=1)
    number = next(number for number, call in calls if _CREATION.match(call))
    cluster.teardown()
    world.google.calls.clear()
    world.at_call(number, lambda: world.kill("cli"), after=True)
    with pytest.raises(automation.CommandError) as caught:
        cluster.stack._stack.up(on_event=lambda _event: None)
    return str(caught.value), cluster.stack._stack.export_stack().deployment


def of_the_real(rig: Rig) -> Seen:
    cluster = rig.cluster()
    rig.calls.forget()
    cluster.provision()
    up = changing(rig.calls.calls)
    state = entries(cluster.stack._stack.export_stack().deployment)
    rig.calls.forget()
    cluster.teardown()
    destroy = changing(rig.calls.calls)
    left = cloud_types(cluster.stack._stack.export_stack().deployment)
    message, deployment = _real_kill(rig)
    return Seen(up, destroy, state, left, pending(deployment), set(entries(deployment)), message)


def _real_kill(rig: Rig) -> tuple[str, Mapping[str, Any] | None]:
    cluster = rig.cluster()
    stack = cluster.stack._stack
    rig.calls.forget()

    def happen() -> None:
        for pid in children(os.getpid()):
            kill(pid)

    rig.calls.happen, rig.calls.after, rig.calls.matching = happen, True, _CREATION
    with pytest.raises(automation.CommandError) as caught:
        stack.up(on_event=lambda _event: None)
    rig.calls.forget()
    return str(caught.value), stack.export_stack().deployment


def test_calls_state_and_pending_operations_are_those_of_a_real_engine(rig: Rig) -> None:
    fake = of_the_fake()
    real = of_the_real(rig)
    try:
        assert fake.up == real.up
        assert fake.state == real.state
        assert fake.destroy == real.destroy
        assert fake.left == real.left == set()
        cluster = next(urn for urn, kind in real.pending.items() if _CLUSTER in urn and kind)
        assert fake.pending[cluster] == real.pending[cluster] == "creating"
        needed = set(fake.state[cluster][4])
        assert needed <= fake.whole
        assert needed <= real.whole
        assert cluster not in fake.whole | real.whole
        assert "killed by signal 9" in fake.message
        assert "killed by signal 9" in real.message
    finally:
        rig.cluster().teardown()
    assert rig.resources() == []
