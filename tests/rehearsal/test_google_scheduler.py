from typing import Any

import pytest

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


def test_job_is_shown_as_made(account: Google) -> None:
    made = account.ok("POST", JOBS, job())
    found = account.ok("GET", f"{JOBS}/c")
    assert found == made
    assert found["httpTarget"] == job()["httpTarget"]
    assert found["state"] == "ENABLED"
    assert "retryConfig" not in found
    assert account.ok("GET", JOBS)["jobs"] == [made]


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


@pytest.mark.parametrize("role", ["roles/container.clusterAdmin", "projects/p/roles/expiry"])
def test_run_deletes_the_cluster_with_the_accounts_rights(account: Google, role: str) -> None:
    account.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    account.ok("POST", JOBS, job())
    error = account.error("POST", f"{JOBS}/c:run", {})
    assert error["code"] == 403
    assert "container.clusters.delete" in error["message"]
    permissions = {"includedPermissions": ["container.clusters.delete"]}
    account.ok("POST", "iam/v1/projects/p/roles", {"roleId": "expiry", "role": permissions})
    grant(account, role)
    assert account.ok("POST", f"{JOBS}/c:run", {})["lastAttemptTime"]
    (operation,) = [
        operation
        for operation in account.ok("GET", f"{ZONE}/operations")["operations"]
        if operation["operationType"] == "DELETE_CLUSTER"
    ]
    account.finish(operation)
    assert account.fleet.clusters == {}
    assert account.error("POST", f"{JOBS}/c:run", {})["code"] == 404
