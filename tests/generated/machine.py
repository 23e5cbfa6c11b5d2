"""Generated sequences of commands and faults, and what must be true after each.

Settings decide how many sequences are drawn (tests/generated/test_sequences.py); a sequence that
fails shrinks to a few lines, which are kept as a test in tests/generated/test_kept.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from schema.errors import ExitCode
from tests.generated.world import TICK_S, Outcome, World, new_world

VICTIMS = ("runner", "cli", "provider", "all", "interrupt")
_TOLD = (
    "costs about",
    "(costs money)",
    "already up",
    "in use",
    "still working on",
    "exists is unknown",
    "its cluster is",
    "may be up",
    "left as it is",
    "left alone",
    "will be deleted at",
    "pull-study list",
)
"""What tells a user that a cluster is up, or may be."""
_NOTHING = ("Nothing of the stack", "only its archive of events is left.", "nothing is left there")
_UP = ("Kept, as requested: the cluster", "Note: the cluster", "is kept and costs")
_NO_ANSWER = ("Google did not answer", "Google refused", "is in use by process")
_NO_CLUSTER = ("is deleted, but Pulumi could not delete the rest",)
_LATE_S = TICK_S + 240.0
"""How late the local Google deletes what is due, how long that takes, and the runner's pauses."""
CELLS = [(trial, f"node-{node}") for trial in (1, 2) for node in (1, 2, 3, 4)]


def _asks(outcome: Outcome) -> bool:
    return outcome.command.startswith(("run", "recover", "extend"))


class Totals:
    """What all sequences of a process did."""

    sequences = 0
    faults = 0
    commands: ClassVar[Counter[str]] = Counter()


def check(world: World, outcome: Outcome) -> None:
    """Check what a command said about what exists."""
    told = "\n".join([*outcome.said, outcome.text])
    there = f"{world.google.resources()} after {outcome}"
    if outcome.code is None:
        return
    if world.unseen and outcome.command in {"destroy", "recover"}:
        return  # what was true when it was asked has changed since
    if any(words in told for words in _NO_CLUSTER) or any(words in told for words in _NOTHING):
        assert not world.clusters, f"false word about money: {there}"
    if outcome.command in {"destroy", "recover"} and any(words in told for words in _NOTHING):
        assert not world.google.resources(), f"false word: {there}"
    ended_well = outcome.code in {ExitCode.OK, ExitCode.INCOMPLETE}
    if outcome.command in {"run", "resume"} and ended_well and not outcome.idle:
        assert not world.google.resources(), f"a run ended well: {there}"
    # What was true when it was said may have been deleted by the second process since.
    if any(words in told for words in _UP) and not world.overtaken:
        assert world.clusters, f"false word about money: {there}"
    if _asks(outcome) and any(words in outcome.text for words in _NO_ANSWER):
        return  # nothing was changed, and nothing is claimed
    if world.clusters and outcome.command != "sweep":
        assert any(words in told for words in _TOLD), f"nobody says that it is up: {there}"


def finish(world: World) -> None:
    """What a user does at last: destroy, and complete the last run."""
    world.calm()
    world.pass_time(1.0)
    outcome = world.destroy()
    assert outcome.code == ExitCode.OK, outcome
    check(world, outcome)
    backend = world.pulumi.backend
    left = [each["type"] for each in backend.resources if each["type"].startswith(("gcp", "kube"))]
    assert (left, backend.pending, backend.holder) == ([], [], 0)
    if not world.runs:
        return
    outcome = world.resume()
    assert outcome.code == ExitCode.OK, outcome
    check(world, outcome)
    assert world.valid_cells() == CELLS
    assert not world.google.resources()
    if len(world.runs) == 1:  # which has caused all that is charged
        recorded_s, charged_s = world.recorded_s(), world.google.charged_s
        assert recorded_s >= charged_s - _LATE_S, f"{recorded_s} s of {charged_s} s are recorded"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong in one command.

    Attributes:
        what: `kill VICTIM`, `refuse`, `no room`, `slow`, `late list`, `busy`, `in measurement` or
            `second COMMAND`.
        at: the number of the call to Google.
        after: once Google has carried the call out.
        count: how often.
        status: of a refusal; 0 for an answer that is lost.
        path: of refused calls, as a pattern of method and path.
    """

    what: str
    at: int = 1
    after: bool = False
    count: int = 1
    status: int = 503
    path: str = ""

    def arm(self, world: World) -> None:
        """Let it go wrong in the next command."""
        google = world.google
        what, _, which = self.what.partition(" ")
        if what == "kill":
            world.at_call(self.at, lambda: world.kill(which), after=self.after)
        elif what == "second":
            world.at_call(self.at, lambda: world.second(which), after=False)
        elif what == "busy":
            minutes = 5.0 * self.count
            world.at_call(
                self.at, lambda: google.begin_foreign_operation(60 * minutes), after=False
            )
        elif what == "refuse":
            world.refuse(self.status, self.count, path=self.path)
        elif what == "slow":
            google.slow_s = 600.0 * self.count
        elif what == "late":
            google.late_lists, google.missing_zones = self.count, self.after
        elif what == "no":
            google.broken_pools = self.count
        else:
            assert what == "measuring", what
            world.in_measure = lambda: world.kill(which)


_AT = st.integers(1, 40) | st.integers(1, 130)
_PATHS = ("", "GET", "POST", "DELETE", "DELETE .*/clusters/[^/]+$", "POST .*clusters$", "IamPolicy")
FAULTS = st.one_of(
    st.builds(
        Fault,
        st.sampled_from([f"kill {victim}" for victim in VICTIMS]),
        at=_AT,
        after=st.booleans(),
    ),
    st.builds(
        Fault,
        st.just("refuse"),
        count=st.sampled_from((1, 2, 5, 60)),
        status=st.sampled_from((0, 403, 409, 429, 500, 503)),
        path=st.sampled_from(_PATHS),
    ),
    st.builds(Fault, st.just("no room"), count=st.integers(1, 2)),
    st.builds(Fault, st.just("slow"), count=st.sampled_from((1, 5))),
    st.builds(Fault, st.just("late list"), count=st.integers(1, 3), after=st.booleans()),
    st.builds(Fault, st.just("busy"), at=_AT, count=st.sampled_from((1, 6))),
    st.builds(Fault, st.sampled_from(("measuring all", "measuring interrupt"))),
    st.builds(Fault, st.sampled_from(("second run", "second destroy", "second recover")), at=_AT),
)
SOME = st.lists(FAULTS, max_size=2)


class Machine(RuleBasedStateMachine):
    """A user, and everything that can go wrong in each command."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.world = self._open.enter_context(new_world())

    def _carry_out(self, act: Callable[[], Outcome], faults: Sequence[Fault]) -> None:
        for fault in faults:
            fault.arm(self.world)
        outcome = act()
        Totals.commands[outcome.command] += 1
        self.world.calm()
        check(self.world, outcome)

    @rule(keep=st.booleans(), faults=SOME)
    def run(self, keep: bool, faults: list[Fault]) -> None:
        self._carry_out(lambda: self.world.run(keep=keep), faults)

    @precondition(lambda self: self.world.runs)
    @rule(keep=st.booleans(), faults=SOME)
    def resume(self, keep: bool, faults: list[Fault]) -> None:
        self._carry_out(lambda: self.world.resume(keep=keep), faults)

    @rule(faults=SOME)
    def destroy(self, faults: list[Fault]) -> None:
        self._carry_out(self.world.destroy, faults)

    @rule(faults=SOME)
    def recover(self, faults: list[Fault]) -> None:
        self._carry_out(self.world.recover, faults)

    @rule(faults=SOME, command=st.sampled_from(("extend", "sweep")))
    def other(self, faults: list[Fault], command: str) -> None:
        self._carry_out(getattr(self.world, command), faults)

    @rule(hours=st.sampled_from((0.02, 1.0, 30.0)))
    def time_passes(self, hours: float) -> None:
        self.world.pass_time(hours)

    def teardown(self) -> None:
        try:
            finish(self.world)
            Totals.sequences += 1
            Totals.faults += self.world.google.injected
        finally:
            self._open.close()


def play(steps: Sequence[tuple[str, Sequence[Fault]]]) -> World:
    """Play one sequence, as a kept test: `run`, `run keep`, `resume`, `destroy` and so on."""
    with new_world() as world:
        for command, faults in steps:
            for fault in faults:
                fault.arm(world)
            name, _, keep = command.partition(" ")
            act = getattr(world, name)
            if name == "pass_time":
                act(float(keep))
                continue
            outcome = act(keep=bool(keep)) if name in {"run", "resume"} else act()
            world.calm()
            check(world, outcome)
        finish(world)
        return world
