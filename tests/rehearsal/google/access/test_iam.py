from typing import Any, ClassVar

import pytest

from tests.rehearsal.local_google import Google

ACCOUNTS = "iam/v1/projects/p/serviceAccounts"
PROJECT = "crm/v1/projects/p"
EMAIL = "nodes-size-4@p.iam.gserviceaccount.com"


@pytest.fixture
def account(google: Google) -> Google:
    """With one service account."""
    body = {"accountId": "nodes-size-4", "serviceAccount": {"displayName": "Nodes"}}
    google.ok("POST", ACCOUNTS, body)
    return google


class TestServiceAccounts:
    def test_id_that_is_taken_is_refused(self, account: Google) -> None:
        error = account.error("POST", ACCOUNTS, {"accountId": "nodes-size-4"})
        assert (error["code"], error["status"]) == (409, "ALREADY_EXISTS")

    @pytest.mark.parametrize("account_id", ["short", "1nodes", "n" * 31, "Nodes-1", "nodes-"])
    def test_id_of_another_form_is_refused(self, google: Google, account_id: str) -> None:
        assert google.error("POST", ACCOUNTS, {"accountId": account_id})["code"] == 400

    def test_request_without_id_is_refused(self, google: Google) -> None:
        assert "accountId" in google.error("POST", ACCOUNTS, {})["message"]

    def test_masked_fields_change(self, account: Google) -> None:
        body = {"serviceAccount": {"displayName": "New"}, "updateMask": "displayName,description"}
        changed = account.ok("PATCH", f"{ACCOUNTS}/{EMAIL}", body)
        assert (changed["displayName"], changed["description"]) == ("New", "")
        body["updateMask"] = "email"
        assert account.error("PATCH", f"{ACCOUNTS}/{EMAIL}", body)["code"] == 400


class TestProjectPolicy:
    def test_stale_etag_is_refused(self, account: Google) -> None:
        policy = account.ok("POST", f"{PROJECT}:getIamPolicy", {})
        binding = {"role": "roles/viewer", "members": ["user:a@example.org"]}
        account.ok("POST", f"{PROJECT}:setIamPolicy", {"policy": {**policy, "bindings": [binding]}})
        error = account.error("POST", f"{PROJECT}:setIamPolicy", {"policy": policy})
        assert (error["code"], error["status"]) == (409, "ABORTED")
        assert account.ok("POST", f"{PROJECT}:getIamPolicy", {})["bindings"] == [binding]

    @pytest.mark.parametrize(
        ("role", "member"),
        [
            ("viewer", "user:a@example.org"),
            ("roles/viewer", "serviceAccount:nobody-1@p.iam.gserviceaccount.com"),
            ("projects/p/roles/none", "user:a@example.org"),
        ],
    )
    def test_role_or_member_that_is_none_is_refused(
        self, google: Google, role: str, member: str
    ) -> None:
        body = {"policy": {"bindings": [{"role": role, "members": [member]}]}}
        assert google.error("POST", f"{PROJECT}:setIamPolicy", body)["code"] == 400

    def test_projects_are_apart(self, google: Google) -> None:
        binding = {"role": "roles/viewer", "members": ["user:a@example.org"]}
        google.ok("POST", f"{PROJECT}:setIamPolicy", {"policy": {"bindings": [binding]}})
        assert google.ok("POST", "crm/v1/projects/q:getIamPolicy", {})["bindings"] == []


class TestConditions:
    CONDITION: ClassVar = {"title": "one cluster", "expression": 'resource.name == "n"'}
    BINDING: ClassVar = {
        "role": "roles/container.clusterAdmin",
        "members": ["user:a@example.org"],
        "condition": CONDITION,
    }

    def write(self, google: Google, version: int, **fields: Any) -> dict[str, Any]:
        policy = {"version": version, "bindings": [{**self.BINDING, **fields}]}
        return google.ok("POST", f"{PROJECT}:setIamPolicy", {"policy": policy})

    def read(self, google: Google, version: int) -> dict[str, Any]:
        options = {"options": {"requestedPolicyVersion": version}}
        return google.ok("POST", f"{PROJECT}:getIamPolicy", options)

    def test_are_shown_to_requests_of_version_3(self, google: Google) -> None:
        written = self.write(google, 3)
        assert written["version"] == 3
        assert self.read(google, 3) == written
        old = self.read(google, 1)
        assert (old["version"], old["etag"]) == (1, written["etag"])
        (binding,) = old["bindings"]
        assert binding["role"].startswith("roles/container.clusterAdmin_withcond_")
        assert "condition" not in binding

    def test_are_not_lost_by_an_older_write(self, google: Google) -> None:
        etag = self.write(google, 3)["etag"]
        policy = {"version": 1, "etag": etag, "bindings": []}
        error = google.error("POST", f"{PROJECT}:setIamPolicy", {"policy": policy})
        assert "version (1) cannot be less than the existing policy version (3)" in error["message"]

    @pytest.mark.parametrize(
        ("version", "fields", "code"),
        [
            (1, {}, 400),
            (2, {}, 400),
            (3, {"role": "roles/editor"}, 400),
            (3, {"condition": {"expression": 'resource.name == "n"'}}, 400),
            (3, {"condition": {"title": "t", "expression": "request.time < x"}}, 501),
            (3, {"condition": {"title": "t", "expression": 'resource.name.endsWith("n"'}}, 501),
            (3, {"role": "roles/viewer_withcond_0123456789abcdef0123"}, 400),
        ],
    )
    def test_that_are_wrong_are_refused(
        self, google: Google, version: int, fields: dict[str, Any], code: int
    ) -> None:
        policy = {"version": version, "bindings": [{**self.BINDING, **fields}]}
        body = {"policy": policy}
        assert google.error("POST", f"{PROJECT}:setIamPolicy", body)["code"] == code
