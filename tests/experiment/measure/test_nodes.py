from datetime import UTC, datetime
from typing import Any

from experiment.measure.nodes import NodeBoard
from schema.run_records import NodeRecord


def node(name: str = "a", uid: str = "u", *images: str, **conditions: str) -> dict[str, Any]:
    known = {"Ready": "True", "DiskPressure": "False", **conditions}
    return {
        "metadata": {"name": name, "uid": uid},
        "status": {
            "conditions": [{"type": kind, "status": state} for kind, state in known.items()],
            "images": [{"names": [f"r/i@{digest}", "r/i:t"]} for digest in images],
        },
    }


def board(*nodes: dict[str, Any]) -> tuple[NodeBoard, list[NodeRecord]]:
    kept: list[NodeRecord] = []
    return NodeBoard(nodes, {"sha256:1"}, 2, kept.append, lambda: datetime.now(UTC)), kept


def test_each_node_is_kept_once_with_the_images_of_the_run_that_it_lists() -> None:
    nodes, kept = board(node("a", "u", "sha256:1", "sha256:9"), node("b", "v"))
    nodes.handle("ADDED", node("a", "u", "sha256:1"))  # the watch lists it again
    assert [(record.node, record.attempt, record.images) for record in kept] == [
        ("a", 2, ("sha256:1",)),
        ("b", 2, ()),
    ]
    assert nodes.lost() == {}


def test_a_node_that_is_not_ready_is_lost_until_it_is() -> None:
    nodes, kept = board(node())
    nodes.handle("MODIFIED", node(Ready="Unknown"))
    assert "not ready" in nodes.lost()["a"]
    nodes.handle("MODIFIED", node())
    assert nodes.lost() == {}
    assert [record.ready for record in kept] == [True, False, True]


def test_pressure_is_kept_and_loses_nothing() -> None:
    nodes, kept = board(node())
    nodes.handle("MODIFIED", node(DiskPressure="True"))
    assert kept[-1].pressures == ("DiskPressure",)
    assert nodes.lost() == {}


def test_a_node_that_is_deleted_or_replaced_stays_lost() -> None:
    nodes, _ = board(node())
    nodes.handle("DELETED", node())
    assert "deleted" in nodes.lost()["a"]
    nodes.handle("ADDED", node(uid="another"))
    assert "replaced" in nodes.lost()["a"]


def test_nodes_that_are_not_measured_are_passed_over() -> None:
    nodes, kept = board(node())
    nodes.handle("ADDED", node("new"))
    assert len(kept) == 1
    assert nodes.lost() == {}
