"""The kubelets' figures of traffic and disk before and after each trial (stats/summary).

It never delays a trial: summaries are fetched in the background, some a second, once the next
trial's pods are bound, and one that does not come is recorded as missing. A kubelet updates the
figures about every ten seconds, so a summary after a trial is fetched again until its own time is
after the trial's end; that time shows whether the next trial had started by then.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

from experiment.errors import MeasureError
from experiment.kube import Kube
from experiment.waiting import now
from schema.run_records import NodeStatsRecord

_AT_ONCE = 2
_REST_S = 0.03
"""Pause of each thread after a summary: 256 nodes take about six seconds."""
_FRESH_S = 25.0
_PAUSE_S = 2.5
_CLOSE_S = 30.0


def read_summary(
    summary: Mapping[str, Any], *, trial: int, attempt: int, moment: str, at: datetime
) -> NodeStatsRecord:
    """Read a kubelet's stats/summary.

    Args:
        summary: as the kubelet's API gives it (k8s.io/kubelet/pkg/apis/stats/v1alpha1).
        trial: that it is about.
        attempt: of the run.
        moment: `before` or `after`.
        at: when it was fetched, where the kubelet gives no time.
    """
    node = summary["node"]
    network = node.get("network") or {}
    time_text = network.get("time") or (node.get("fs") or {}).get("time")
    return NodeStatsRecord(
        trial=trial,
        attempt=attempt,
        moment=moment,
        node=node["nodeName"],
        at=datetime.fromisoformat(time_text) if time_text else at,
        received_bytes=network.get("rxBytes"),
        sent_bytes=network.get("txBytes"),
        disk_used_bytes=(node.get("fs") or {}).get("usedBytes"),
        image_disk_used_bytes=((node.get("runtime") or {}).get("imageFs") or {}).get("usedBytes"),
    )


class NodeStats:
    """Fetches summaries of the measured nodes in the background.

    Args:
        kube: the cluster.
        nodes: their names.
        attempt: of the run.
        keep: called with each record.
    """

    def __init__(
        self,
        kube: Kube,
        nodes: Sequence[str],
        attempt: int,
        keep: Callable[[NodeStatsRecord], None],
    ) -> None:
        self._kube = kube
        self._nodes = tuple(nodes)
        self._attempt = attempt
        self._keep = keep
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stats")
        self._closing = threading.Event()
        self._pending: list[Future[None]] = []

    def before_first(self, trial: int) -> None:
        """Fetch summaries before the first trial, and wait for them.

        Raises:
            FolderError: a record cannot be written.
        """
        self._submit([(trial, "before")], None)
        self._wait(_CLOSE_S)

    def after(self, ended: int, following: int | None, ended_at: datetime) -> None:
        """Fetch summaries after a trial, which are those before the next one too.

        Args:
            ended: the trial.
            following: the one after it, if there is one.
            ended_at: when it ended: older summaries are fetched again.
        """
        moments = [(ended, "after")] + ([(following, "before")] if following else [])
        self._submit(moments, ended_at)

    def close(self) -> None:
        """Wait for pending requests, 30 s at most, and stop."""
        self._wait(_CLOSE_S)
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, moments: list[tuple[int, str]], since: datetime | None) -> None:
        end = time.monotonic() + _FRESH_S
        self._pending = [future for future in self._pending if not future.done()]
        self._pending += [
            self._pool.submit(self._fetch, node, moments, since, end) for node in self._nodes
        ]

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for future in self._pending:
            if time.monotonic() > end:
                return
            try:
                future.result(max(0.0, end - time.monotonic()))
            except (TimeoutError, CancelledError):  # cancelled by an earlier closing
                return

    def _fetch(
        self, node: str, moments: list[tuple[int, str]], since: datetime | None, end: float
    ) -> None:
        records = self._get(node, moments)
        while since and records[0].at < since and not records[0].error:
            if time.monotonic() > end or self._closing.wait(_PAUSE_S):
                break
            records = self._get(node, moments)
        for record in records:
            self._keep(record)
        if since:
            self._closing.wait(_REST_S)

    def _get(self, node: str, moments: list[tuple[int, str]]) -> list[NodeStatsRecord]:
        at = now()
        try:
            summary = self._kube.node_stats(node)
            return [
                read_summary(summary, trial=trial, attempt=self._attempt, moment=moment, at=at)
                for trial, moment in moments
            ]
        except (MeasureError, KeyError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0]
        return [
            NodeStatsRecord(
                trial=trial, attempt=self._attempt, moment=moment, node=node, at=at, error=why
            )
            for trial, moment in moments
        ]
