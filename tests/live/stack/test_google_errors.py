"""Whatever Google answers, a command ends in a sentence and an exit code; the next one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pulumi
import pytest

import infra.components.cluster
from experiment.errors import Failure, PreflightError, ProvisionError, RunError, TeardownError
from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_files import set_zones
from rehearsal.google.state import Kind
from schema.errors import ExitCode
from tests.live.stack.fast_clock import FastClock
from tests.live.stack.rig import STACK, Rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
full = pytest.mark.full

PERMISSION = 'Required "container.clusters.create" permission(s) for "projects/p".'


@pytest.fixture(autouse=True)
def _nothing_is_left(rig: Rig) -> Iterator[None]:
    yield
    rig.inject()
    rig.cluster().teardown()
    assert rig.resources() == []


@dataclass(frozen=True)
class Case:
    """Google's answer, and what the user sees."""

    fault: str
    failure: Failure
    message: str
    fix: str


# one of each exit code; all messages: tests/experiment/provision/test_provider_messages.py
REFUSED = {
    "quota": Case(
        "google:how=quota", Failure.QUOTA, "the region's quota CPUS is too small", "Quotas"
    ),
    "permission": Case(
        f"google:status=403,reason=forbidden,message={PERMISSION}",
        Failure.PERMISSION,
        "no permission container.clusters.create",
        "role with container.clusters.create",
    ),
    "conflict": Case(
        "google:status=409,count=0",
        Failure.PROVIDER_ERROR,
        "a resource of the same name exists",
        "pull-study recover --stack size-4",
    ),
    "stock-out-of-a-pool": Case(
        "operation:how=failed,type=CREATE_NODE_POOL",
        Failure.NO_CAPACITY,
        "has no such machines",
        "zone ZONE",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_up_ends_in_a_sentence_with_cause_and_fix(rig: Rig, case: Case) -> None:
    rig.inject(case.fault)
    with pytest.raises(ProvisionError) as caught:
        rig.cluster().provision()
    assert caught.value.failure is case.failure
    assert case.message in caught.value.problem
    assert case.fix in caught.value.fix
    assert "\n" not in caught.value.problem


@full
def test_three_zones_without_room_in_a_row_are_survived(rig: Rig) -> None:
    cluster = rig.cluster()
    zones = ("us-central1-a", "us-central1-b", "us-east1-b", "europe-west4-a")
    set_zones(STACK, cluster.work_dir, zones)
    cluster = StackCluster(STACK, cluster.work_dir, clock=FastClock())
    rig.inject("operation:how=failed,type=CREATE_CLUSTER,count=3")
    outputs = cluster.provision()
    assert [attempt.zone for attempt in cluster.zone_attempts] == list(zones)
    assert outputs.zone == "europe-west4-a"
    assert [key.location for key in rig.fleet.clusters] == ["europe-west4-a"]
    jobs = rig.google.state.find(Kind.SCHEDULER_JOB)
    assert {job["name"].split("/")[3] for job in jobs} == {"europe-west4"}
    # A command without the run finds it there; the fixture's teardown too.
    assert rig.cluster().repair() is Presence.WHOLE


@full
def test_a_run_after_a_stock_out_removes_what_is_there_and_starts_again(rig: Rig) -> None:
    rig.inject("operation:how=failed,type=CREATE_NODE_POOL")
    with pytest.raises(ProvisionError):
        rig.cluster().provision()
    again = rig.cluster()
    again.recover(resumed=False)
    assert rig.fleet.clusters == {}
    again.provision()
    assert rig.cluster().repair() is Presence.WHOLE


@pytest.mark.parametrize(
    "fault",
    [
        "google:status=503,count=2",
        pytest.param("google:status=429,count=2,reason=x", marks=full),
    ],
)
def test_a_call_that_google_refuses_for_a_moment_is_retried(rig: Rig, fault: str) -> None:
    rig.inject(fault)
    rig.cluster().provision()


@pytest.mark.parametrize(
    "operation", [pytest.param("CREATE_CLUSTER", marks=full), "CREATE_NODE_POOL"]
)
def test_after_a_stock_out_the_next_up_is_not_believed(rig: Rig, operation: str) -> None:
    """Pulumi's state keeps the broken thing, and its next `up` reports success."""
    rig.inject(f"operation:how=failed,type={operation}")
    with pytest.raises(ProvisionError):
        rig.cluster().provision()
    with pytest.raises(ProvisionError) as caught:
        rig.cluster().provision()
    assert caught.value.exit_code is ExitCode.NO_CAPACITY
    assert "GKE reports the cluster pull-study-size-4" in caught.value.problem
    assert "Traceback" not in caught.value.problem
    if operation == "CREATE_NODE_POOL":
        assert "Pulumi reports the stack size-4 up" in caught.value.problem


def test_an_operation_that_never_ends_ends_the_command_in_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = pulumi.CustomTimeouts(create="3s", update="3s", delete="3s")
    monkeypatch.setattr(infra.components.cluster, "_TIMEOUTS", short)
    rig.inject("operation:how=stuck,s=6")
    cluster = rig.cluster()
    with pytest.raises(ProvisionError) as caught:
        cluster.provision()
    assert caught.value.failure is Failure.PROVIDER_ERROR
    assert "Google did not finish in time" in caught.value.problem
    found = cluster.find()
    assert found is not None
    assert found.status == "PROVISIONING"
    monkeypatch.undo()
    cluster.teardown()
    assert rig.fleet.clusters == {}


@pytest.mark.parametrize(
    "fault",
    ["status=403,reason=forbidden,message=no", pytest.param("status=503,message=x", marks=full)],
)
def test_a_refused_destroy_says_what_the_cluster_costs(rig: Rig, fault: str) -> None:
    rig.cluster().provision()
    rig.inject(f"google:method=DELETE,path=clusters/pull-study-size-4,count=0,{fault}")
    with pytest.raises(TeardownError) as caught:
        rig.cluster().teardown()
    assert "exists (RUNNING) and costs about 3.37 USD an hour" in caught.value.problem
    assert "gcloud container clusters delete pull-study-size-4" in caught.value.fix
    assert caught.value.exit_code is ExitCode.TEARDOWN


def test_a_deletion_that_fails_is_tried_again(rig: Rig) -> None:
    rig.cluster().provision()
    rig.inject("operation:how=failed,type=DELETE_CLUSTER,message=Internal error.")
    rig.cluster().teardown()
    assert rig.resources() == []


@full
def test_an_account_that_cannot_be_deleted_is_not_said_to_cost_money(rig: Rig) -> None:
    rig.cluster().provision()
    account = "serviceAccounts/expiry-size-4@pull-study-rehearsal.iam.gserviceaccount.com"
    rig.inject(f"google:method=DELETE,path={account},status=403,reason=forbidden,count=0")
    with pytest.raises(
        RunError, match="is deleted, but Pulumi could not delete the rest"
    ) as caught:
        rig.cluster().teardown()
    assert rig.fleet.clusters == {}
    assert caught.value.exit_code is ExitCode.PERMISSION


@full
def test_a_cluster_of_this_name_that_is_not_ours_is_left_alone(rig: Rig) -> None:
    clusters = "container/v1beta1/projects/pull-study-rehearsal/locations/us-central1-a/clusters"
    body = {"cluster": {"name": "pull-study-size-4", "initialNodeCount": 1}}
    rig.google.done("POST", clusters, body)
    with pytest.raises(PreflightError, match="but not its labels"):
        rig.cluster().recover(resumed=False)
    with pytest.raises(PreflightError, match="but not its labels"):
        rig.cluster().teardown()
    assert len(rig.resources()) == 1
    rig.google.done("DELETE", f"{clusters}/pull-study-size-4")


@full
def test_an_api_that_is_off_is_named_before_anything_is_made(rig: Rig) -> None:
    services = "serviceusage/v1/projects/pull-study-rehearsal/services"
    rig.google.ok("POST", f"{services}/container.googleapis.com:disable", {})
    try:
        with pytest.raises(RunError) as caught:
            rig.cluster().recover(resumed=False)
        assert caught.value.exit_code is ExitCode.API_OFF
    finally:
        rig.google.ok("POST", f"{services}/container.googleapis.com:enable", {})
