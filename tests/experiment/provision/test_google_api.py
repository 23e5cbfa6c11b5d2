from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from experiment.errors import Failure, RunError
from experiment.provision.google_api import GoogleApi
from rehearsal.google.environment import PROJECT
from rehearsal.google.state import Kind
from tests.rehearsal.local_google import Google, lead_to, serving

DENIED = (
    f"Caller does not have required permission to use project {PROJECT}. Grant the caller the "
    "roles/serviceusage.serviceUsageConsumer role"
)


ZONE = "us-central1-a"


class Front:
    """Notes the quota project of each call; answers in Google's place where a status is set."""

    google: Google

    def __init__(self) -> None:
        self.quota_projects: list[str | None] = []
        self.status = 0

    @web.middleware
    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/token":
            self.quota_projects.append(request.headers.get("X-Goog-User-Project"))
            if self.status:
                error = {"code": self.status, "message": DENIED, "status": "PERMISSION_DENIED"}
                return web.json_response({"error": error}, status=self.status)
        return await handler(request)


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    front = Front()
    with serving(middlewares=[front.__call__]) as front.google:
        lead_to(front.google, tmp_path, monkeypatch)
        yield front


def test_every_call_is_charged_to_the_project_whatever_the_login_is(front: Front) -> None:
    api = GoogleApi(PROJECT)
    api.clusters()
    api.test_permissions(["container.clusters.create"])
    assert front.quota_projects == [PROJECT, PROJECT]


def test_a_login_that_may_not_use_the_project_gets_the_commands(front: Front) -> None:
    front.status = 403
    with pytest.raises(RunError) as caught:
        GoogleApi(PROJECT).clusters()
    assert caught.value.failure is Failure.PERMISSION
    assert "--role roles/serviceusage.serviceUsageConsumer" in caught.value.fix
    assert f"gcloud auth application-default set-quota-project {PROJECT}" in caught.value.fix


def test_a_list_that_does_not_exist_is_not_an_empty_one(front: Front) -> None:
    front.status = 404
    with pytest.raises(RunError, match=r"does not know the list projects/.*/clusters") as caught:
        GoogleApi(PROJECT).clusters()
    assert caught.value.failure is Failure.PROVIDER_ERROR


def test_operations_of_a_cluster_are_its_own_and_those_that_run(front: Front) -> None:
    api, google = GoogleApi(PROJECT), front.google
    google.fleet.gate.clear()
    body = {"cluster": {"name": "pull-study-size-4", "initialNodeCount": 1}}
    place = f"container/v1beta1/projects/{PROJECT}/locations/{ZONE}"
    operation = google.ok("POST", f"{place}/clusters", body)
    assert api.running_operations(ZONE, "pull-study-size-4") == ["CREATE_CLUSTER"]
    assert api.running_operations(ZONE, "pull-study-size") == []
    google.fleet.gate.set()
    google.finish(operation)
    assert api.running_operations(ZONE, "pull-study-size-4") == []


def test_dead_man_jobs_of_every_region_are_found(front: Front) -> None:
    link = f"https://container.googleapis.com/v1/projects/{PROJECT}/locations/{ZONE}/clusters"
    for region, name in (("us-central1", "pull-study-a"), ("europe-west4", "other")):
        job = f"projects/{PROJECT}/locations/{region}/jobs/{name}"
        target = {"httpMethod": "DELETE", "uri": f"{link}/pull-study-size-4"}
        content = {"name": job, "schedule": "1 1 1 1 *", "state": "ENABLED", "httpTarget": target}
        front.google.state.put(Kind.SCHEDULER_JOB, job, content)
    found = [(job.name, job.region, job.cluster) for job in GoogleApi(PROJECT).dead_man_jobs()]
    assert found == [
        ("other", "europe-west4", "pull-study-size-4"),
        ("pull-study-a", "us-central1", "pull-study-size-4"),
    ]


def test_zones_that_a_list_of_clusters_lacks_are_known(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = GoogleApi(PROJECT)
    assert (api.clusters(), api.unlisted) == ([], ())
    monkeypatch.setattr(api, "get", lambda *_path: {"missingZones": [ZONE]})
    assert (api.clusters(), api.unlisted) == ([], (ZONE,))
