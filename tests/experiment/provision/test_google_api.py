"""What the client of Google's APIs reads of lists, from a local Google."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiment.provision.google_api import GoogleApi
from rehearsal.google.environment import PROJECT, google_variables
from rehearsal.google.state import Kind
from rehearsal.machine.home import Home
from tests.rehearsal.local_google import Google, serving

ZONE = "us-central1-a"


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with serving() as google:
        (tmp_path / "home").mkdir()
        variables = google_variables(Home(tmp_path / "home"), url=google.url, logging="127.0.0.1:1")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield google


def test_operations_of_a_cluster_are_its_own_and_those_that_run(google: Google) -> None:
    api = GoogleApi(PROJECT)
    google.fleet.gate.clear()
    body = {"cluster": {"name": "pull-study-size-4", "initialNodeCount": 1}}
    place = f"container/v1beta1/projects/{PROJECT}/locations/{ZONE}"
    operation = google.ok("POST", f"{place}/clusters", body)
    assert api.running_operations(ZONE, "pull-study-size-4") == ["CREATE_CLUSTER"]
    assert api.running_operations(ZONE, "pull-study-size") == []
    google.fleet.gate.set()
    google.finish(operation)
    assert api.running_operations(ZONE, "pull-study-size-4") == []


def test_dead_man_jobs_of_every_region_are_found(google: Google) -> None:
    link = f"https://container.googleapis.com/v1/projects/{PROJECT}/locations/{ZONE}/clusters"
    for region, name in (("us-central1", "pull-study-a"), ("europe-west4", "other")):
        job = f"projects/{PROJECT}/locations/{region}/jobs/{name}"
        target = {"httpMethod": "DELETE", "uri": f"{link}/pull-study-size-4"}
        content = {"name": job, "schedule": "1 1 1 1 *", "state": "ENABLED", "httpTarget": target}
        google.state.put(Kind.SCHEDULER_JOB, job, content)
    found = [(job.name, job.region, job.cluster) for job in GoogleApi(PROJECT).dead_man_jobs()]
    assert found == [
        ("other", "europe-west4", "pull-study-size-4"),
        ("pull-study-a", "us-central1", "pull-study-size-4"),
    ]
