"""Which run may use a cluster: every way in which a Lease is free, and those in which it is not."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from experiment import cluster_lease
from experiment.cluster_lease import DURATION_S, ClusterLease, Holder, ensure_namespace
from experiment.errors import MeasureError, OwnershipError
from experiment.run_folder import RunFolder
from schema.names import JOB_NAMESPACE
from tests.experiment.fake_kube import FakeClaims, eventually
from tests.experiment.fakes import FakeClock

MINE = Holder("mine", "/runs/mine", "this", "me@here")
THEIRS = Holder("theirs", "/runs/theirs", "that", "anna@there")


class Clock(FakeClock):
    """The wall clock moves with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        begun = datetime(2026, 11, 24, tzinfo=UTC)
        monkeypatch.setattr(cluster_lease, "now", lambda: begun + timedelta(seconds=self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def kube() -> FakeClaims:
    return FakeClaims()


def lease(kube: FakeClaims, clock: Clock, holder: Holder = MINE) -> ClusterLease:
    return ClusterLease(kube, holder, clock=clock)  # type: ignore[arg-type]


def spec(kube: FakeClaims) -> dict[str, Any]:
    assert kube.held is not None
    return dict(kube.held["spec"])


def test_a_lease_says_who_measures_and_since_when(kube: FakeClaims, clock: Clock) -> None:
    own = lease(kube, clock)
    own.acquire()
    clock.sleep(10)
    own.acquire()
    assert spec(kube) == {
        "holderIdentity": "me@here, run mine",
        "leaseDurationSeconds": DURATION_S,
        "acquireTime": "2026-11-24T00:00:00.000000Z",
        "renewTime": "2026-11-24T00:00:10.000000Z",
        "leaseTransitions": 0,
    }
    own.release()
    assert kube.held is None


def test_a_lease_that_is_renewed_is_refused_by_name(kube: FakeClaims, clock: Clock) -> None:
    lease(kube, clock, THEIRS).acquire()
    clock.sleep(40)
    for begin in (lease(kube, clock).acquire, lease(kube, clock).require_free):
        with pytest.raises(
            OwnershipError, match=r"Another run \(anna@there, run theirs\)"
        ) as caught:
            begin()
        assert "expires in 20 s" in caught.value.fix
    lease(kube, clock).release()
    assert spec(kube)["holderIdentity"] == "anna@there, run theirs"


def test_an_expired_lease_is_taken_over_once_nobody_renews_it(
    kube: FakeClaims, clock: Clock
) -> None:
    lease(kube, clock, THEIRS).acquire()
    clock.sleep(DURATION_S + 1)
    lease(kube, clock).require_free()
    lease(kube, clock).acquire()
    assert spec(kube)["holderIdentity"] == "me@here, run mine"
    assert spec(kube)["leaseTransitions"] == 1
    assert sum(clock.pauses) == DURATION_S + 1 + 25  # it was watched


def test_a_holder_whose_clock_is_behind_keeps_its_lease(kube: FakeClaims, clock: Clock) -> None:
    theirs = lease(kube, clock, THEIRS)
    theirs.acquire()
    assert kube.held is not None
    kube.held["spec"]["renewTime"] = "2026-11-23T23:50:00.000000Z"

    def renew() -> None:
        assert kube.held is not None
        kube.held["metadata"]["resourceVersion"] += "1"

    clock.on_sleep = renew
    with pytest.raises(OwnershipError):
        lease(kube, clock).acquire()


@pytest.mark.parametrize("how", ["same run", "other run, killed", "no holder"])
def test_a_lease_whose_run_has_ended_is_taken_at_once(
    kube: FakeClaims, clock: Clock, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    with RunFolder(folder).lock():
        lease(kube, clock, Holder("killed", str(folder), "this", "me@here")).acquire()
        if how == "other run, killed":
            with pytest.raises(OwnershipError):
                lease(kube, clock).acquire()
        if how == "no holder":
            spec_of = kube.held and kube.held["spec"]
            assert spec_of
            spec_of["holderIdentity"] = ""
            lease(kube, clock).acquire()
        if how == "same run":
            lease(kube, clock, Holder("killed", str(folder), "this", "me@here")).acquire()
    if how == "other run, killed":
        lease(kube, clock).acquire()
    assert clock.pauses == []


def test_a_run_on_another_machine_is_not_taken_for_ended_by_a_folder_of_the_same_path(
    kube: FakeClaims, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / ".lock").touch()
    assert RunFolder(tmp_path).is_idle()
    lease(kube, clock, Holder("theirs", str(tmp_path), "that", "anna@there")).acquire()
    with pytest.raises(OwnershipError):
        lease(kube, clock).acquire()


def test_of_two_that_take_it_at_the_same_time_one_is_refused(
    kube: FakeClaims, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [None]  # it was free when it was read

    def read(*_: str) -> Any:
        return answers.pop() if answers else kube.held

    lease(kube, clock, THEIRS).acquire()
    monkeypatch.setattr(kube, "lease", read)
    with pytest.raises(OwnershipError, match="anna@there"):
        lease(kube, clock).acquire()


def test_a_run_whose_lease_was_taken_measures_no_further(
    kube: FakeClaims, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_lease, "RENEW_S", 0.01)
    own = lease(kube, clock)
    own.acquire()
    own.keep()
    own.check()
    kube.held = None
    lease(kube, clock, THEIRS).acquire()

    def taken() -> bool:
        try:
            own.check()
        except MeasureError as error:
            return "anna@there, run theirs" in error.problem
        return False

    eventually(taken)


def test_closing_waits_for_a_renewal_that_is_under_way(
    kube: FakeClaims, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_lease, "RENEW_S", 0.01)
    begun, closing, done = threading.Event(), threading.Event(), list[str]()

    def replace(_body: Any) -> bool:
        begun.set()
        closing.wait(5)
        threading.Event().wait(0.05)  # the server takes its time
        done.append("renewed")
        return True

    own = lease(kube, clock)
    own.acquire()
    monkeypatch.setattr(kube, "replace_lease", replace)
    own.keep()
    begun.wait(5)
    closing.set()
    own.close()
    assert done[:1] == ["renewed"]


def test_a_namespace_that_is_being_deleted_is_waited_for(kube: FakeClaims, clock: Clock) -> None:
    kube.create_namespace(JOB_NAMESPACE, {})
    kube.namespaces[JOB_NAMESPACE]["status"] = {"phase": "Terminating"}
    with pytest.raises(MeasureError, match="still being deleted after 120 s"):
        ensure_namespace(kube, clock)  # type: ignore[arg-type]
    clock.on_sleep = kube.namespaces.clear
    ensure_namespace(kube, clock)  # type: ignore[arg-type]
    labels = kube.namespaces[JOB_NAMESPACE]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
