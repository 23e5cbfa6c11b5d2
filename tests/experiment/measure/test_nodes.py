from typing import Any

from experiment.measure.nodes import NodeStates
from schema.run_records import NodeRecord
from tests.experiment.fake_kube import node


def states(*nodes: dict[str, Any]) -> tuple[NodeStates, list[NodeRecord]]:
    kept: list[NodeRecord] = []
    return NodeStates(nodes, {"sha256:1"}, 2, kept.append), kept


def test_each_node_is_kept_once_with_the_images_of_the_run_that_it_lists() -> None:
    nodes, kept = states(node("a", "u", "sha256:1", "sha256:9"), node("b", "v"))
    nodes.handle("ADDED", node("a", "u", "sha256:1"))  # the watch lists it again
    assert [(record.node, record.attempt, record.images) for record in kept] == [
        ("a", 2, ("sha256:1",)),
        ("b", 2, ()),
    ]
    assert nodes.lost() == {}


def test_a_node_that_is_not_ready_is_lost_until_it_is() -> None:
    nodes, kept = states(node("a", "u"))
    nodes.handle("MODIFIED", node("a", "u", Ready="Unknown"))
    assert "not ready" in nodes.lost()["a"]
    nodes.handle("MODIFIED", node("a", "u"))
    assert nodes.lost() == {}
    assert [record.ready for record in kept] == [True, False, True]


def test_pressure_is_kept_and_loses_nothing() -> None:
    nodes, kept = states(node("a", "u"))
    nodes.handle("MODIFIED", node("a", "u", DiskPressure="True"))
    assert kept[-1].pressures == ("DiskPressure",)
    assert nodes.lost() == {}


def test_a_node_that_is_deleted_or_replaced_stays_lost() -> None:
    nodes, _ = states(node("a", "u"))
    nodes.handle("DELETED", node("a", "u"))
    assert "deleted" in nodes.lost()["a"]
    nodes.handle("ADDED", node("a", "another"))
    assert "replaced" in nodes.lost()["a"]


def test_nodes_that_are_not_measured_are_ignored() -> None:
    nodes, kept = states(node("a", "u"))
    nodes.handle("ADDED", node("new"))
    assert len(kept) == 1
    assert nodes.lost() == {}
