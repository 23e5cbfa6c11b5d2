import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from experiment.collect.ledger import RunHistory, make_ledger
from experiment.collect.merge_events import index_events, merge_events
from schema.names import JOB_NAMESPACE
from schema.run_records import (
    CellRecord,
    EventRecord,
    Layer,
    PlannedImage,
    PlannedTrial,
    Source,
    Status,
    TrialPod,
    TrialRecord,
)
from tests.experiment.cells import planned

START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
NODES = ("node-a", "node-b", "node-c", "node-d")
TAG = "9-layers-size-48702097-bytes"


def event_name(base: str, at: datetime) -> str:
    return f"{base}.{int(at.timestamp() * 1e9):016x}"


class Story:
    """One trial on four nodes, told as the records that a run would hold."""

    def __init__(self) -> None:
        image = PlannedImage(
            repository="ghcr.io/owner/images",
            tag=TAG,
            digest="sha256:" + "a" * 64,
            layers=(
                Layer(digest="sha256:" + "b" * 64, size_bytes=500_000, diff_id="sha256:b"),
                Layer(digest="sha256:" + "c" * 64, size_bytes=500_000, diff_id="sha256:c"),
            ),
        )
        self.planned = PlannedTrial(trial=1, repetition=1, image=image, warm_bytes=0)
        self.pods = [
            TrialPod(
                index=index,
                node=node,
                pod=f"pod-{index}",
                uid=f"uid-{index}",
                phase="Succeeded",
                finished_at=START + timedelta(seconds=4),
            )
            for index, node in enumerate(NODES)
        ]
        self.cluster = ""
        self.numbers = itertools.count()
        self.events: list[EventRecord] = []
        for pod in self.pods:
            self.pull(pod)

    def pull(self, pod: TrialPod, seconds: float = 1.5) -> None:
        ms = int(seconds * 1000)
        text = f"{seconds:g}s" if ms >= 1000 else f"{ms}ms"
        self.add(pod, "Scheduled", 0.1, f"Successfully assigned {pod.pod} to {pod.node}", "")
        self.add(pod, "Pulling", 0.2, f'Pulling image "{self.reference}"')
        self.add(
            pod,
            "Pulled",
            0.2 + seconds,
            f'Successfully pulled image "{self.reference}" in {text} ({text} including waiting). '
            "Image size: 1000000 bytes.",
        )
        self.add(pod, "Created", 0.3 + seconds, "Created container: pull")
        self.add(pod, "Started", 0.4 + seconds, "Started container pull")

    def add(
        self,
        pod: TrialPod,
        reason: str,
        after_s: float,
        message: str,
        host: str | None = None,
        *,
        container: str = "",
    ) -> None:
        at = START + timedelta(seconds=after_s)
        involved = {"kind": "Pod", "namespace": JOB_NAMESPACE, "name": pod.pod, "uid": pod.uid}
        self.event(
            involved | ({"fieldPath": container} if container else {}),
            reason,
            at,
            message,
            pod.node if host is None else host,
        )

    def event(
        self, involved: dict[str, str], reason: str, at: datetime, message: str, host: str
    ) -> None:
        event: dict[str, Any] = {
            "metadata": {
                "name": event_name(involved["name"], at),
                "namespace": JOB_NAMESPACE,
                "uid": f"event-{next(self.numbers)}",
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": host},
            "firstTimestamp": at.isoformat(timespec="seconds"),
            "lastTimestamp": at.isoformat(timespec="seconds"),
            "count": 1,
        }
        self.events.append(EventRecord(source=Source.WATCH, received_at=at, event=event))

    def of(self, index: int, reason: str) -> EventRecord:
        return next(
            record
            for record in self.events
            if record.event["involvedObject"]["uid"] == f"uid-{index}"
            and record.event["reason"] == reason
        )

    def drop(self, index: int, reason: str) -> None:
        self.events.remove(self.of(index, reason))

    def change_pod(self, index: int, **changes: Any) -> None:
        self.pods[index] = self.pods[index].model_copy(update=changes)

    def node_event(
        self, reason: str, after_s: float, message: str = "", node: str = "node-a"
    ) -> None:
        involved = {"kind": "Node", "name": node, "uid": node}
        self.event(involved, reason, START + timedelta(seconds=after_s), message, node)

    def judge(
        self,
        history: RunHistory | None = None,
        *,
        events: Iterable[EventRecord] | None = None,
        trial: TrialRecord | None = None,
        plan: Sequence[PlannedTrial] = (),
    ) -> list[CellRecord]:
        """The trial's cells; by default with its own events and no other trials in the plan."""
        trials = [trial or self.trial]
        merged = merge_events(self.events if events is None else events)
        index = index_events(merged, trials)
        return make_ledger("run", [self.planned, *plan], trials, index, NODES, history=history)

    def statuses(self, history: RunHistory | None = None) -> list[Status]:
        return [cell.status for cell in self.judge(history)]

    @property
    def reference(self) -> str:
        return self.planned.image.reference

    @property
    def trial(self) -> TrialRecord:
        return TrialRecord(
            trial=1,
            repetition=1,
            reference=self.reference,
            job="run-t001-a1",
            namespace=JOB_NAMESPACE,
            pods=tuple(self.pods),
            staged_at=START - timedelta(seconds=5),
            released_at=START,
            first_bound_at=START + timedelta(seconds=0.1),
            all_bound_at=START + timedelta(seconds=0.2),
            last_finished_at=START + timedelta(seconds=5),
            cluster=self.cluster,
        )


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def two_planned_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a project in which every study has two trials, without a registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.delenv("PULL_STUDY_REHEARSAL", raising=False)
    trials = (planned(1), planned(2))
    monkeypatch.setattr("experiment.plan.open_run.resolve_trials", lambda _study, _seed: trials)
