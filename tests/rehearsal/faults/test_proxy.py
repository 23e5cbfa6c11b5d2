from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web

from rehearsal.cluster.certificates import certify_administrator, make_authority
from rehearsal.faults.proxy import (
    Answer,
    ConnectionReset,
    Emit,
    FaultProxy,
    Request,
    Rules,
    Stream,
)
from rehearsal.machine.web import serving
from tests.until import until


async def echo(request: web.Request) -> web.Response:
    said = {"method": request.method, "path": request.path_qs, "body": await request.text()}
    token = request.headers.get("Authorization", "")
    return web.json_response({**said, "token": token}, status=201 if said["body"] else 200)


class FaultyRules(Rules):
    """Reads /stream by lines; /reset, /own, /edited and /changed are what they say."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.ended: list[Stream] = []

    def delay_s(self, request: Request) -> float:
        return 0.1 if request.path == "/own" else 0.0

    def before(self, request: Request) -> Request | Answer:
        if request.path == "/reset":
            raise ConnectionReset
        if request.path == "/own":
            return Answer(429, b"{}", {"Retry-After": "1"})
        return replace(request, body=b"changed") if request.path == "/changed" else request

    def editor(self, request: Request) -> Callable[[bytes], bytes] | None:
        if request.path != "/edited":
            return None
        return lambda body: body.replace(b"text", request.query["as"].encode())

    def open_stream(self, stream: Stream) -> Emit | None:
        self.streams.append(stream)
        return stream.emit if stream.request.path == "/stream" else None

    def close_stream(self, stream: Stream) -> None:
        self.ended.append(stream)


class Scene:
    """A proxy before a server that echoes requests, and a client of it."""

    def __init__(self, stack: ExitStack, tls: ssl.SSLContext | None = None) -> None:
        self.server = ExitStack()
        routes = [web.get("/stream", self._stream), web.route("*", "/{path:.*}", echo)]
        url = stack.enter_context(self.server).enter_context(serving(routes))
        self.rules = FaultyRules()
        self.proxy = FaultProxy("127.0.0.1", int(url.rpartition(":")[2]), self.rules, tls=tls)
        stack.callback(self.proxy.stop)
        self.client = stack.enter_context(requests.Session())
        self.client.trust_env = False

    @staticmethod
    async def _stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one\ntw")
        await answer.write(b"o\n")
        while request.transport and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # nothing tells of the connection's end
        return answer

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.client.request(
            method, f"http://{self.proxy.address}{path}", timeout=5, **options
        )


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_requests_and_answers_pass_as_they_are(scene: Scene, method: str) -> None:
    for _ in range(2):  # on one connection
        answer = scene.call(method, "/a/b?c=d&e", data="text", headers={"Authorization": "Bearer"})
        expected = {"method": method, "path": "/a/b?c=d&e", "body": "text", "token": "Bearer"}
        assert (answer.json(), answer.status_code) == (expected, 201)


def test_the_length_of_what_head_does_not_send_passes(scene: Scene) -> None:
    answer = scene.call("HEAD", "/a")
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.content == b""


def test_lines_of_a_stream_arrive_before_it_ends(scene: Scene) -> None:
    with scene.call("GET", "/stream", stream=True) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert [next(lines), next(lines)] == [b"one", b"two"]


def test_a_stream_is_reset_and_its_client_notices(scene: Scene) -> None:
    with scene.call("GET", "/stream", stream=True) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"one"
        scene.rules.streams[0].reset()
        with pytest.raises(requests.RequestException):
            list(lines)
    until(lambda: scene.rules.ended == scene.rules.streams)


def test_a_stream_ends_when_its_client_disconnects(scene: Scene) -> None:
    host, _, port = scene.proxy.address.partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000)
        assert not scene.rules.ended
    until(lambda: scene.rules.ended == scene.rules.streams)


def test_a_chunked_request_passes_and_its_connection_serves_the_next(scene: Scene) -> None:
    for _ in range(2):
        assert scene.call("POST", "/a", data=iter([b"te", b"xt"])).json()["body"] == "text"
        assert scene.call("GET", "/a").json()["body"] == ""


def test_rules_delay_change_answer_and_reset(scene: Scene) -> None:
    own = scene.call("GET", "/own")
    assert own.elapsed.total_seconds() >= 0.1
    assert (own.status_code, own.headers["Retry-After"], own.text) == (429, "1", "{}")
    assert scene.call("POST", "/changed", data="text").json()["body"] == "changed"
    assert scene.call("POST", "/edited?as=another", data="text").json()["body"] == "another"
    with pytest.raises(requests.ConnectionError, match="reset"):
        scene.call("GET", "/reset")


def test_a_proxy_with_tls_has_its_own_certificate_and_resets_too(tmp_path: Path) -> None:
    authority = make_authority()
    certify_administrator(authority).write(tmp_path, "admin")
    authority.write(tmp_path, "ca")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    with ExitStack() as stack:
        scene = Scene(stack, tls)
        base = f"https://{scene.proxy.address}"
        scene.client.verify = str(tmp_path / "ca.crt")
        assert scene.client.get(f"{base}/a").json()["path"] == "/a"
        with pytest.raises(requests.ConnectionError):
            scene.client.get(f"{base}/reset")
        assert scene.client.get(f"{base}/a").ok
        with pytest.raises(requests.ConnectionError):
            scene.call("GET", "/a")


def test_a_stopped_server_is_a_reset_for_the_client(scene: Scene) -> None:
    scene.server.close()
    with pytest.raises(requests.ConnectionError):
        scene.call("GET", "/a")
