"""A local Google, and the fake gcp provider that calls it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rehearsal.google.environment import ENDPOINTS
from rehearsal.pulumi.providers.gcp import GcpSession
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from tests.rehearsal.local_google import LOGIN, Google, ListFleet, serving


@dataclass(frozen=True)
class Request:
    """One request to Google; its path is that of the server, `container/v1beta1/...`."""

    method: str
    path: str
    body: Any
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return self.method != "GET" and not self.path.endswith(":getIamPolicy")


class RecordingApi(GoogleApi):
    """Keeps the requests that it makes."""

    def __init__(self, project: str, url: str) -> None:
        endpoints = {
            f"GOOGLE_{key}_CUSTOM_ENDPOINT": f"{url}/{ENDPOINTS[key]}" for key in ENDPOINTS
        }
        super().__init__(project, {**endpoints, "GOOGLE_OAUTH_ACCESS_TOKEN": LOGIN.token})
        self.requests: list[Request] = []

    def call(self, service: str, method: str, path: str, body: Any = None, **params: str) -> Json:
        self.requests.append(Request(method, f"/{ENDPOINTS[service]}{path}", body, params))
        return super().call(service, method, path, body, **params)

    def writes(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.requests if each.writes]


@pytest.fixture
def fleet() -> ListFleet:
    return ListFleet()


@pytest.fixture
def google(fleet: ListFleet) -> Iterator[Google]:
    with serving(fleet) as google:
        yield google


@pytest.fixture
def api(google: Google) -> RecordingApi:
    return RecordingApi("p", google.url)


@pytest.fixture
def gcp(api: RecordingApi) -> GcpSession:
    return GcpSession(api)


@pytest.fixture
def nowhere() -> GcpSession:
    """A session without an endpoint: any call would fail."""
    return GcpSession(GoogleApi("p", {}))
