import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from experiment.measure.pods import PodStates
from tests.experiment.fakes import FakeClock


def pod(index: int = 0, uid: str = "u", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"job-{index}-{uid}",
            "uid": uid,
            "labels": {"batch.kubernetes.io/job-name": "job"},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        },
        "spec": {"nodeName": status.pop("node", "")},
        "status": status,
    }


def waiting(reason: str) -> list[dict[str, Any]]:
    return [{"state": {"waiting": {"reason": reason, "message": "why"}}}]


@pytest.fixture
def states() -> PodStates:
    return PodStates()


def test_waits_until_the_condition_holds(states: PodStates) -> None:
    threading.Timer(0.05, lambda: states.handle("ADDED", pod(phase="Succeeded"))).start()
    found = states.wait("job", lambda pods: bool(pods) and pods[0].over, 5)
    assert found is not None


def test_gives_up_when_time_is_over(states: PodStates) -> None:
    assert states.wait("job", bool, 0.01) is None


def test_time_without_an_api_server_is_not_counted() -> None:
    clock = FakeClock()
    states = PodStates(clock)
    states.break_when(lambda: None, lambda: clock.now - 5 if clock.now > 5 else 0.0)

    def back(_pods: object) -> bool:
        clock.now += 30
        states.handle("MODIFIED", pod(phase="Succeeded"))  # so that the next look is at once
        return clock.now > 300

    assert states.wait("job", back, 60) is not None
    clock.now = 0
    states.break_when(lambda: None)
    assert states.wait("job", back, 60) is None


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_a_waiting_reason_that_waiting_cannot_fix_ends_the_cell(
    states: PodStates, reason: str
) -> None:
    states.handle("ADDED", pod(phase="Pending", containerStatuses=waiting(reason)))
    state = states.pods("job")[0]
    assert state.over
    assert state.failure == f"{reason}: why"


def ended(code: int) -> list[dict[str, Any]]:
    state = {"exitCode": code, "reason": "Completed", "finishedAt": "2026-11-24T12:00:04Z"}
    return [{"state": {"terminated": state}}]


def test_a_view_that_cannot_start_ends_the_cell_of_a_minicluster(states: PodStates) -> None:
    init: dict[str, Any] = {"initContainerStatuses": waiting("ErrImagePull")}
    states.handle("ADDED", pod(phase="Pending", containerStatuses=waiting("PodInitializing")))
    assert not states.pods("job")[0].over
    own = waiting("PodInitializing")
    states.handle("MODIFIED", pod(phase="Pending", containerStatuses=own, **init))
    state = states.pods("job")[0]
    assert (state.over, state.started, state.failure) == (True, False, "ErrImagePull: why")


def test_a_view_that_ended_well_says_nothing_of_the_cell(states: PodStates) -> None:
    own = [{"state": {"running": {"startedAt": "2026-11-24T12:00:04Z"}}}]
    init: dict[str, Any] = {"initContainerStatuses": ended(0)}
    states.handle("ADDED", pod(phase="Running", containerStatuses=own, **init))
    state = states.pods("job")[0]
    assert (state.over, state.started, state.failure) == (False, True, "")


def test_a_pod_whose_container_ended_is_over_before_its_phase_is_set(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Running", containerStatuses=ended(0)))
    state = states.pods("job")[0]
    assert (state.phase, state.over, state.failure) == ("Succeeded", True, "")
    assert state.finished_at == datetime(2026, 11, 24, 12, 0, 4, tzinfo=UTC)


def test_a_container_that_failed_has_its_exit_code(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Running", containerStatuses=ended(3)))
    state = states.pods("job")[0]
    assert (state.phase, state.failure) == ("Failed", "exit code 3: Completed")


def test_container_creating_goes_on(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Pending", containerStatuses=waiting("ContainerCreating")))
    assert not states.pods("job")[0].over


def test_a_failure_stays_when_the_kubelet_tries_again(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Pending", containerStatuses=waiting("ErrImagePull")))
    states.handle("MODIFIED", pod(phase="Pending", containerStatuses=waiting("PodInitializing")))
    assert states.pods("job")[0].failure.startswith("ErrImagePull")


def test_a_replacement_does_not_take_the_place_of_the_lost_pod(states: PodStates) -> None:
    states.handle("ADDED", pod(uid="first", phase="Running", node="n"))
    states.handle("DELETED", pod(uid="first", phase="Running", node="n"))
    states.handle("ADDED", pod(uid="second", phase="Pending"))
    state = states.pods("job")[0]
    assert state.uid == "first"
    assert state.failure.startswith("Deleted")


def test_a_pod_deleted_after_its_end_succeeded(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Succeeded", node="n"))
    states.handle("DELETED", pod(phase="Succeeded", node="n"))
    assert states.pods("job")[0].failure == ""


def test_times_are_of_the_first_sight(states: PodStates) -> None:
    states.handle("ADDED", pod(phase="Pending", node="n"))
    bound = states.pods("job")[0].bound_seen
    states.handle("MODIFIED", pod(phase="Succeeded", node="n"))
    assert bound is not None
    assert states.pods("job")[0].bound_seen == bound


def test_pods_of_others_are_ignored(states: PodStates) -> None:
    other = pod()
    del other["metadata"]["labels"]
    states.handle("ADDED", other)
    assert states.pods("job") == []
