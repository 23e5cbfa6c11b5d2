from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.kubernetes import ClusterError, Object
from rehearsal.faults.trials import Moment, StudyPods
from tests.until import until


class Cluster(ClusterAdmin):
    """A cluster whose pods change as given, and whose watch then fails."""

    def __init__(self, changes: list[tuple[str, Object]]) -> None:
        self.given = changes
        self.error: Exception = ClusterError("gone")

    def changes(self, path: str) -> Iterator[tuple[str, Object]]:
        assert path == "/api/v1/namespaces/pull-study/pods"
        given, self.given = self.given, []
        yield from given
        raise self.error


def pod(
    trial: int,
    index: int = 0,
    *,
    node: str = "",
    phase: str = "Pending",
) -> Object:
    spec: dict[str, Any] = {"containers": [{"image": f"ghcr.io/o/i:t@sha256:{trial}"}]}
    if node:
        spec["nodeName"] = node
    labels = {"batch.kubernetes.io/job-name": f"job-{trial}", "pull-study/trial": str(trial)}
    return {
        "metadata": {"name": f"pod-{trial}-{index}", "labels": labels},
        "spec": spec,
        "status": {"phase": phase},
    }


@pytest.fixture
def moments() -> list[tuple[Moment, int]]:
    return []


@pytest.fixture
def study(moments: list[tuple[Moment, int]]) -> StudyPods:
    return StudyPods(Cluster([]), lambda *moment: moments.append(moment), lambda _: None)


def test_each_moment_of_a_trial_is_reported_once(
    study: StudyPods, moments: list[tuple[Moment, int]]
) -> None:
    for index in (0, 1):
        study.handle("ADDED", pod(1, index))
    for index in (0, 1):
        study.handle("MODIFIED", pod(1, index, node=f"n-{index}"))
    assert moments == [(Moment.STAGED, 1), (Moment.RELEASED, 1)]


def test_the_trial_that_is_on_is_the_first_that_is_not_over(study: StudyPods) -> None:
    seen = [study.trial]
    for change in (
        pod(1),
        pod(1, node="n-1"),
        pod(2),
        pod(1, node="n-1", phase="Succeeded"),
        pod(2, node="n-1"),
        pod(2, node="n-1", phase="Failed"),
    ):
        study.handle("MODIFIED", change)
        seen.append(study.trial)
    assert seen == [0, 1, 1, 1, 2, 2, 0]


def test_a_pod_is_over_once_its_container_has_ended(study: StudyPods) -> None:
    ended = pod(1, node="n-1", phase="Running")
    ended["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": 0}}}]
    study.handle("MODIFIED", pod(1, node="n-1", phase="Running"))
    assert study.trial == 1
    study.handle("MODIFIED", ended)
    assert study.trial == 0


def test_a_trial_that_never_ends_is_over_once_a_later_one_is_released(study: StudyPods) -> None:
    study.handle("ADDED", pod(1, node="n-1"))
    study.handle("ADDED", pod(2, node="n-1"))
    assert study.trial == 2


def test_pods_of_no_trial_are_passed_over(study: StudyPods, moments: list[Any]) -> None:
    study.handle("ADDED", {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {}})
    assert (moments, study.trial) == ([], 0)


@pytest.mark.parametrize(
    "error", [ClusterError("gone"), json.JSONDecodeError("no JSON", "", 0), KeyError("type")]
)
def test_the_watch_goes_on_after_an_error(error: Exception) -> None:
    moments: list[tuple[Moment, int]] = []
    reports: list[str] = []
    cluster = Cluster([("ADDED", pod(1))])
    cluster.error = error
    study = StudyPods(cluster, lambda *moment: moments.append(moment), reports.append)
    study.start()
    until(lambda: moments)
    cluster.given = [("MODIFIED", pod(1, node="n-1"))]
    until(lambda: len(moments) == 2)
    study.stop()
    assert moments == [(Moment.STAGED, 1), (Moment.RELEASED, 1)]
    assert bool(reports) != isinstance(error, ClusterError)
