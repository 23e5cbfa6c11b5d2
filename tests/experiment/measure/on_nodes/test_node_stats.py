import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from experiment.errors import MeasureError
from experiment.measure.on_nodes.node_stats import NodeStats, read_summary
from schema.run_records import NodeStatsRecord
from tests.experiment.conftest import NODES, START


def summary(node: str, at: datetime) -> dict[str, Any]:
    stamp = at.isoformat().replace("+00:00", "Z")
    return {
        "node": {
            "nodeName": node,
            "network": {"time": stamp, "rxBytes": 5_000, "txBytes": 50},
            "fs": {"time": stamp, "usedBytes": 700},
            "runtime": {"imageFs": {"usedBytes": 600}},
        },
        "pods": [],
    }


class Kubelets:
    """Answers as kubelets do: with figures that grow old."""

    def __init__(self) -> None:
        self.age = timedelta(0)
        self.asked = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def node_stats(self, node: str) -> dict[str, Any]:
        with self._lock:
            self.asked += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
        if node == "node-d":
            raise MeasureError("The node does not answer.")
        return summary(node, datetime.now(UTC) - self.age)


@pytest.fixture
def kubelets() -> Kubelets:
    return Kubelets()


@pytest.fixture
def kept() -> list[NodeStatsRecord]:
    return []


@pytest.fixture
def stats(kubelets: Kubelets, kept: list[NodeStatsRecord]) -> Iterator[NodeStats]:
    nodes = [*NODES, *(f"node-{number}" for number in range(20))]
    stats = NodeStats(kubelets, nodes, 1, kept.append)  # type: ignore[arg-type]
    yield stats
    stats.close()


def test_a_summary_is_read_with_the_kubelets_own_time() -> None:
    record = read_summary(
        summary("node-a", START), trial=3, attempt=2, moment="after", at=datetime.now(UTC)
    )
    assert (record.at, record.received_bytes, record.sent_bytes) == (START, 5_000, 50)
    assert (record.disk_used_bytes, record.image_disk_used_bytes) == (700, 600)
    assert record.error is None


def test_figures_that_a_kubelet_does_not_report_are_none() -> None:
    record = read_summary(
        {"node": {"nodeName": "node-a"}}, trial=1, attempt=1, moment="before", at=START
    )
    assert (record.at, record.received_bytes, record.image_disk_used_bytes) == (START, None, None)


def test_a_few_nodes_at_a_time_are_queried_and_failures_recorded(
    stats: NodeStats, kubelets: Kubelets, kept: list[NodeStatsRecord]
) -> None:
    stats.before_first(1)
    assert len(kept) == len({record.node for record in kept}) == 24
    assert [record.node for record in kept if record.error] == ["node-d"]
    assert kubelets.most_at_once <= 2


def test_figures_from_before_the_trials_end_are_fetched_again(
    stats: NodeStats,
    kubelets: Kubelets,
    kept: list[NodeStatsRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiment.measure.on_nodes.node_stats._PAUSE_S", 0.01)
    monkeypatch.setattr("experiment.measure.on_nodes.node_stats._REST_S", 0.0)
    kubelets.age = timedelta(seconds=0.2)
    ended_at = datetime.now(UTC)
    stats.after(1, 2, ended_at)
    stats.close()
    assert kubelets.asked > 24
    told = [record for record in kept if not record.error]
    assert all(record.at >= ended_at for record in told)
    assert {(record.trial, record.moment) for record in told} == {(1, "after"), (2, "before")}


def test_closing_again_with_summaries_outstanding_is_quiet(
    stats: NodeStats, kubelets: Kubelets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.on_nodes.node_stats._CLOSE_S", 0.0)
    monkeypatch.setattr("experiment.measure.on_nodes.node_stats._REST_S", 0.0)
    for trial in range(1, 5):
        stats.after(trial, None, datetime.now(UTC))
    stats.close()
    assert kubelets.asked < 4 * 24
    monkeypatch.setattr("experiment.measure.on_nodes.node_stats._CLOSE_S", 1.0)
    stats.close()
