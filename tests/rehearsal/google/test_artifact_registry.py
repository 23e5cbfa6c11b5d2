"""Remote repositories; the exchanges are compared with Google's discovery document."""

from typing import Any

import pytest
import requests

from rehearsal.google.artifact_registry import ArtifactRegistry, Requested
from rehearsal.google.state import GoogleState, Kind
from rehearsal.machine import web
from tests.rehearsal.local_google import Google

REPOSITORIES = "artifacts/v1/projects/project-1/locations/us-central1/repositories"
NAME = "pull-through-s"
FULL = f"projects/project-1/locations/us-central1/repositories/{NAME}"
BODY: dict[str, Any] = {
    "format": "DOCKER",
    "mode": "REMOTE_REPOSITORY",
    "labels": {"stack": "s"},
    "remoteRepositoryConfig": {"commonRepository": {"uri": "https://ghcr.io"}},
}
DIGEST = f"sha256:{'a' * 64}"


def test_a_repository_is_made_changed_listed_and_deleted(google: Google) -> None:
    made = google.ok("POST", REPOSITORIES, BODY, repositoryId=NAME)
    assert made["done"]
    assert made["response"]["registryUri"] == f"us-central1-docker.pkg.dev/project-1/{NAME}"
    changed = google.ok(
        "PATCH", f"{REPOSITORIES}/{NAME}", {"labels": {"stack": "t"}}, updateMask="labels"
    )
    assert changed["labels"] == {"stack": "t"}
    assert [each["name"] for each in google.ok("GET", REPOSITORIES)["repositories"]] == [FULL]
    assert google.ok("GET", f"{REPOSITORIES}/{NAME}/dockerImages") == {"dockerImages": []}
    google.ok("DELETE", f"{REPOSITORIES}/{NAME}")
    assert google.error("GET", f"{REPOSITORIES}/{NAME}/dockerImages")["code"] == 404


def test_wrong_repositories_are_refused(google: Google) -> None:
    google.ok("POST", REPOSITORIES, BODY, repositoryId=NAME)
    assert google.error("POST", REPOSITORIES, BODY, repositoryId=NAME)["code"] == 409
    assert google.error("POST", REPOSITORIES, BODY, repositoryId="Wrong")["code"] == 400
    elsewhere = REPOSITORIES.replace("us-central1", "us-nowhere1")
    assert google.error("POST", elsewhere, BODY, repositoryId=NAME)["code"] == 400
    changes = {"format": "NPM"}
    refused = google.error("PATCH", f"{REPOSITORIES}/{NAME}", changes, updateMask="format")
    assert refused["code"] == 400


@pytest.fixture
def registry() -> ArtifactRegistry:
    state = GoogleState()
    body = {**BODY, "name": FULL, "registryUri": f"us-central1-docker.pkg.dev/project-1/{NAME}"}
    state.put(Kind.REPOSITORY, FULL, body)
    return ArtifactRegistry(state, Requested())


def test_what_nodes_ask_for_is_led_on_and_listed(registry: ArtifactRegistry) -> None:
    with web.serving(registry.image_routes()) as url:

        def location(project: str, path: str) -> str | None:
            answer = requests.get(
                f"{url}/v2/{project}/{NAME}/{path}", allow_redirects=False, timeout=10
            )
            return answer.headers.get("Location")

        assert location("project-1", f"a/b/manifests/{DIGEST}") == f"/v2/a/b/manifests/{DIGEST}"
        assert location("project-1", "a/b/blobs/x") == "/v2/a/b/blobs/x"
        assert location("project-2", f"a/b/manifests/{DIGEST}") is None
    (images,) = (
        endpoint for endpoint in registry.routes() if endpoint.path.endswith("dockerImages")
    )
    call = web.Call(
        "GET", "", {"project": "project-1", "location": "us-central1", "id": NAME}, {}, "", b"",
        "", "",
    )  # fmt: skip
    answer = images.handler(call)
    assert isinstance(answer, dict)
    uri = f"us-central1-docker.pkg.dev/project-1/{NAME}/a/b@{DIGEST}"
    assert [each["uri"] for each in answer["dockerImages"]] == [uri]
    assert registry.hosts("project-1", "us-central1") == ["us-central1-docker.pkg.dev"]
    assert registry.hosts("project-1", "us-east1") == []
