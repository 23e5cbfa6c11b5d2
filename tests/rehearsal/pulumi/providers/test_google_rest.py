import time
from collections.abc import Iterator

import pytest
from aiohttp.web import Response

from rehearsal.machine.web import Call, route, serving
from rehearsal.pulumi.providers import google_rest
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, OperationError
from rehearsal.pulumi.providers.protocol import ProviderError

QUOTA = b'{"error": {"message": "Quota exceeded.", "errors": [{"reason": "quotaExceeded"}]}}'


class Server:
    """Gives its answers one after the other, then the last again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.calls = 0
        self.url = ""

    def answer(self, _: Call) -> Response:
        status, body = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        return Response(status=status, body=body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(google_rest, "_LONGEST_PAUSE_S", 0.01)
    server = Server()
    with serving([route("*", "/{path:.*}", server.answer)]) as server.url:
        yield server


def api_of(server: Server, timeout_s: float = 10) -> GoogleApi:
    environment = {"GOOGLE_STORAGE_CUSTOM_ENDPOINT": server.url, "GOOGLE_OAUTH_ACCESS_TOKEN": "t"}
    return GoogleApi("p", environment).within(timeout_s)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_retried(server: Server, status: int) -> None:
    server.answers = [(status, b"{}"), (status, b"{}"), (200, b'{"name": "b"}')]
    assert api_of(server).call("STORAGE", "POST", "b", {}) == {"name": "b"}
    assert server.calls == 3


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_refusal_is_final(server: Server, status: int) -> None:
    server.answers = [(status, QUOTA)]
    with pytest.raises(ApiError) as refusal:
        api_of(server).call("STORAGE", "GET", "b/x")
    assert str(refusal.value) == f"googleapi: Error {status}: Quota exceeded., quotaExceeded"
    assert server.calls == 1


def test_retries_end_with_the_timeout(server: Server) -> None:
    server.answers = [(503, b'{"error": {"message": "busy"}}')]
    begin = time.monotonic()
    with pytest.raises(ApiError, match="Error 503: busy"):
        api_of(server, 0.3).call("STORAGE", "GET", "b/x")
    assert time.monotonic() - begin < 5


def test_what_is_missing_is_none(server: Server) -> None:
    server.answers = [(404, b"{}")]
    assert api_of(server).find("STORAGE", "b/x") is None
    assert api_of(server).remove("STORAGE", "b/x") is None


def test_a_failed_operation_raises_its_message(server: Server) -> None:
    server.answers = [(200, b'{"name": "o"}'), (200, b'{"status": "DONE", "statusMessage": "no"}')]
    with pytest.raises(OperationError, match="Error waiting for creating it: no"):
        api_of(server).wait("STORAGE", {"name": "o"}, str, "creating it")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("GOOGLE_STORAGE_CUSTOM_ENDPOINT", "GOOGLE_STORAGE_CUSTOM_ENDPOINT is not set, and the fa"),
        ("GOOGLE_OAUTH_ACCESS_TOKEN", "could not find default credentials"),
    ],
)
def test_without_endpoint_or_token_nothing_is_called(missing: str, sentence: str) -> None:
    environment = {
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": "http://127.0.0.1:1/",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "t",
    }
    del environment[missing]
    with pytest.raises(ProviderError, match=sentence):
        GoogleApi("p", environment).call("STORAGE", "GET", "b/x")


def test_an_unreachable_server_is_named() -> None:
    environment = {
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": "http://127.0.0.1:1/",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "t",
    }
    with pytest.raises(ProviderError, match=r"Cannot reach http://127\.0\.0\.1:1/b/x"):
        GoogleApi("p", environment).within(0.2).call("STORAGE", "GET", "b/x")
