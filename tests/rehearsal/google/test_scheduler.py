from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.http import GoogleError
from rehearsal.google.scheduler import Clock, Scheduler
from rehearsal.google.state import Kind
from rehearsal.machine import web
from tests.rehearsal.local_google import ZONE, Google

JOBS = "scheduler/v1/projects/p/locations/us-central1/jobs"
EMAIL = "expiry-size-4@p.iam.gserviceaccount.com"


def job(**fields: Any) -> dict[str, Any]:
    target = {
        "uri": "https://container.googleapis.com/v1/projects/p/locations/us-central1-a/clusters/c",
        "httpMethod": "DELETE",
        "oauthToken": {"serviceAccountEmail": EMAIL},
    }
    name = "projects/p/locations/us-central1/jobs/c"
    return {"name": name, "schedule": "5 3 * * *", "timeZone": "Etc/UTC", "httpTarget": target} | (
        fields
    )


@pytest.fixture
def account(google: Google) -> Google:
    """With the account that deletes."""
    google.ok("POST", "iam/v1/projects/p/serviceAccounts", {"accountId": "expiry-size-4"})
    return google


def grant(google: Google, role: str) -> None:
    binding = {"role": role, "members": [f"serviceAccount:{EMAIL}"]}
    google.ok("POST", "crm/v1/projects/p:setIamPolicy", {"policy": {"bindings": [binding]}})


def test_job_is_paused_resumed_changed_and_deleted(account: Google) -> None:
    account.ok("POST", JOBS, job())
    assert account.ok("POST", f"{JOBS}/c:pause", {})["state"] == "PAUSED"
    assert account.ok("POST", f"{JOBS}/c:resume", {})["state"] == "ENABLED"
    assert account.ok("PATCH", f"{JOBS}/c", {"schedule": "6 4 * * *"})["schedule"] == "6 4 * * *"
    account.ok("DELETE", f"{JOBS}/c")
    assert account.error("GET", f"{JOBS}/c")["code"] == 404


def test_wrong_jobs_are_refused(google: Google) -> None:
    assert EMAIL in google.error("POST", JOBS, job())["message"]
    assert "schedule" in google.error("POST", JOBS, job(schedule="", httpTarget={}))["message"]
    google.ok("POST", JOBS, job(httpTarget={}))
    assert google.error("POST", JOBS, job(httpTarget={}))["code"] == 409
    assert google.error("DELETE", f"{JOBS}/none")["code"] == 404


def test_run_deletes_the_cluster_with_the_accounts_rights(account: Google) -> None:
    account.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    account.ok("POST", JOBS, job())
    error = account.error("POST", f"{JOBS}/c:run", {})
    assert error["code"] == 403
    assert "container.clusters.delete" in error["message"]
    grant(account, "roles/container.clusterAdmin")
    assert account.ok("POST", f"{JOBS}/c:run", {})["lastAttemptTime"]
    (operation,) = [
        operation
        for operation in account.state.find(Kind.OPERATION)
        if operation["operationType"] == "DELETE_CLUSTER"
    ]
    account.finish(operation)
    assert account.fleet.clusters == {}
    assert account.error("POST", f"{JOBS}/c:run", {})["code"] == 404


ZONAL = "projects/p/zones/us-central1-a/clusters/c"


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        (f'resource.name == "{ZONAL}"', 404),
        (f'resource.name == "x" || resource.name == "{ZONAL}"', 404),
        ('resource.name == "projects/p/locations/us-central1-a/clusters/c"', 403),
        (f'resource.name == "{ZONAL}2"', 403),
        (f'resource.type == "container.googleapis.com/Cluster" && resource.name != "{ZONAL}"', 403),
        ("resource.name.endsWith('/clusters/c')", 404),
        (f'resource.name == "{ZONAL}" && request.time < timestamp("2099-01-01T00:00:00Z")', 404),
        (f'resource.name == "{ZONAL}" && request.time < timestamp("2020-01-01T00:00:00Z")', 403),
        ('resource.service == "storage.googleapis.com"', 403),
    ],
)
def test_condition_of_the_accounts_grant_decides(
    account: Google, expression: str, code: int
) -> None:
    binding = {
        "role": "roles/container.clusterAdmin",
        "members": [f"serviceAccount:{EMAIL}"],
        "condition": {"title": "one cluster", "expression": expression},
    }
    policy = {"version": 3, "bindings": [binding]}
    account.ok("POST", "crm/v1/projects/p:setIamPolicy", {"policy": policy})
    account.ok("POST", JOBS, job())
    assert account.error("POST", f"{JOBS}/c:run", {})["code"] == code  # 404: there is no cluster


URL = "http://localhost/"
DUE = datetime(2026, 11, 24, 3, 5, 12, tzinfo=UTC)
DEAD_MAN = "5 3 24 11 *"


class Deletions:
    """Records which clusters are to be deleted, and refuses the first `refusals` times."""

    def __init__(self, refusals: int = 0) -> None:
        self.names: list[str] = []
        self.refusals = refusals

    def __call__(self, key: ClusterKey, base_url: str) -> dict[str, Any]:
        self.names.append(key.name)
        if len(self.names) <= self.refusals:
            raise GoogleError(400, "Cluster is running incompatible operation operation-1.")
        return {}


@pytest.fixture
def dead_man(account: Google) -> Google:
    """With a job that is due once, and may do it."""
    grant(account, "roles/container.clusterAdmin")
    retry = {"retryCount": 2, "minBackoffDuration": "60s", "maxBackoffDuration": "600s"}
    account.ok("POST", JOBS, job(schedule=DEAD_MAN, retryConfig=retry))
    return account


def test_job_runs_once_in_the_minute_of_its_schedule(dead_man: Google) -> None:
    deletions = Deletions()
    scheduler = Scheduler(dead_man.state, deletions, URL)
    for seconds in range(-90, 120, 10):
        scheduler.tick(DUE + timedelta(seconds=seconds))
    assert deletions.names == ["c"]
    found = dead_man.ok("GET", f"{JOBS}/c")
    assert found["status"] == {}
    assert found["lastAttemptTime"]


@pytest.mark.parametrize("late", [timedelta(minutes=1), timedelta(hours=9), timedelta(days=3)])
def test_job_whose_minute_was_missed_runs_once_as_soon_as_the_clock_goes_on(
    dead_man: Google, late: timedelta
) -> None:
    deletions = Deletions()
    scheduler = Scheduler(dead_man.state, deletions, URL)
    scheduler.tick(DUE - timedelta(minutes=1))
    assert deletions.names == []
    for seconds in range(90):
        scheduler.tick(DUE + late + timedelta(seconds=seconds))
    assert deletions.names == ["c"]


def test_job_created_again_has_no_retry_of_the_deleted_one(dead_man: Google) -> None:
    deletions = Deletions(refusals=1)
    scheduler = Scheduler(dead_man.state, deletions, URL)
    with web.serving(endpoint.route(lambda _: None) for endpoint in scheduler.routes()) as url:
        scheduler.tick(DUE)
        own = Google(url, dead_man.state, dead_man.fleet, dead_man.logs)
        own.ok("DELETE", f"{JOBS}/c")
        own.ok("POST", JOBS, job(schedule="0 0 1 1 *"))
        scheduler.tick(DUE + timedelta(minutes=5))
        own.session.close()
    assert deletions.names == ["c"]


def test_one_failing_callback_of_the_clock_stops_no_other() -> None:
    def fail(_at: datetime) -> None:
        raise ValueError("a mistake")

    times: list[datetime] = []
    Clock(fail, times.append).tick(DUE)
    assert times == [DUE]


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("* * * * *", True),
        ("5 3 * * *", True),
        ("6 3 24 11 *", False),
        ("5 3 25 11 *", False),
        ("5 3 24 12 *", False),
        ("5 3 * * 2", True),
        ("5 3 * * 3", False),
        ("5 3 1 * 2", True),
        ("5 3-23 24 11 *", True),
        ("5 4-23 24 11 *", False),
        ("*/5 * 24 11 *", True),
        ("*/2 * 24 11 *", False),
        ("0,5 1,3 * * *", True),
        ("0,6 * * * *", False),
        ("1-9/4 3 * * *", True),
        ("5 3 * * 1-5", True),
    ],
)
def test_schedule_is_unix_cron(account: Google, schedule: str, due: bool) -> None:
    grant(account, "roles/container.clusterAdmin")
    account.ok("POST", JOBS, job(schedule=schedule))
    deletions = Deletions()
    Scheduler(account.state, deletions, URL).tick(DUE)  # a Tuesday
    assert deletions.names == ["c"] * due


def test_job_that_failed_is_tried_again_after_a_growing_pause(dead_man: Google) -> None:
    deletions = Deletions(refusals=9)
    scheduler = Scheduler(dead_man.state, deletions, URL)
    tried = []
    for seconds in range(0, 1200, 10):
        before = len(deletions.names)
        scheduler.tick(DUE + timedelta(seconds=seconds))
        tried += [seconds] * (len(deletions.names) - before)
    assert tried == [0, 60, 180]
    status = dead_man.ok("GET", f"{JOBS}/c")["status"]
    assert (status["code"], "incompatible operation" in status["message"]) == (9, True)


def test_the_next_time_of_the_schedule_ends_the_retries_of_the_last(dead_man: Google) -> None:
    dead_man.ok(
        "PATCH",
        f"{JOBS}/c",
        job(schedule="5-7 3 24 11 *", retryConfig={"retryCount": 5, "minBackoffDuration": "90s"}),
    )
    deletions = Deletions(refusals=9)
    scheduler = Scheduler(dead_man.state, deletions, URL)
    tried = []
    for seconds in range(0, 230, 10):
        before = len(deletions.names)
        scheduler.tick(DUE + timedelta(seconds=seconds))
        tried += [seconds] * (len(deletions.names) - before)
    assert tried == [0, 50, 110, 200]


def test_paused_job_and_job_without_rights_delete_nothing(dead_man: Google) -> None:
    deletions = Deletions()
    dead_man.ok("POST", f"{JOBS}/c:pause", {})
    Scheduler(dead_man.state, deletions, URL).tick(DUE)
    assert deletions.names == []
    dead_man.ok("POST", f"{JOBS}/c:resume", {})
    dead_man.ok("POST", "crm/v1/projects/p:setIamPolicy", {"policy": {"bindings": []}})
    Scheduler(dead_man.state, deletions, URL).tick(DUE)
    assert deletions.names == []
    assert dead_man.ok("GET", f"{JOBS}/c")["status"]["code"] == 7


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("schedule", "every 5 minutes", 400),
        ("schedule", "60 * * * *", 400),
        ("schedule", "5 9-3 * * *", 400),
        ("schedule", "*/0 * * * *", 400),
        ("schedule", "5 3 * NOV *", 400),
        ("retryConfig", {"retryCount": 6}, 400),
        ("timeZone", "Europe/Berlin", 501),
    ],
)
def test_schedules_that_are_not_read_are_refused(
    account: Google, field: str, value: object, code: int
) -> None:
    assert account.error("POST", JOBS, job(**{field: value}))["code"] == code
