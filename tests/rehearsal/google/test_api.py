import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from tests.rehearsal.local_google import ZONE, Google


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "container/v1beta1/projects/p/locations/us-central1-a/serverConfig"),
        (
            "POST",
            "container/v1beta1/projects/p/locations/us-central1-a/clusters/c:setNetworkPolicy",
        ),
        ("DELETE", "compute/beta/projects/p/regions/us-central1"),
        ("GET", "storage/v2/b"),
    ],
)
def test_unknown_call_is_named(google: Google, method: str, path: str) -> None:
    error = google.error(method, path)
    assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")
    assert f"{method} /{path}" in error["message"]


def test_call_without_token_is_refused(google: Google) -> None:
    del google.session.headers["Authorization"]
    error = google.error("GET", f"{ZONE}/clusters")
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")


def test_body_that_is_no_json_object_is_refused(google: Google) -> None:
    for data in ("{", "[]", '"text"'):
        response = google.session.post(f"{google.url}/{ZONE}/clusters", data=data, timeout=20)
        assert response.status_code == 400
        assert "Invalid JSON payload" in response.json()["error"]["message"]


def test_service_account_of_googles_own_library_gets_in(google: Google, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "key.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "runner@p.iam.gserviceaccount.com",
                "token_uri": f"{google.url}/token",
                "private_key": key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode(),
            }
        )
    )
    google.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    credentials = service_account.Credentials.from_service_account_file(
        file, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    with AuthorizedSession(credentials) as session:
        answer = session.get(f"{google.url}/{ZONE}/clusters/c")
    assert answer.json()["status"] == "RUNNING"


def test_token_is_given_for_a_signed_request_alone(google: Google) -> None:
    jwt = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    for form in (
        {"grant_type": "password"},
        {"grant_type": jwt},
        {"grant_type": jwt, "assertion": "a.b.c"},
    ):
        response = google.session.post(f"{google.url}/token", data=form, timeout=20)
        assert response.status_code == 400
