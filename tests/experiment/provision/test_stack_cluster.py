"""What a stack's cluster does about what GKE and Pulumi answer; real ones are in tests/live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from experiment.errors import (
    Failure,
    OwnershipError,
    PreflightError,
    ProvisionError,
    RunError,
    TeardownError,
)
from experiment.provision.cluster_state import ClusterState, read_cluster
from experiment.provision.google_api import GoogleApi
from experiment.provision.pulumi_stack import Change, StudyStack
from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_files import copy_stack_files
from experiment.provision.stack_settings import stack_facts
from experiment.provision.state_repair import Resource
from schema.errors import ExitCode
from schema.stack_outputs import StackOutputs
from tests.experiment.fakes import OUTPUTS, FakeClock

PLACE = "us-central1-a"
OURS = {"project": "pull-study", "stack": "size-4"}
HEALTHY = read_cluster(
    {
        "name": "pull-study-size-4",
        "location": PLACE,
        "status": "RUNNING",
        "resourceLabels": OURS,
        "nodePools": [{"name": "measured", "status": "RUNNING", "initialNodeCount": 4}],
    }
)
MADE = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = replace(HEALTHY, status="RECONCILING")
STOCK_OUT = "[ZONE_RESOURCE_POOL_EXHAUSTED]: The zone does not have enough resources available"
IN_PROGRESS = RunError("Cluster is running incompatible operation.", failure=Failure.PROVIDER_ERROR)


def with_pool(status: str, detail: str = "", name: str = "measured") -> ClusterState:
    pool = replace(HEALTHY.pools[0], name=name, status=status, detail=detail)
    return replace(HEALTHY, pools=(pool,))


class FakeApi:
    """GKE: a cluster in each location, and what changes about it as the clock goes on."""

    project = "my-project"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.there: dict[str, ClusterState] = {}
        self.operations: list[str] = []
        self.at: dict[float, Callable[[], None]] = {}
        """What happens at a second of the clock."""
        self.error: RunError | None = None
        self.refusal: RunError | None = None
        """Of deletions."""
        self.deleted: list[str] = []

    def _look(self) -> None:
        for second in [due for due in self.at if due <= self.clock.now]:
            self.at.pop(second)()
        if self.error:
            raise self.error

    def find(self, location: str, name: str) -> ClusterState | None:
        self._look()
        return self.there.get(location)

    def clusters(self) -> list[ClusterState]:
        self._look()
        return list(self.there.values())

    def running_operations(self, location: str, name: str) -> list[str]:
        return self.operations

    def begin_deletion(self, location: str, name: str) -> None:
        if self.refusal:
            raise self.refusal
        self.deleted.append(self.there.pop(location).location)

    def await_deletion(self, location: str, name: str, clock: FakeClock) -> None:
        assert location not in self.there


class FakeStack:
    """Pulumi: what is set to go wrong goes wrong, each time once."""

    def __init__(self, api: FakeApi, place: Callable[[], str]) -> None:
        self.api = api
        self.place = place
        """The program's present location."""
        self.location = PLACE
        """Where the state has it."""
        self.without_room: dict[str, str] = {}
        """What GKE says of the pool, by zone."""
        self.failures: list[RunError] = []
        """Of the next operations."""
        self.makes = HEALTHY
        self.known = False
        self.met_conflict = self.met_new_account = False
        self.missing: list[str] = []
        """Types that the program declares and the state lacks."""
        self.done: list[str] = []
        self.on_destroy: Callable[[], None] = lambda: None

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what == "destroy":
            self.on_destroy()
        if self.failures:
            raise self.failures.pop(0)

    def up(self) -> StackOutputs:
        self.known, self.location = True, self.place()
        self.api.there[self.location] = replace(self.makes, location=self.location)
        self._do("up")
        if why := self.without_room.get(self.location):
            self.api.there[self.location] = replace(with_pool("ERROR", why), location=self.location)
            raise provider_error("created in the error state")
        return OUTPUTS.model_copy(update={"location": self.location})

    def destroy(self) -> None:
        self._do("destroy")
        self.api.there.pop(self.location, None)
        self.known = False

    def adopt(self) -> list[str]:
        self.done.append("adopt")
        self.known = self.place() in self.api.there
        self.location = self.place()
        return ["urn"]

    def recover(self) -> bool:
        return False

    def knows_cluster(self) -> bool:
        return self.known

    is_up = knows_cluster

    def outputs(self) -> StackOutputs | None:
        return OUTPUTS if self.known else None

    def changes(self) -> list[Change]:
        return [Change("create", Resource(kind, kind, {}), ()) for kind in self.missing]


class Rig:
    """A cluster with its fakes."""

    def __init__(self, work_dir: Path) -> None:
        copy_stack_files("size-4", work_dir)
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        self.said: list[str] = []
        self.work_dir = work_dir
        self.cluster = StackCluster("size-4", work_dir, say=self.said.append, clock=self.clock)
        self.stack = FakeStack(self.api, lambda: self.cluster.facts.location)
        self.cluster.api = cast("GoogleApi", self.api)
        self.cluster.stack = cast("StudyStack", self.stack)

    def up(self, state: ClusterState = HEALTHY) -> None:
        """The cluster is there, by GKE and by the state."""
        self.api.there[PLACE] = state
        self.stack.known = True

    def becomes(self, second: float, state: ClusterState, *operations: str) -> None:
        def change() -> None:
            self.api.there[PLACE], self.api.operations = state, list(operations)

        self.api.at[second] = change


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    return Rig(tmp_path)


def provider_error(text: str = "connection refused") -> ProvisionError:
    return ProvisionError(text, failure=Failure.PROVIDER_ERROR)


# A cluster that is used again lives long enough.


@pytest.mark.parametrize(("left_hours", "moves"), [(1, True), (5, False)])
def test_a_resumed_run_moves_a_deadline_that_is_too_near(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, left_hours: int, moves: bool
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=left_hours)
    outputs = OUTPUTS.model_copy(update={"expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
    monkeypatch.setattr(rig.stack, "outputs", lambda: outputs)
    rig.up()
    rig.cluster.least_hours = 3
    rig.cluster.recover(resumed=True)
    later = datetime.now(UTC) + timedelta(hours=3)
    expected = f"at {later:%Y-%m-%dT%H:%MZ}" if moves else "after 12 hours"
    assert stack_facts("size-4", rig.cluster.work_dir).deadline == expected


# Busy is not broken.


@pytest.mark.parametrize(
    ("state", "healthy", "changing", "broken"),
    [
        (HEALTHY, True, False, False),
        (BUSY, False, True, False),
        (replace(HEALTHY, status="PROVISIONING"), False, True, False),
        (with_pool("PROVISIONING"), False, True, False),
        (with_pool("STOPPING"), False, True, False),
        (replace(HEALTHY, status="ERROR"), False, False, True),
        (replace(HEALTHY, status="DEGRADED"), False, False, True),
        (replace(HEALTHY, status="STOPPING"), False, False, True),
        (with_pool("ERROR"), False, False, True),
        (with_pool("RUNNING_WITH_ERROR"), False, False, True),
        (with_pool("RUNNING", name="default-pool"), False, False, False),
    ],
)
def test_what_a_status_means(
    state: ClusterState, healthy: bool, changing: bool, broken: bool
) -> None:
    assert (state.healthy, state.changing, state.broken) == (healthy, changing, broken)


def test_conditions_say_why_a_pool_is_in_error() -> None:
    pool = {
        "name": "measured",
        "status": "ERROR",
        "conditions": [{"code": "GCE_STOCKOUT", "message": "no room"}],
    }
    found = read_cluster({"name": "c", "location": PLACE, "status": "RUNNING", "nodePools": [pool]})
    assert found.why_unhealthy == "RUNNING, with node pools measured ERROR (GCE_STOCKOUT: no room)"


def test_a_cluster_whose_control_plane_is_resized_after_up_is_waited_for(rig: Rig) -> None:
    rig.stack.makes = BUSY
    rig.api.operations = ["UPGRADE_MASTER"]
    rig.becomes(300, HEALTHY, "UPGRADE_MASTER")
    rig.becomes(400, HEALTHY)
    rig.cluster.provision()
    assert 400 <= rig.clock.now < 440
    assert rig.said[:2] == [
        f"waiting until GKE is done, up to 20 min: the cluster pull-study-size-4 is {status}, with "
        "UPGRADE_MASTER running"
        for status in ("RECONCILING", "RUNNING")
    ]


def test_a_busy_cluster_is_kept_by_a_resume(rig: Rig) -> None:
    rig.up(BUSY)
    rig.becomes(200, HEALTHY)
    rig.cluster.recover(resumed=True)
    assert rig.cluster.exists
    assert not rig.cluster.fresh
    assert rig.stack.done == []


def test_a_cluster_that_stays_busy_is_neither_used_nor_deleted(rig: Rig) -> None:
    rig.up(BUSY)
    with pytest.raises(PreflightError, match="still working on the cluster"):
        rig.cluster.repair()
    assert rig.clock.now == pytest.approx(1200)
    assert rig.stack.done == []


def test_a_broken_cluster_is_not_waited_for(rig: Rig) -> None:
    rig.up(with_pool("ERROR", STOCK_OUT))
    rig.api.operations = ["UPGRADE_MASTER"]
    assert rig.cluster.repair() is Presence.PARTS
    assert rig.clock.now == 0


def test_a_creation_that_a_killed_command_left_is_judged_at_its_end(rig: Rig) -> None:
    rig.up(replace(HEALTHY, status="PROVISIONING"))
    rig.stack.missing = ["gcp:container/nodePool:NodePool"]
    rig.becomes(100, HEALTHY)
    assert rig.cluster.repair() is Presence.PARTS


def test_google_that_does_not_answer_for_minutes_is_waited_for(rig: Rig) -> None:
    rig.up(replace(HEALTHY, created_at=MADE))
    rig.api.error = RunError("Google did not answer.", failure=Failure.PROVIDER_ERROR)
    rig.api.at[120] = lambda: setattr(rig.api, "error", None)
    assert rig.cluster.repair() is Presence.WHOLE
    assert rig.cluster.created_at == MADE
    rig.api.error = RunError("No permission.", failure=Failure.PERMISSION)
    with pytest.raises(RunError, match="No permission"):
        rig.cluster.repair()


# A failed `up`.


def test_nodes_out_of_stock_have_that_name_whatever_the_provider_says(rig: Rig) -> None:
    rig.stack.makes = with_pool("ERROR", STOCK_OUT)
    rig.stack.failures = [
        provider_error('NodePool measured was created in the error state "ERROR"')
    ]
    with pytest.raises(ProvisionError) as caught:
        rig.cluster.provision()
    assert caught.value.exit_code is ExitCode.NO_CAPACITY
    assert "--zone ZONE" in caught.value.fix
    assert rig.stack.done == ["up"]


def test_a_range_of_addresses_that_is_full_has_the_fix_of_its_own(rig: Rig) -> None:
    rig.stack.makes = with_pool("ERROR", "IP_SPACE_EXHAUSTED: IP space of 'pods' is exhausted")
    rig.stack.failures = [
        provider_error('NodePool measured was created in the error state "ERROR"')
    ]
    with pytest.raises(ProvisionError) as caught:
        rig.cluster.provision()
    assert "podRangePrefix NUMBER --stack size-4" in caught.value.fix


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (with_pool("ERROR", STOCK_OUT), ExitCode.NO_CAPACITY),
        (replace(HEALTHY, status="DEGRADED"), ExitCode.PROVIDER_ERROR),
        (with_pool("RUNNING", name="default-pool"), ExitCode.PROVIDER_ERROR),
    ],
)
def test_a_cluster_that_pulumi_reports_up_and_gke_does_not_is_refused(
    rig: Rig, state: ClusterState, code: ExitCode
) -> None:
    rig.stack.makes = state
    with pytest.raises(ProvisionError, match="Pulumi reports the stack size-4 up; GKE") as caught:
        rig.cluster.provision()
    assert caught.value.exit_code is code
    assert rig.cluster.exists


@pytest.mark.parametrize("flag", ["met_conflict", "met_new_account"])
def test_a_conflict_and_an_account_that_is_not_known_yet_are_met_with_one_more_up(
    rig: Rig, flag: str
) -> None:
    setattr(rig.stack, flag, True)
    rig.stack.failures = [provider_error()]
    rig.cluster.provision()
    assert rig.stack.done.count("up") == 2
    assert rig.clock.now == (30 if flag == "met_new_account" else 0)


def test_an_api_server_that_is_away_during_a_resize_is_met_with_one_more_up(rig: Rig) -> None:
    rig.stack.makes = BUSY
    rig.stack.failures = [provider_error()]

    def done() -> None:
        rig.stack.makes = rig.api.there[PLACE] = HEALTHY

    rig.api.at[150] = done
    rig.cluster.provision()
    assert rig.stack.done == ["up", "up"]


def test_other_failures_are_not_tried_again(rig: Rig) -> None:
    rig.stack.failures = [provider_error("x")]
    with pytest.raises(ProvisionError, match="x"):
        rig.cluster.provision()
    assert rig.stack.done == ["up"]


# Teardown.


def test_a_teardown_is_tried_until_it_succeeds(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [provider_error("no network")] * 4
    rig.cluster.teardown()
    assert not rig.cluster.exists
    assert rig.clock.pauses == [10, 20, 40, 80]
    assert rig.stack.done[1:4] == ["destroy", "adopt", "destroy"], "a second try adopts"
    assert rig.said == ["no network Trying again, for 30 minutes at most."]


def test_after_half_an_hour_gke_deletes_the_cluster_and_the_rest_is_named(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [provider_error("no network.")] * 99
    with pytest.raises(RunError, match="deleted, but Pulumi could not delete the rest") as caught:
        rig.cluster.teardown()
    assert 1800 <= rig.clock.now < 2200
    assert rig.api.deleted == [PLACE]
    assert not rig.cluster.exists
    assert caught.value.exit_code is ExitCode.PROVIDER_ERROR
    assert "destroy --stack size-4" in caught.value.fix


def test_what_cannot_be_deleted_is_named_with_its_cost_and_the_command(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [provider_error("no network.")] * 99
    rig.api.refusal = IN_PROGRESS
    with pytest.raises(TeardownError) as caught:
        rig.cluster.teardown()
    assert rig.cluster.exists
    assert "exists (RUNNING) and costs about 3.37 USD an hour: no network." in caught.value.problem
    assert caught.value.fix.startswith(
        "gcloud container clusters delete pull-study-size-4 --location us-central1-a"
    )


def test_a_missing_permission_is_not_waited_for_but_gke_is_still_asked(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [ProvisionError("no.", failure=Failure.PERMISSION)] * 9
    with pytest.raises(RunError, match="accounts, grants"):
        rig.cluster.teardown()
    assert (rig.clock.now, rig.api.deleted) == (0, [PLACE])


def test_what_is_in_use_by_another_process_is_left_alone(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [OwnershipError("in use")] * 9
    with pytest.raises(OwnershipError):
        rig.cluster.teardown()
    assert (rig.clock.now, rig.api.deleted) == (0, [])


def test_an_error_of_this_program_in_a_teardown_leaves_the_cluster_to_gke(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [cast("Any", ValueError("bug"))] * 99
    with pytest.raises(RunError, match="bug"):
        rig.cluster.teardown()
    assert rig.api.deleted == [PLACE]


def test_whether_a_cluster_is_left_is_unknown_where_google_does_not_answer(rig: Rig) -> None:
    rig.cluster.provision()
    rig.stack.failures = [provider_error("no network.")] * 99
    rig.api.at[100] = lambda: setattr(rig.api, "error", IN_PROGRESS)
    rig.api.refusal = IN_PROGRESS
    with pytest.raises(
        TeardownError, match=r"exists is unknown .* 3\.37 USD an hour while it does"
    ):
        rig.cluster.teardown()


def test_a_resume_is_told_what_is_up(rig: Rig) -> None:
    assert rig.cluster.standing() == ""
    rig.up()
    assert rig.cluster.standing() == (
        "Note: the cluster pull-study-size-4 in us-central1-a exists (RUNNING) and costs about "
        "3.37 USD an hour; to delete it: pull-study destroy --stack size-4"
    )


# Whose cluster it is, and where.


def test_a_cluster_of_another_program_is_left_alone(rig: Rig) -> None:
    rig.up(replace(HEALTHY, labels={}))
    with pytest.raises(OwnershipError, match="but not its labels"):
        rig.cluster.recover(resumed=False)


def test_the_deletion_by_gke_waits_for_its_other_operations(rig: Rig) -> None:
    rig.up()
    rig.api.refusal = IN_PROGRESS
    rig.api.at[60] = lambda: setattr(rig.api, "refusal", None)
    begin = rig.api.begin_deletion

    def asked(location: str, name: str) -> None:
        rig.api._look()
        begin(location, name)

    rig.api.begin_deletion = asked  # type: ignore[method-assign]
    rig.cluster.gke.delete()
    assert rig.api.there == {}


# Zones.

ZONES = ("us-central1-a", "us-central1-b", "us-east1-b", "europe-west4-a")
NO_ROOM = "[ZONE_RESOURCE_POOL_EXHAUSTED]: The zone does not have enough resources available"
REGION_FULL = "The region 'projects/p/regions/us-central1' does not have enough resources available"
REGION_QUOTA = "[GCE_QUOTA_EXCEEDED]: Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1."
PROJECT_QUOTA = "[GCE_QUOTA_EXCEEDED]: Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 12.0 globally."


@pytest.fixture
def zonal(rig: Rig) -> Rig:
    """A rig whose stack may use four zones."""
    rig.cluster._use(ZONES)
    return rig


def test_three_zones_without_room_in_a_row_are_survived(zonal: Rig) -> None:
    zonal.stack.without_room = dict.fromkeys(ZONES[:3], NO_ROOM)
    outputs = zonal.cluster.provision()
    assert outputs.location == "europe-west4-a"
    assert list(zonal.api.there) == ["europe-west4-a"], "nothing is left in the others"
    assert [attempt.zone for attempt in zonal.cluster.zone_attempts] == list(ZONES)
    assert [bool(attempt.problem) for attempt in zonal.cluster.zone_attempts] == [1, 1, 1, 0]
    assert sum(line.startswith("zone us-") and " min: " in line for line in zonal.said) == 3


@pytest.mark.parametrize(
    ("why", "tried"),
    [
        (NO_ROOM, ZONES[:2]),
        (REGION_FULL, (ZONES[0], ZONES[2])),
        (REGION_QUOTA, (ZONES[0], ZONES[2])),
        (PROJECT_QUOTA, ZONES[:1]),
        ("Internal error.", ZONES[:1]),
    ],
)
def test_the_scope_of_an_error_decides_which_zones_are_skipped(
    zonal: Rig, why: str, tried: tuple[str, ...]
) -> None:
    zonal.stack.without_room = {ZONES[0]: why}
    try:
        zonal.cluster.provision()
    except ProvisionError:
        assert zonal.api.there == {}
        assert not zonal.cluster.exists
        assert zonal.cluster.facts.zones == ZONES, "a later attempt starts with the first again"
    assert tuple(attempt.zone for attempt in zonal.cluster.zone_attempts) == tried


def test_where_no_zone_has_room_the_zones_are_named(zonal: Rig) -> None:
    zonal.stack.without_room = dict.fromkeys(ZONES, NO_ROOM)
    with pytest.raises(ProvisionError) as caught:
        zonal.cluster.provision()
    assert caught.value.exit_code is ExitCode.NO_CAPACITY
    assert f"Tried: {', '.join(ZONES)}; nothing is left there." in str(caught.value)


def test_no_other_zone_is_tried_while_something_may_be_left(zonal: Rig) -> None:
    zonal.stack.without_room = {ZONES[0]: NO_ROOM}

    def fail() -> None:
        zonal.stack.failures = [provider_error("no network")] * 99

    zonal.stack.on_destroy = fail
    zonal.api.refusal = IN_PROGRESS
    with pytest.raises(TeardownError):
        zonal.cluster.provision()
    assert [attempt.zone for attempt in zonal.cluster.zone_attempts] == [ZONES[0]]
    assert zonal.cluster.exists


def test_an_account_that_is_left_does_not_keep_the_next_zone_from_being_tried(zonal: Rig) -> None:
    zonal.stack.without_room = {ZONES[0]: NO_ROOM}

    def fail() -> None:
        zonal.stack.failures = [ProvisionError("no.", failure=Failure.PERMISSION)]

    zonal.stack.on_destroy = fail
    assert zonal.cluster.provision().location == ZONES[1]
    assert zonal.api.deleted == [ZONES[0]]


def test_a_resumed_run_stays_in_its_zone(zonal: Rig) -> None:
    zonal.stack.without_room = {ZONES[0]: NO_ROOM}
    zonal.cluster.provision()
    zonal.cluster.teardown()
    again = StackCluster("size-4", zonal.work_dir)
    assert again.facts.zones == (ZONES[1],)
    assert again.description.endswith("in us-central1-b of project my-project")


def test_a_cluster_in_another_zone_is_found_and_deleted_there(rig: Rig) -> None:
    rig.api.there["us-east1-b"] = replace(HEALTHY, location="us-east1-b", zones=("us-east1-b",))
    rig.cluster.teardown()
    assert rig.api.there == {}
    assert "the cluster pull-study-size-4 is in us-east1-b" in rig.said


def test_parts_in_another_zone_are_removed_and_the_run_stays_in_its_own(rig: Rig) -> None:
    broken = replace(with_pool("ERROR"), location="us-east1-b", zones=("us-east1-b",))
    rig.api.there["us-east1-b"] = broken
    rig.cluster.recover(resumed=False)
    assert rig.api.there == {}
    assert rig.cluster.facts.zones == (PLACE,)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_whole_cluster_in_another_zone_is_another_runs(rig: Rig, resumed: bool) -> None:
    rig.stack.known = True
    rig.api.there["us-east1-b"] = replace(HEALTHY, location="us-east1-b", zones=("us-east1-b",))
    with pytest.raises(PreflightError, match="already up in us-east1-b"):
        rig.cluster.recover(resumed=resumed)
    assert not rig.cluster.exists
    assert rig.cluster.facts.zones == (PLACE,)


def test_a_regional_cluster_is_followed_to_the_zone_of_its_nodes(rig: Rig) -> None:
    rig.api.there["us-east1"] = replace(HEALTHY, location="us-east1", zones=("us-east1-c",))
    rig.cluster._follow(rig.cluster.find())
    assert rig.cluster.facts.zones == ("us-east1-c",)
