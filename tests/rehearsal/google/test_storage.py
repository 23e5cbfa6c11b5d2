import pytest
import requests

from rehearsal.google.storage import insert_object
from tests.rehearsal.local_google import Google

B = "storage/v1/b"
ADMIN = {"role": "roles/storage.objectCreator", "members": ["user:a@example.org"]}


@pytest.fixture
def bucket(google: Google) -> Google:
    """With the bucket `events`."""
    google.ok("POST", B, {"name": "events", "location": "us-central1"}, project="p")
    return google


def test_name_that_is_taken_is_refused(bucket: Google) -> None:
    error = bucket.error("POST", B, {"name": "events"}, project="q")
    assert (error["code"], error["errors"][0]["reason"]) == (409, "conflict")


@pytest.mark.parametrize("name", ["ab", "Events", "-events", "e" * 64])
def test_name_of_another_form_is_refused(google: Google, name: str) -> None:
    assert google.error("POST", B, {"name": name}, project="p")["code"] == 400


def test_project_is_required(google: Google) -> None:
    assert google.error("POST", B, {"name": "events"})["errors"][0]["reason"] == "required"


def test_patch_changes_sets_and_removes(bucket: Google) -> None:
    first = bucket.ok("GET", f"{B}/events")
    bucket.ok("PATCH", f"{B}/events", {"labels": {"a": "b"}})
    patched = bucket.ok("GET", f"{B}/events")
    assert patched["labels"] == {"a": "b"}
    assert patched["metageneration"] == "2"
    assert patched["etag"] != first["etag"]
    assert "labels" not in bucket.ok("PATCH", f"{B}/events", {"labels": None})


def test_policy_is_written_by_its_etag(bucket: Google) -> None:
    policy = bucket.ok("GET", f"{B}/events/iam", optionsRequestedPolicyVersion="3")
    assert policy["resourceId"] == "projects/_/buckets/events"
    assert {binding["role"] for binding in policy["bindings"]} >= {
        "roles/storage.legacyBucketOwner"
    }
    new = {**policy, "version": 3, "bindings": [*policy["bindings"], ADMIN]}
    written = bucket.ok("PUT", f"{B}/events/iam", new)
    assert written["version"] == 1  # no binding has a condition
    assert ADMIN in bucket.ok("GET", f"{B}/events/iam")["bindings"]
    assert bucket.error("PUT", f"{B}/events/iam", new)["code"] == 412


def upload(google: Google, body: bytes, **params: str) -> requests.Response:
    return google.session.post(
        f"{google.url}/upload/{B}/events/o",
        data=body,
        params=params,
        headers={"Content-Type": "multipart/related; boundary=x"},
        timeout=20,
    )


META = b'Content-Type: application/json\r\n\r\n{"name": "a/b.sh", "contentType": "text/x-sh"}'
PARTS = b"--x\r\n%s\r\n--x\r\nContent-Type: text/x-sh\r\n\r\necho a\r\nb\n\r\n--x--\r\n" % META


def test_an_upload_is_kept_byte_for_byte_with_a_generation_of_its_own(bucket: Google) -> None:
    first, second = (upload(bucket, PARTS, uploadType="multipart").json() for _ in range(2))
    assert int(second["generation"]) > int(first["generation"])
    path = f"{B}/events/o/a%2Fb.sh"
    assert bucket.ok("GET", path)["generation"] == second["generation"]
    assert bucket.call("GET", path, alt="media").content == b"echo a\r\nb\n"
    assert bucket.call("DELETE", path).status_code == 204
    assert bucket.error("DELETE", path)["code"] == 404


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [(PARTS, "resumable", 501), (b"", "multipart", 400), (b"--x\r\nno\r\n--x--", "multipart", 400)],
)
def test_another_upload_is_refused(bucket: Google, body: bytes, kind: str, status: int) -> None:
    assert upload(bucket, body, uploadType=kind).status_code == status


def test_bucket_with_objects_stays(bucket: Google) -> None:
    bucket.ok("POST", B, {"name": "empty"}, project="p")
    insert_object(bucket.state, "events", "a", b"")
    error = bucket.error("DELETE", f"{B}/events")
    assert (error["code"], error["message"]) == (
        409,
        "The bucket you tried to delete is not empty.",
    )
    assert bucket.error("GET", f"{B}/events/o/b")["code"] == 404
    assert bucket.call("DELETE", f"{B}/empty").status_code == 204
    assert bucket.error("GET", f"{B}/empty")["code"] == 404
