"""The comparison with the discovery documents finds what is wrong, and only that."""

import json
from typing import Any

import pytest

from rehearsal.google.state import Kind
from rehearsal.google.storage import insert_object
from tests.rehearsal.discovery import Exchange, problems
from tests.rehearsal.local_google import serving

CLUSTER = "/container/v1beta1/projects/p/locations/us-central1-a/clusters"
JOBS = "/scheduler/v1/projects/p/locations/us-central1/jobs"
REFUSED = {"error": {"code": 400, "message": "No."}}


def found(
    method: str,
    path: str,
    *query: tuple[str, str],
    request: Any = None,
    answer: Any = None,
    status: int = 200,
) -> list[str]:
    sent = "" if request is None else json.dumps(request)
    got = "" if answer is None else json.dumps(answer)
    return problems(Exchange(method, path, list(query), sent, status, got))


@pytest.mark.parametrize(
    ("request_body", "answer", "problem"),
    [
        ({"cluster": {"colour": "red"}}, {}, "request.cluster.colour is unknown"),
        ({"cluster": {"name": 7}}, {}, "request.cluster.name is 7, not of string"),
        ({"cluster": []}, {}, "request.cluster is no object: []"),
        ({"cluster": {"locations": "a"}}, {}, "request.cluster.locations is no list: 'a'"),
        ({}, {"status": "SLEEPING"}, "answer.status is 'SLEEPING', not of "),
        ({}, {"nodepoolConditions": [{"code": True}]}, "answer.nodepoolConditions[].code is True"),
    ],
)
def test_wrong_bodies_are_found(request_body: Any, answer: Any, problem: str) -> None:
    (only,) = found("POST", CLUSTER, request=request_body, answer=answer)
    assert only.startswith(problem)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"lastAttemptTime": "noon"}, "answer.lastAttemptTime is 'noon', not of google-datetime"),
        ({"attemptDeadline": "3 min"}, "answer.attemptDeadline is '3 min', not of google-duration"),
        ({"httpTarget": {"body": "?"}}, "answer.httpTarget.body is '?', not of byte"),
        ({"status": {"code": "7"}}, "answer.status.code is '7', not of int32"),
    ],
)
def test_wrong_formats_are_found(answer: Any, problem: str) -> None:
    assert found("GET", f"{JOBS}/j", answer=answer) == [problem]


def test_a_long_number_must_be_a_string() -> None:
    pool = {"config": {"advancedMachineFeatures": {"threadsPerCore": 1}}}
    (problem,) = found("GET", f"{CLUSTER}/c/nodePools/n", answer=pool)
    assert problem.endswith("threadsPerCore is 1, not of int64")


def test_wrong_paths_verbs_and_parameters_are_found() -> None:
    assert found("GET", "/container/v1beta1/clusters") == ["there is no such method"]
    assert found("PATCH", f"{CLUSTER}/c") == ["there is no such method"]
    assert found("GET", "/container/v9/x") == ["there is no such version of this API"]
    assert found("GET", CLUSTER, ("colour", "red")) == ["query: unknown parameter colour"]
    assert found("POST", "/storage/v1/b") == ["query: project is missing"]
    bad = found("GET", "/storage/v1/b/x", ("projection", "some"))
    assert bad == ["query: projection=some is none of ['full', 'noAcl']"]


def test_bodies_where_there_are_none_are_found() -> None:
    assert found("GET", CLUSTER, request={}) == ["request: there must be no body"]
    assert found("DELETE", "/storage/v1/b/x", answer={}) == ["answer: there must be no body"]


def test_a_refused_request_may_be_wrong_but_its_error_may_not() -> None:
    wrong = {"cluster": {"colour": "red"}}
    assert found("POST", CLUSTER, request=wrong, answer=REFUSED, status=400) == []
    (problem,) = found("POST", CLUSTER, request=wrong, answer=REFUSED, status=403)
    assert problem.startswith("the error has not Google's form")


def test_only_answers_of_googles_apis_are_compared() -> None:
    assert found("GET", "/rehearsal/nothing", answer=[]) == []
    unknown = Exchange("GET", "/container/v1beta1/clusters", [], "", 501, "")
    assert problems(unknown, gaps=True) == []
    assert problems(unknown) == ["the local Google does not know this"]


def test_the_content_of_an_object_is_no_json() -> None:
    with serving() as google:
        google.ok("POST", "storage/v1/b", {"name": "events"}, project="p")
        insert_object(google.state, "events", "o", b"not JSON")
        assert google.call("GET", "storage/v1/b/events/o/o", alt="media").content == b"not JSON"


def test_a_wrong_answer_of_the_local_google_fails_the_test_that_saw_it() -> None:
    serving_a_wrong_sink = serving()
    google = serving_a_wrong_sink.__enter__()
    google.state.put(Kind.SINK, "projects/p/sinks/s", {"name": "s", "colour": "red"})
    google.ok("GET", "logging/v2/projects/p/sinks/s")
    with pytest.raises(AssertionError, match=r"answer\.colour is unknown"):
        serving_a_wrong_sink.__exit__(None, None, None)
