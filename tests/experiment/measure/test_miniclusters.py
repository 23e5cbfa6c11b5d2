from typing import cast

import pytest

from experiment.errors import MeasureError
from experiment.kube import Kube
from experiment.measure.miniclusters import await_operator, warm_view
from experiment.measure.staged_jobs import StagedJobs
from tests.experiment.cells import layered_image
from tests.experiment.conftest import NODES
from tests.experiment.fake_kube import FakeKube
from tests.experiment.fakes import FakeClock

VIEW = layered_image("view", "v")


def ask(kube: FakeKube) -> None:
    await_operator(cast("Kube", kube), VIEW, run_id="run", attempt=1, clock=FakeClock())


def warm(jobs: StagedJobs) -> None:
    warm_view(jobs, VIEW, run_id="run", attempt=1, progress=lambda _pods: None)


def test_an_operator_that_works_is_asked_with_a_minicluster_that_is_deleted(kube: FakeKube) -> None:
    ask(kube)
    assert kube.created == [("MiniCluster", "run-v000-a1")]
    assert (kube.deleted, kube.deleted_kinds) == (["run-v000-a1"], ["MiniCluster"])


def test_an_operator_that_makes_no_job_ends_the_run_before_its_first_trial(kube: FakeKube) -> None:
    kube.has_operator = False
    with pytest.raises(MeasureError, match="made no Job for a MiniCluster within 60 s") as caught:
        ask(kube)
    assert "logs deployment/flux-operator" in caught.value.fix
    assert kube.deleted_kinds == ["MiniCluster"]


def test_a_cluster_without_the_operator_is_refused(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "serves_miniclusters", lambda: False)
    with pytest.raises(MeasureError, match="the Flux Operator is not installed"):
        ask(kube)
    assert kube.created == []


def test_the_view_runs_once_on_every_node(kube: FakeKube, jobs: StagedJobs) -> None:
    warm(jobs)
    assert kube.created == [("Job", "run-v001-a1")]
    assert kube.deleted == ["run-v001-a1"]


def test_a_node_without_the_view_ends_the_run_with_its_reason(
    kube: FakeKube, jobs: StagedJobs
) -> None:
    kube.failing = {1: {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    with pytest.raises(MeasureError, match=f"1 of {len(NODES)} nodes cannot start") as caught:
        warm(jobs)
    assert f"{NODES[1]}: ErrImagePull: not found" in caught.value.problem
