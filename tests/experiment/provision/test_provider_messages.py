"""Messages as Google's APIs, the gcp provider and the engine print them, and what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.errors import CATALOGUE, Failure
from experiment.provision.provider_messages import (
    explain,
    failure_of,
    is_conflict,
    is_not_yet_known,
)

MESSAGES = [
    # https://github.com/GoogleCloudPlatform/cloud-ops-sandbox/issues/44
    (
        Failure.QUOTA,
        (
            'googleapi: Error 403: Insufficient regional quota to satisfy request: resource "CPUS"'
            ": request requires '64.0' and is short '40.0'. project has a quota of '24.0'"
        ),
        "the region's quota CPUS is too small",
    ),
    (
        Failure.QUOTA,
        (
            "Error waiting for creating GKE NodePool: [GCE_QUOTA_EXCEEDED]: Instance 'gke-a' "
            "creation failed: Quota 'SSD_TOTAL_GB' exceeded. Limit: 500.0 in region us-central1."
        ),
        "the region's quota SSD_TOTAL_GB is too small",
    ),
    (
        Failure.QUOTA,
        (
            "googleapi: Error 403: The request would exceed the quota limit of service accounts, "
            "quotaExceeded"
        ),
        "a quota is too small",
    ),
    (
        Failure.NO_CAPACITY,
        (
            "Error waiting for creating GKE cluster: Google Compute Engine: Not all instances "
            "running in IGM after 35.2s. Current errors: [ZONE_RESOURCE_POOL_EXHAUSTED]: The zone "
            "'projects/p/zones/us-central1-a' does not have enough resources available to fulfill "
            "the request. Try a different zone, or try again later."
        ),
        "no such machines at the moment",
    ),
    (
        Failure.NO_CAPACITY,
        "[GCE_STOCKOUT]: Instance 'gke-b' creation failed: The zone has been exhausted",
        "no such machines at the moment",
    ),
    (
        Failure.API_OFF,
        (
            "googleapi: Error 403: container.googleapis.com has not been used in project "
            "my-project before or it is disabled. Enable it by visiting https://console..., "
            "accessNotConfigured"
        ),
        "the API container.googleapis.com is not enabled in the project my-project",
    ),
    (
        Failure.API_OFF,
        (
            "Error 403: Cloud Scheduler API has not been used in project 123 before or it is "
            "disabled. Details: SERVICE_DISABLED"
        ),
        "an API is not enabled",
    ),
    (
        Failure.PERMISSION,
        (
            'googleapi: Error 403: Required "container.clusters.create" permission(s) for '
            '"projects/p"., forbidden'
        ),
        "no permission container.clusters.create",
    ),
    (
        Failure.PERMISSION,
        (
            "Error 403: Permission 'iam.serviceAccounts.create' denied on resource, "
            "IAM_PERMISSION_DENIED"
        ),
        "has no permission",
    ),
    (
        Failure.PERMISSION,
        "google: could not find default credentials. See https://cloud.google.com/docs/auth",
        "is not logged in",
    ),
    (
        Failure.PERMISSION,
        'oauth2: cannot fetch token: 400 Bad Request Response: {"error": "invalid_grant"}',
        "is not logged in",
    ),
    (
        Failure.PROVIDER_ERROR,
        (
            "googleapi: Error 409: Already exists: projects/p/zones/us-central1-a/clusters/c., "
            "alreadyExists"
        ),
        "a resource of the same name",
    ),
    (
        Failure.PROVIDER_ERROR,
        (
            "googleapi: Error 429: Quota exceeded for quota metric 'Write requests' per minute, "
            "rateLimitExceeded"
        ),
        "requests as too many",
    ),
    (
        Failure.PROVIDER_ERROR,
        "googleapi: Error 503: The service is currently unavailable., backendError",
        "not available",
    ),
    (
        Failure.PROVIDER_ERROR,
        "timeout while waiting for state to become 'DONE' (last state: 'RUNNING', timeout: 40m0s)",
        "did not finish in time",
    ),
    # https://cloud.google.com/kubernetes-engine/docs/how-to/alias-ips#troubleshooting
    (
        Failure.PROVIDER_ERROR,
        (
            "Error waiting for creating GKE NodePool: [IP_SPACE_EXHAUSTED]: Instance 'gke-a' "
            "creation failed: IP space of 'projects/p/regions/us-central1/subnetworks/default' is "
            "exhausted."
        ),
        "no room for another node",
    ),
    (
        Failure.PROVIDER_ERROR,
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "a provider died",
    ),
]
_NAMED = {failure for failure, *_ in MESSAGES}


@pytest.mark.parametrize(("failure", "message", "why"), MESSAGES)
def test_a_message_has_a_name_a_cause_and_a_fix(failure: Failure, message: str, why: str) -> None:
    explained = explain(message, "size-64")
    assert explained.failure is failure
    assert why in explained.why
    assert message[:60] in explained.why, "Google's own words are kept"
    assert explained.fix
    assert "STACK" not in explained.fix.replace("--stack STACK", "")
    assert failure_of(message) is failure


def test_the_fix_names_api_and_project() -> None:
    said = "x.googleapis.com has not been used in project p before or it is disabled"
    assert (
        explain(said).fix == "gcloud services enable x.googleapis.com --project p, then wait "
        "a minute"
    )
    exhausted = "[IP_SPACE_EXHAUSTED_WITH_DETAILS]: IP space of 'x' is exhausted."
    assert "podRangePrefix NUMBER --stack size-64" in explain(exhausted, "size-64").fix
    assert "recover --stack size-64" in explain("Error 409: Already exists: c.", "size-64").fix


@pytest.mark.parametrize(
    "message",
    [
        "The disk of 500 GB is too small.",
        "expected 403 nodes",
        "node pool of 429 nodes, 503 of them new",
        "a value is missing",
        "",
    ],
)
def test_numbers_and_unknown_words_are_no_names(message: str) -> None:
    explained = explain(message)
    assert explained.failure is Failure.PROVIDER_ERROR
    assert explained.fix == CATALOGUE[Failure.PROVIDER_ERROR].fix
    assert failure_of(message) is None


def test_a_conflict_is_recognised() -> None:
    assert is_conflict("googleapi: Error 409: Already exists: projects/p/..., alreadyExists")
    assert is_conflict("Custom project role projects/p/roles/r already exists and must be imported")
    assert not is_conflict("googleapi: Error 403: forbidden")


def test_tracebacks_and_marks_of_colour_are_left_out() -> None:
    said = (
        "<{%fg 1%}>python inline source runtime error: no<{%reset%}>\nTraceback (most recent "
        "call last):\n  File x"
    )
    assert explain(said).why == "python inline source runtime error: no"


def test_call_site_and_version_of_the_official_provider_are_left_out() -> None:
    said = (
        "sdk-v2/provider2.go:571: sdk.helper_schema: Error creating NodePool: googleapi: Error "
        "409: Already exists: c.: provider=google-beta@10.2.0"
    )
    why = explain(said).why
    assert "(Error creating NodePool: googleapi: Error 409: Already exists: c)" in why


def test_a_killed_cli_is_named() -> None:
    explained = explain("error: the Pulumi CLI was killed by signal 9", "size-4")
    assert "were not finished (error: the Pulumi CLI was killed by signal 9)" in explained.why
    assert explained.fix.startswith("pull-study recover --stack size-4")


@pytest.mark.parametrize(
    "message",
    [
        # https://github.com/GoogleCloudPlatform/genai-for-marketing/issues/139
        "googleapi: Error 400: Service account 7-compute@x.iam.gserviceaccount.com does not exist.",
        # https://github.com/privacysandbox/aggregation-service/issues/47
        (
            "Error 403: Permission 'iam.serviceaccounts.actAs' denied on service account a@b (or "
            "it may not exist)."
        ),
        (
            "Error 403: The principal (user or service account) lacks IAM permission "
            '"iam.serviceAccounts.actAs" for the resource "x"'
        ),
    ],
)
def test_an_account_that_a_service_does_not_know_yet_is_recognised(message: str) -> None:
    assert is_not_yet_known(message)
    assert not is_not_yet_known('Error 403: Required "container.clusters.create" permission(s).')


@given(st.text(max_size=2000), st.sampled_from(MESSAGES), st.text(max_size=200))
def test_whatever_surrounds_it_a_sentence_comes_out(
    before: str, known: tuple[Failure, str, str], after: str
) -> None:
    explained = explain(f"{before} {known[1]} {after}")
    assert explained.failure in _NAMED
    assert "\n" not in explained.why
    assert len(explained.why) < 700
    assert not explained.why.endswith(".")
    assert explained.fix
