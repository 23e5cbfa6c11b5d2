import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from experiment.errors import MeasureError
from experiment.measure.pods import PodStates
from experiment.measure.staged_jobs import StagedJobs
from experiment.measure.trial import Trial, TrialRunner
from experiment.waiting import now
from schema.run_records import TrialRecord
from tests.experiment.cells import layered_image
from tests.experiment.conftest import NODES, Story
from tests.experiment.fake_kube import PODS, FakeKube


class Rig:
    """A trial on a cluster, and the nodes that are lost there."""

    def __init__(self, story: Story) -> None:
        self.kube, self.states = FakeKube(), PodStates()
        self.kube.handlers[PODS] = self.states.handle
        self.lost: dict[str, str] = {}
        self.jobs = StagedJobs(self.kube, self.states, NODES, lambda: self.lost)  # type: ignore[arg-type]
        self.runner = TrialRunner(
            self.jobs, run_id="run", attempt=2, command=("sleep", "1"), cluster="c", fresh=False
        )
        self.trial = Trial(story.planned)

    def release(self) -> None:
        self.runner.stage(self.trial)
        self.runner.release(self.trial)

    def run(self) -> TrialRecord:
        self.release()
        self.runner.finish(self.trial, lambda _pods: None)
        return self.runner.record(self.trial)


@pytest.fixture
def rig(story: Story) -> Iterator[Rig]:
    rig = Rig(story)
    yield rig
    rig.jobs.close()


def test_when_each_binding_was_accepted_is_recorded(rig: Rig) -> None:
    record = rig.run()
    assert record.released_at
    for pod in record.pods:
        assert pod.bound_at
        assert pod.bound_seen
        assert record.released_at <= pod.bound_at <= pod.bound_seen


def test_a_trial_puts_one_pod_on_every_node_and_records_its_moments(rig: Rig) -> None:
    record = rig.run()
    assert [pod.node for pod in record.pods] == list(NODES)
    assert (record.error, record.cluster, record.fresh, record.attempt) == (None, "c", False, 2)
    moments = [
        record.staged_at,
        record.all_created_at,
        record.released_at,
        record.first_bound_at,
        record.all_bound_at,
        record.last_finished_at,
    ]
    known = [moment for moment in moments if moment is not None]
    assert known == sorted(known)
    assert len(known) == len(moments)
    assert {pod.pull_policy for pod in record.pods} == {"IfNotPresent"}
    assert not rig.runner.delete_if_busy(rig.trial, pytest.fail)


def as_minicluster(rig: Rig) -> Trial:
    view = layered_image("view", "v")
    rig.trial = Trial(rig.trial.planned.model_copy(update={"view": view}))
    return rig.trial


def test_a_minicluster_is_staged_released_and_deleted_as_a_job_is(rig: Rig) -> None:
    name = as_minicluster(rig).job or "run-t001-a2"
    record = rig.run()
    assert rig.kube.created == [("MiniCluster", name)]
    assert [pod.node for pod in record.pods] == list(NODES)
    assert record.error is None
    rig.runner.delete(rig.trial)
    assert (rig.kube.deleted, rig.kube.deleted_kinds) == ([name], ["MiniCluster"])


def test_once_a_pod_of_a_minicluster_fails_the_others_need_only_start(rig: Rig) -> None:
    as_minicluster(rig)
    rig.kube.failing = {1: {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    rig.kube.hanging = {0, 2, 3}
    record = rig.run()
    assert record.error is None
    assert [pod.started for pod in record.pods] == [index != 1 for index in range(len(NODES))]
    assert rig.runner.delete_if_busy(rig.trial, pytest.fail)
    assert rig.kube.deleted_kinds == ["MiniCluster"]


def test_a_trial_is_staged_once(rig: Rig) -> None:
    rig.runner.stage(rig.trial)
    staged_at = rig.trial.staged_at
    rig.runner.stage(rig.trial)
    assert rig.trial.staged_at == staged_at


def test_a_trial_whose_turn_never_came_has_no_moments(rig: Rig) -> None:
    record = rig.runner.record(rig.trial, "the run ended before its turn")
    assert (record.job, record.pods, record.staged_at, record.released_at) == ("", (), None, None)
    assert record.error == "the run ended before its turn"


def test_a_pod_that_ran_elsewhere_is_reported(rig: Rig) -> None:
    rig.kube.astray = {2: "node-a"}
    assert "not on its own node" in (rig.run().error or "")


def test_a_lost_node_is_not_waited_for(rig: Rig) -> None:
    rig.kube.hanging = {1}
    rig.lost = {"node-b": "the node is not ready"}
    started = now()
    record = rig.run()
    assert now() - started < timedelta(seconds=30)
    assert record.pods[1].failure == "NodeLost: the node is not ready"
    assert record.error is None


def test_pods_that_may_still_pull_are_deleted_before_the_next_turn(rig: Rig) -> None:
    rig.kube.hanging = {3}
    rig.release()
    assert rig.runner.delete_if_busy(rig.trial, pytest.fail)
    assert rig.kube.deleted == [rig.trial.job]


def test_pods_that_outlive_their_deletion_are_warned_of(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.trial._DELETE_S", 0.01)
    monkeypatch.setattr(rig.kube, "delete_job", lambda *_: None)
    rig.kube.hanging = {3}
    rig.release()
    warnings: list[str] = []
    rig.runner.delete_if_busy(rig.trial, warnings.append)
    assert "may disturb the next pulls" in warnings[0]


def test_a_trial_stopped_while_its_pods_are_bound_counts_as_released(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rig.kube, "bind_pod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rig.release()
    assert rig.runner.record(rig.trial, "interrupted").released_at is not None


def test_pods_that_are_never_created_end_the_measurement(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiment.measure.staged_jobs._CREATE_S", 0.05)
    rig.kube.missing = 1
    with pytest.raises(MeasureError, match="Only 3 of the 4 pods"):
        rig.release()


def test_what_ends_the_watch_ends_the_wait(rig: Rig) -> None:
    rig.kube.hanging = {0}
    threading.Timer(0.05, lambda: rig.states.break_when(lambda: MeasureError("broken"))).start()
    with pytest.raises(MeasureError, match="broken"):
        rig.run()
