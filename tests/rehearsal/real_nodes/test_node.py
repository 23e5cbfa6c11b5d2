from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rehearsal.cluster.fleet import FleetError
from rehearsal.machine import processes, requirements
from rehearsal.real_nodes import node
from rehearsal.real_nodes.node import NodeNumber, RealNode, take_numbers
from tests.rehearsal.real_nodes.test_node_files import SPEC


@pytest.fixture(autouse=True)
def own_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numbers that no rehearsal of this machine uses meanwhile."""
    hold = processes.hold
    monkeypatch.setattr(processes, "hold", lambda name: hold(f"{name}-{tmp_path}"[:100]))


def numbers(count: int) -> list[NodeNumber]:
    """Return that many numbers, reserved."""
    with take_numbers(count) as taken:
        return [taken.pop() for _ in range(count)]


def test_numbers_are_reserved_all_or_none() -> None:
    first = numbers(3)
    assert [each.number for each in first] == [1, 2, 3]
    with pytest.raises(FleetError, match="5 more than now, so 6 cannot be started"):
        numbers(6)
    first[1].release()
    (again,) = numbers(1)
    assert again.number == 2
    for each in (again, first[0], first[2]):
        each.release()


def test_a_node_that_is_not_reaped_in_time_still_returns_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_STOP_S", 0.01)
    folder = tmp_path / "node"
    folder.mkdir()
    (number,) = numbers(1)
    with subprocess.Popen(["sleep", "100"]) as process:
        RealNode(SPEC, folder, number, process).stop()
        process.kill()
    assert not folder.exists()
    taken = numbers(requirements.LARGEST_FLEET)
    assert taken[0].number == number.number
    for each in taken:
        each.release()
