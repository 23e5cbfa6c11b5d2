"""Runs whose process meets a real limit of memory or descriptors, in a process of their own.

`python -m tests.generated.limits memory|descriptors EVERY` carries out a run for each EVERY-th call
to Google at which the limit comes, and one in whose first trial it comes. It fails if then there is
a cluster of which the user was not told, or if anything but a UserError ends a run.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schema.errors import ExitCode
from tests.generated.machine import check, finish
from tests.generated.world import Outcome, World, new_world, prepare

_LIMITS = {"memory": resource.RLIMIT_AS, "descriptors": resource.RLIMIT_NOFILE}
_BLOCKS = (1 << 20, 1 << 14, 1 << 9)


def _in_use(kind: str) -> int:
    if kind == "descriptors":
        return 0  # of these the lowest free one counts: not one more can be opened
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _use_up() -> None:
    """Take memory until there is none.

    Raises:
        MemoryError: always; what was taken is free then.
    """
    taken: list[bytes] = []
    for size in _BLOCKS:
        try:
            while True:
                taken.append(bytes(size))
        except MemoryError:
            continue
    raise MemoryError


@contextmanager
def limited(kind: str) -> Iterator[Callable[[], None]]:
    """Give what sets the limit, of `memory` or `descriptors`, to what is in use; restore it after.

    That of memory is met at once: what is given raises MemoryError.
    """
    limit = _LIMITS[kind]
    before = resource.getrlimit(limit)

    def set_limit() -> None:
        resource.setrlimit(limit, (_in_use(kind), before[1]))
        if kind == "memory":
            _use_up()

    try:
        yield set_limit
    finally:
        resource.setrlimit(limit, before)


def _at_call(world: World, call: int, act: Callable[[], None]) -> None:
    """Act after a call of the runner, not of the engine, which is another process in truth."""

    def act_in_the_runner() -> None:
        if world.pulumi.running:
            _at_call(world, len(world.google.calls) + 1, act)
        else:
            act()

    world.at_call(call, act_in_the_runner, after=True)


def run_limited(kind: str, call: int) -> Outcome:
    """Carry out a run whose limit comes at a call, or with 0 in its first trial."""
    with new_world() as world:
        with limited(kind) as set_limit:
            if call:
                _at_call(world, call, set_limit)
            else:
                world.in_measure = set_limit
            outcome = world.run()
        world.calm()
        check(world, outcome)
        finish(world)
        return outcome


def main() -> None:
    kind, every = sys.argv[1], int(sys.argv[2])
    prepare(pytest.MonkeyPatch())
    with new_world() as world:
        assert world.run().code == ExitCode.OK
        calls = len(world.google.calls)
    places = range(0, calls + 1, every)
    codes = Counter(str(run_limited(kind, call).code) for call in places)
    assert set(codes) != {"0"}, "no run met the limit"
    print(f"{kind}: a limit at each of {len(places)} places, exit codes {dict(codes)}")


if __name__ == "__main__":
    main()
