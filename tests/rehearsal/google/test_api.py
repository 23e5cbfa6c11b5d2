import time

import pytest
from google.auth import jwt
from google.auth.crypt import RSASigner
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from rehearsal.google.access.login import Login, login_file
from tests.rehearsal.local_google import LOGIN, ZONE, Google

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


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


@pytest.mark.parametrize("header", ["", "Bearer x", "Bearer ", LOGIN.token])
def test_call_without_the_token_is_refused(google: Google, header: str) -> None:
    google.session.headers["Authorization"] = header
    error = google.error("GET", f"{ZONE}/clusters")
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")


def test_body_that_is_no_json_object_is_refused(google: Google) -> None:
    for data in ("{", "[]", '"text"'):
        response = google.session.post(f"{google.url}/{ZONE}/clusters", data=data, timeout=20)
        assert response.status_code == 400
        assert "Invalid JSON payload" in response.json()["error"]["message"]


def login_with(login: Login, google: Google) -> AuthorizedSession:
    """Google's own library with a service account's key."""
    credentials = service_account.Credentials.from_service_account_info(
        login_file(login, "p", google.url),
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    return AuthorizedSession(credentials)


def test_service_account_of_googles_own_library_gets_in(google: Google) -> None:
    google.done("POST", f"{ZONE}/clusters", {"cluster": {"name": "c", "initialNodeCount": 1}})
    with login_with(LOGIN, google) as session:
        answer = session.get(f"{google.url}/{ZONE}/clusters/c")
    assert answer.json()["status"] == "RUNNING"


def test_what_the_key_of_another_account_signed_is_refused(google: Google) -> None:
    with login_with(Login(), google) as session:
        answer = session.get(f"{google.url}/{ZONE}/clusters/c")
    assert answer.status_code == 401


@pytest.mark.parametrize(("login", "status"), [(LOGIN, 200), (Login(), 400)], ids=["own", "other"])
def test_token_is_given_for_what_the_key_signed(google: Google, login: Login, status: int) -> None:
    signer = RSASigner.from_service_account_info(login_file(login, "p", google.url))
    now = int(time.time())
    claims = {"iss": "runner", "aud": f"{google.url}/token", "iat": now, "exp": now + 60}
    form = {"grant_type": GRANT, "assertion": jwt.encode(signer, claims).decode()}
    answer = google.session.post(f"{google.url}/token", data=form, timeout=20)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["access_token"] == LOGIN.token


def test_token_is_given_for_a_signed_request_alone(google: Google) -> None:
    for form in (
        {"grant_type": "password"},
        {"grant_type": GRANT},
        {"grant_type": GRANT, "assertion": "a.b.c"},
    ):
        response = google.session.post(f"{google.url}/token", data=form, timeout=20)
        assert response.status_code == 400
