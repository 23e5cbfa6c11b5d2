"""Fixtures of the providers' tests."""

from collections.abc import Iterator

import pytest

from rehearsal.pulumi.providers.gcp import GcpSession
from rehearsal.pulumi.providers.google_rest import GcpConfig, GoogleApi
from tests.rehearsal.pulumi.providers.noted_google import NotedGoogle, noted_google


@pytest.fixture
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotedGoogle]:
    with noted_google(tmp_path_factory.mktemp("google")) as google:
        yield google


@pytest.fixture
def gcp(google: NotedGoogle) -> GcpSession:
    """A session that the local Google answers."""
    return GcpSession(GoogleApi(GcpConfig(google.config())))


@pytest.fixture
def nowhere() -> GcpSession:
    """A session without an endpoint: any call would fail."""
    return GcpSession(GoogleApi(GcpConfig({"project": "p", "zone": "us-central1-a"})))
