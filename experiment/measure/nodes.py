"""The state of the measured nodes, kept up to date by the watch.

It knows at any time which nodes are lost, and keeps a record of every change. Whether a change
excludes a cell is decided in the ledger.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from experiment.waiting import now
from schema.run_records import NodeRecord

_READY = "Ready"


def read_node(
    node: Mapping[str, Any],
    digests: Collection[str],
    at: datetime,
    *,
    attempt: int = 1,
    deleted: bool = False,
) -> NodeRecord:
    """Read a core/v1 Node.

    Args:
        node: the object.
        digests: of the images whose presence matters.
        at: when it was seen so.
        attempt: of the run.
        deleted: the watch showed its deletion.
    """
    status = node.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    named = [name for image in status.get("images") or [] for name in image.get("names") or []]
    present = {name.rpartition("@")[2] for name in named} & set(digests)
    pressures = sorted(t for t, state in conditions.items() if t != _READY and state == "True")
    return NodeRecord(
        attempt=attempt,
        node=node["metadata"]["name"],
        uid=node["metadata"]["uid"],
        at=at,
        ready=conditions.get(_READY) == "True" and not deleted,
        pressures=tuple(pressures),
        deleted=deleted,
        images=tuple(sorted(present)),
    )


class NodeStates:
    """The measured nodes, for several threads.

    Args:
        nodes: the nodes as they were when the attempt began.
        digests: of the run's images.
        attempt: of the run.
        keep: called with the first record of every node, and one for each change of its condition.
    """

    def __init__(
        self,
        nodes: Collection[Mapping[str, Any]],
        digests: Collection[str],
        attempt: int,
        keep: Callable[[NodeRecord], None],
    ) -> None:
        self._digests = frozenset(digests)
        self._attempt = attempt
        self._keep = keep
        self._lock = threading.Lock()
        self._first = {str(node["metadata"]["name"]): node["metadata"]["uid"] for node in nodes}
        self._last: dict[str, NodeRecord] = {}
        for node in nodes:
            self.handle("ADDED", node)

    def handle(self, change: str, node: Mapping[str, Any]) -> None:
        """Handle one change of the watch; one that changes no condition is ignored."""
        if node["metadata"]["name"] not in self._first:
            return
        record = read_node(
            node,
            self._digests,
            now(),
            attempt=self._attempt,
            deleted=change == "DELETED",
        )
        with self._lock:
            before = self._last.get(record.node)
            if before is not None and _condition(before) == _condition(record):
                return
            self._last[record.node] = record
        self._keep(record)

    def lost(self) -> dict[str, str]:
        """Return {node: reason} of nodes that are not Ready, deleted or replaced."""
        with self._lock:
            states = {name: self._why(record) for name, record in self._last.items()}
        return {name: why for name, why in states.items() if why}

    def _why(self, record: NodeRecord) -> str:
        if record.deleted:
            return "the node was deleted"
        if record.uid != self._first[record.node]:
            return "the node was replaced by another with its name"
        return "" if record.ready else "the node is not ready"


def _condition(record: NodeRecord) -> tuple[object, ...]:
    return (record.uid, record.ready, record.pressures, record.deleted)
