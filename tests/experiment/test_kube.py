"""The client against an HTTP server that answers as an API server would."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from experiment.errors import MeasureError
from experiment.kube import _RETRY, Kube, Refused

Answer = tuple[int, Any, dict[str, str]]
SOON = {"Retry-After": "0"}
BUSY: Answer = (429, {"message": "too many requests"}, SOON)
CUT: Answer = (0, None, {})


class ApiServer(ThreadingHTTPServer):
    """Gives its answers in their order, and notes the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.command, self.path, body))
        status, answer, headers = self.server.answers.pop(0)
        if not status:
            return  # closes the connection
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def kube(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    monkeypatch.setattr("experiment.kube._RETRY", _RETRY.new(backoff_factor=0))
    named = {"cluster": "c", "user": "u"}
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": named}],
        "current-context": "x",
    }
    kube = Kube(yaml.safe_dump(config))
    yield kube
    kube.close()


@pytest.mark.parametrize("failure", [BUSY, (503, {}, SOON), CUT])
def test_a_request_is_retried_and_the_retries_are_counted(
    server: ApiServer, kube: Kube, failure: Answer
) -> None:
    server.answers = [failure, (200, {"gitVersion": "v1.34.1"}, {})]
    assert kube.server_version() == "v1.34.1"
    assert kube.repeated == {str(failure[0] or "no answer"): 1}


def test_a_body_that_is_cut_is_fetched_again(server: ApiServer, kube: Kube) -> None:
    server.answers = [
        (200, {"gitVersion": "v"}, {"Content-Length": "1000", "Connection": "close"}),
        (200, {"gitVersion": "v1.34.1"}, {}),
    ]
    assert kube.server_version() == "v1.34.1"


def test_a_server_that_stays_busy_ends_in_a_sentence(server: ApiServer, kube: Kube) -> None:
    server.answers = [BUSY] * 6
    with pytest.raises(MeasureError, match=r"refused a request \(429\): too many requests"):
        kube.server_version()
    assert len(server.requests) == 6


def test_a_refusal_is_not_retried(server: ApiServer, kube: Kube) -> None:
    server.answers = [(403, {"message": "forbidden"}, {})]
    with pytest.raises(MeasureError, match=r"refused a request \(403\): forbidden") as raised:
        kube.server_version()
    assert isinstance(raised.value.__cause__, Refused)


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([BUSY, (422, {"message": "no such path"}, {})], False),
        ([(422, {"message": "denied by a plugin"}, {})], True),
    ],
)
def test_an_invalid_patch_is_passed_over_only_where_an_earlier_try_may_have_had_its_effect(
    server: ApiServer, kube: Kube, answers: list[Answer], refused: bool
) -> None:
    server.answers = answers
    patch = [{"op": "remove", "path": "/spec/schedulingGates"}]
    if refused:
        with pytest.raises(MeasureError, match="denied by a plugin"):
            kube.patch_pod("n", "p", patch)
    else:
        kube.patch_pod("n", "p", patch)
    assert server.requests[-1] == ("PATCH", "/api/v1/namespaces/n/pods/p", patch)


def test_what_exists_is_created_and_what_does_not_is_deleted(server: ApiServer, kube: Kube) -> None:
    server.answers = [(409, {}, {}), (404, {}, {})]
    kube.ensure_namespace("n")
    kube.delete_job("n", "j")
    assert [verb for verb, *_ in server.requests] == ["POST", "DELETE"]


def test_a_watch_is_not_retried(server: ApiServer, kube: Kube) -> None:
    server.answers = [BUSY]
    with pytest.raises(Refused, match="too many"):
        list(kube.watch("/api/v1/events", {}, seconds=10))


def test_no_server_is_reported_in_one_line(kube: Kube, server: ApiServer) -> None:
    server.server_close()
    with pytest.raises(Refused) as raised:
        list(kube.watch("/api/v1/events", {}, seconds=10))
    assert raised.value.status == 0
    assert "\n" not in raised.value.reason
