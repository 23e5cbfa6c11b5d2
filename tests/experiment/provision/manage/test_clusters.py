"""What `list` and `sweep` say and delete; the other commands are in tests/live."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from experiment.errors import Failure, RunError
from experiment.provision.cluster_state import DeadManJob, read_cluster, read_job
from experiment.provision.manage import clusters
from experiment.waiting import Clock
from schema.output import Output

CLUSTER = read_cluster(
    {
        "name": "pull-study-size-4",
        "location": "us-central1-a",
        "status": "RUNNING",
        "createTime": "2026-11-24T12:00:00Z",
        "resourceLabels": {"project": "pull-study", "stack": "size-4"},
        "nodePools": [],
    }
)
JOB = {
    "name": "projects/p/locations/us-central1/jobs/pull-study-size-4",
    "state": "ENABLED",
    "httpTarget": {
        "httpMethod": "DELETE",
        "uri": "https://container.googleapis.com/v1/projects/p/locations/us-central1-a/clusters/"
        "pull-study-size-4",
    },
}
FAILED = {
    "lastAttemptTime": "2026-11-24T23:17:01Z",
    "status": {"code": 7, "message": "Permission denied."},
}


class FakeApi:
    """A project with one cluster and some jobs."""

    project = "p"
    unlisted: tuple[str, ...] = ()

    def __init__(self, *jobs: dict[str, Any]) -> None:
        self.jobs = [job for job in map(read_job, jobs) if job]
        self.there = [CLUSTER]
        self.deleted: list[str] = []
        self.error: RunError | None = None

    def clusters(self) -> list[Any]:
        return self.there

    def dead_man_jobs(self) -> list[DeadManJob]:
        if self.error:
            raise self.error
        return self.jobs

    def begin_deletion(self, location: str, name: str) -> None:
        self.deleted.append(f"{location}/{name}")

    def await_deletion(self, location: str, name: str, clock: Clock) -> None:
        pass

    def delete_job(self, region: str, name: str) -> bool:
        self.deleted.append(f"{region}/{name}")
        return True


def shown(monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> str:
    monkeypatch.setattr(clusters, "GoogleApi", lambda _project: api)
    lines: list[str] = []
    clusters.show_list("p", lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"status": {}}, ""),
        ({"status": {"code": 5, "message": "Not found"}}, ""),
        (FAILED, "its attempt at 2026-11-24T23:17:01Z failed: Permission denied"),
        ({"state": "PAUSED"}, "it is PAUSED"),
    ],
)
def test_the_last_status_of_a_dead_man_job(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], problem: str
) -> None:
    output = shown(monkeypatch, FakeApi(JOB | change))
    line = f"the dead-man job pull-study-size-4 may not delete it: {problem}"
    assert (line in output) == bool(problem)


@pytest.mark.parametrize(
    "other",
    [
        {"httpTarget": {"httpMethod": "POST", "uri": "https://example.com"}},
        {"httpTarget": JOB["httpTarget"] | {"httpMethod": "GET"}},  # type: ignore[operator]
        {"pubsubTarget": {}, "httpTarget": {}},
    ],
)
def test_other_jobs_are_not_dead_men(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    output = shown(monkeypatch, FakeApi(JOB | other))
    assert "it has no dead-man job: Google will not delete it" in output


def test_zones_that_gke_cannot_reach_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(JOB)
    api.there, api.unlisted = [], ("us-central1-a",)
    output = shown(monkeypatch, api)
    assert "GKE cannot reach us-central1-a now; a cluster there is not in this list" in output
    assert "does not exist" not in output


def test_a_job_without_a_cluster_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi(JOB)
    api.there = []
    output = shown(monkeypatch, api)
    assert "has no cluster of this program" in output
    assert (
        "gcloud scheduler jobs delete pull-study-size-4 --location us-central1 --project p"
        in output
    )


def test_jobs_that_cannot_be_read_do_not_hide_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    api.error = RunError("Google refused.", failure=Failure.PERMISSION)
    output = shown(monkeypatch, api)
    assert "The dead-man jobs cannot be read: Google refused." in output
    assert "size-4" in output
    assert "no dead-man job" not in output


def test_the_list_as_rows_has_the_clusters_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = FakeApi()
    monkeypatch.setattr(clusters, "GoogleApi", lambda _project: api)
    said: list[str] = []
    clusters.show_list("p", said.append, Output.JSON, warn=said.append)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["stack"], row["status"], row["expired"]) == ("size-4", "RUNNING", False)
    assert row["notes"] == ["it has no dead-man job: Google will not delete it at its deadline"]
    assert len(said) == 2  # the total, and how to delete one
    api.there = []
    clusters.show_list("p", said.append, Output.CSV, warn=said.append)
    assert capsys.readouterr().out.startswith("stack,cluster,status,")


def test_sweep_deletes_every_job_of_a_cluster_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = JOB | {"name": "projects/p/locations/us-east1/jobs/pull-study-size-4-later"}
    target = {
        "httpMethod": "DELETE",
        "uri": "https://x/locations/us-central1-b/clusters/pull-study-a",
    }
    foreign = JOB | {"name": "projects/p/locations/us-central1/jobs/a", "httpTarget": target}
    api = FakeApi(JOB, second, foreign)
    past = f"{datetime.now(UTC):%Y-%m-%dt%H-%Mz}"
    api.there = [replace(CLUSTER, labels=CLUSTER.labels | {"expires": past})]
    monkeypatch.setattr(clusters, "GoogleApi", lambda _project: api)
    clusters.sweep("p", lambda _line: None, assume_yes=True)
    assert api.deleted == [
        "us-central1-a/pull-study-size-4",
        "us-central1/pull-study-size-4",
        "us-east1/pull-study-size-4-later",
    ]
