from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from experiment.errors import MeasureError
from experiment.kube import Obj
from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.image_removal import Remover
from experiment.measure.pods import PodBoard
from experiment.measure.trial import TrialRunner
from schema.run_records import PlannedImage
from tests.experiment.conftest import NODES, Story


class Cluster:
    """Makes a Job's pods, binds each where its patch says, and ends it: a cluster, very fast."""

    def __init__(self, board: PodBoard, message: str = "") -> None:
        self.board = board
        self.message = message
        self.pods: dict[str, dict[str, Any]] = {}
        self.removed: list[str] = []
        self.missing = 0
        self.astray: dict[int, str] = {}
        self.hanging: set[int] = set()

    def create_job(self, job: Obj) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        for index in range(job["spec"]["completions"] - self.missing):
            pod = {
                "metadata": {
                    "name": f"{name}-{index}",
                    "uid": f"{name}-{index}",
                    "labels": {"batch.kubernetes.io/job-name": name},
                    "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
                },
                "spec": dict(template["spec"]),
                "status": {"phase": "Pending"},
            }
            self.pods[pod["metadata"]["name"]] = pod
            self.board.handle("ADDED", pod)

    def patch_pod(self, _namespace: str, name: str, patch: list[Obj]) -> None:
        pod = self.pods[name]
        index = int(name.rpartition("-")[2])
        required = patch[0]["value"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        (node,) = required["nodeSelectorTerms"][0]["matchFields"][0]["values"]
        pod["spec"]["nodeName"] = self.astray.get(index, node)
        self.board.handle("MODIFIED", pod)
        if index in self.hanging:
            return
        ended = {"exitCode": 0, "finishedAt": "2026-11-24T12:00:04Z", "message": self.message}
        pod["status"] = {
            "phase": "Running",
            "containerStatuses": [{"state": {"terminated": ended}}],
        }
        self.board.handle("MODIFIED", pod)

    def delete_job(self, _namespace: str, name: str) -> None:
        self.removed.append(name)
        for pod in self.pods.values():
            if pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == name:
                self.board.handle("DELETED", pod)


def clock() -> datetime:
    return datetime.now(UTC)


class Bed:
    """A trial runner on a cluster, and the nodes that are lost there."""

    def __init__(self) -> None:
        self.board = PodBoard(clock)
        self.cluster = Cluster(self.board)
        self.lost: dict[str, str] = {}
        self.jobs = GatedJobs(self.cluster, self.board, NODES, lambda: self.lost)  # type: ignore[arg-type]
        self.runner = TrialRunner(
            self.jobs, run_id="run", attempt=1, command=("sleep", "1"), now=clock
        )


@pytest.fixture
def bed() -> Iterator[Bed]:
    bed = Bed()
    yield bed
    bed.jobs.close()


def test_a_trial_puts_one_pod_on_every_node_and_records_its_moments(bed: Bed, story: Story) -> None:
    staged = bed.runner.stage(story.planned)
    trial = bed.runner.finish(bed.runner.release(staged), lambda _pods: None)
    assert [pod.node for pod in trial.pods] == list(NODES)
    assert trial.error is None
    moments = (
        trial.staged_at,
        trial.all_created_at,
        trial.released_at,
        trial.first_bound_at,
        trial.all_bound_at,
        trial.last_finished_at,
    )
    known = [moment for moment in moments if moment is not None]
    assert known == sorted(known)
    assert len(known) == len(moments)
    assert {pod.pull_policy for pod in trial.pods} == {"IfNotPresent"}
    assert not bed.runner.remove_if_busy(staged)


def test_a_pod_that_ran_elsewhere_is_told(bed: Bed, story: Story) -> None:
    bed.cluster.astray = {2: "node-a"}
    released = bed.runner.release(bed.runner.stage(story.planned))
    trial = bed.runner.finish(released, lambda _pods: None)
    assert trial.error is not None
    assert "not on its own node" in trial.error


def test_a_lost_node_is_not_waited_for(bed: Bed, story: Story) -> None:
    bed.cluster.hanging = {1}
    bed.lost = {"node-b": "the node is not ready"}
    begun = clock()
    released = bed.runner.release(bed.runner.stage(story.planned))
    trial = bed.runner.finish(released, lambda _pods: None)
    assert clock() - begun < timedelta(seconds=30)
    assert trial.pods[1].failure == "NodeLost: the node is not ready"
    assert trial.error is None


def test_pods_that_may_still_pull_go_before_the_next_turn(bed: Bed, story: Story) -> None:
    bed.cluster.hanging = {3}
    staged = bed.runner.stage(story.planned)
    bed.runner.release(staged)
    assert bed.runner.remove_if_busy(staged)
    assert bed.cluster.removed == [staged.job]


def test_a_trial_stopped_while_its_gates_open_is_known_to_have_begun(
    bed: Bed, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_namespace: str, _name: str, _patch: list[Obj]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bed.cluster, "patch_pod", interrupted)
    staged = bed.runner.stage(story.planned)
    assert bed.runner.report(staged, "before").released_at is None
    with pytest.raises(KeyboardInterrupt):
        bed.runner.release(staged)
    assert bed.runner.report(staged, "interrupted").released_at is not None


def test_pods_that_never_come_to_be_end_the_measurement(
    bed: Bed, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.gated_jobs._CREATE_S", 0.05)
    bed.cluster.missing = 1
    with pytest.raises(MeasureError, match="Only 3 of the 4 pods"):
        bed.runner.release(bed.runner.stage(story.planned))


def test_what_ends_the_watch_ends_the_wait(bed: Bed, story: Story) -> None:
    bed.cluster.hanging = {0}
    released = bed.runner.release(bed.runner.stage(story.planned))
    threading.Timer(0.05, lambda: bed.board.break_when(lambda: MeasureError("gone"))).start()
    with pytest.raises(MeasureError, match="gone"):
        bed.runner.finish(released, lambda _pods: None)


@pytest.mark.parametrize(
    ("message", "absent", "left"),
    [
        ('[{"image":false,"layers":[],"partial":0}]', True, 0),
        ('[{"image":false,"layers":[0],"partial":0}]', True, 500_000),
        ('[{"image":false,"layers":[1],"partial":0}]', False, 500_000),
        ('[{"image":true,"layers":[0,1],"partial":0}]', False, 1_000_000),
        ("", False, 0),
    ],
)
def test_absence_is_what_each_node_says(
    bed: Bed, story: Story, message: str, absent: bool, left: int
) -> None:
    bed.cluster.message = message
    own = story.planned.image
    other = own.model_copy(update={"digest": "sha256:o", "layers": own.layers[:1]})
    tool = PlannedImage(repository="r/busybox", tag="1", digest="sha256:t", layers=())
    remover = Remover(bed.jobs, tool, run_id="run", attempt=1, now=clock)
    records = remover.remove(story.planned, [other], lambda _pods: None)
    assert [record.node for record in records] == list(NODES)
    assert {(record.absent, record.left_bytes) for record in records} == {(absent, left)}
    assert all(record.absent or record.detail for record in records)
    assert bed.cluster.removed == ["run-r001-a1"]
