from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

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


class Behind(BaseHTTPRequestHandler):
    """A server that echoes requests, and streams lines that a test gives it."""

    protocol_version = "HTTP/1.1"
    lines: list[bytes]
    more: threading.Event

    def _echo(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = {"method": self.command, "path": self.path, "body": body.decode()}
        said["token"] = self.headers.get("Authorization", "")
        text = json.dumps(said).encode()
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_GET(self) -> None:
        if not self.path.startswith("/stream"):
            self._echo()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self.lines:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.more.wait(10)
        self.wfile.write(b"0\r\n\r\n")

    do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = _echo  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


class LineRules(Rules):
    """Reads what is below /stream by lines."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.ended: list[Stream] = []

    def open_stream(self, stream: Stream) -> Emit | None:
        self.streams.append(stream)
        return stream.emit if stream.request.path == "/stream" else None

    def editor(self, request: Request) -> Callable[[bytes], bytes] | None:
        """Streams are not edited."""
        return (lambda body: body) if request.method == "GET" else None

    def close_stream(self, stream: Stream) -> None:
        self.ended.append(stream)


class Scene:
    """Proxies before one server."""

    def __init__(self, stack: ExitStack) -> None:
        self.more = threading.Event()
        handler = type("Handler", (Behind,), {"lines": [b"one\n", b"two\n"], "more": self.more})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.stack = stack
        stack.callback(self.server.server_close)
        stack.callback(self.server.shutdown)
        stack.callback(self.more.set)

    def proxy(self, rules: Rules | None = None, **options: Any) -> FaultProxy:
        port = self.server.server_address[1]
        proxy = FaultProxy("127.0.0.1", int(port), rules or LineRules(), **options)
        self.stack.callback(proxy.stop)
        return proxy


def wait_for(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack)


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_requests_and_answers_pass_as_they_are(
    scene: Scene, client: requests.Session, method: str
) -> None:
    url = f"http://{scene.proxy().address}/a/b?c=d&e"
    for _ in range(3):  # on one connection
        answer = client.request(method, url, data="text", headers={"Authorization": "Bearer t"})
        expected = {"method": method, "path": "/a/b?c=d&e", "body": "text", "token": "Bearer t"}
        assert answer.json() == expected
        assert answer.status_code == (201 if method == "POST" else 200)


def test_the_length_of_what_head_does_not_send_passes(
    scene: Scene, client: requests.Session
) -> None:
    answer = client.head(f"http://{scene.proxy().address}/a")
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.content == b""


def test_lines_of_a_stream_arrive_before_it_ends(scene: Scene, client: requests.Session) -> None:
    with client.get(f"http://{scene.proxy().address}/stream", stream=True, timeout=5) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert [next(lines), next(lines)] == [b"one", b"two"]
        scene.more.set()
        assert list(lines) == []


def test_a_stream_is_reset_and_its_client_notices(scene: Scene, client: requests.Session) -> None:
    rules = LineRules()
    url = f"http://{scene.proxy(rules).address}/stream"
    with client.get(url, stream=True, timeout=5) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"one"
        rules.streams[0].reset()
        with pytest.raises(requests.RequestException):
            list(lines)
    wait_for(lambda: rules.ended == rules.streams)


def test_a_stream_ends_when_its_client_disconnects(scene: Scene) -> None:
    rules = LineRules()
    host, _, port = scene.proxy(rules).address.partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000)
        assert not rules.ended
    wait_for(lambda: rules.ended == rules.streams)


def test_a_chunked_request_passes_and_its_connection_serves_the_next(
    scene: Scene, client: requests.Session
) -> None:
    url = f"http://{scene.proxy().address}/a"
    for _ in range(2):
        assert client.post(url, data=iter([b"te", b"xt"]), timeout=5).json()["body"] == "text"
        assert client.get(url, timeout=5).json()["body"] == ""


def test_rules_delay_change_answer_and_reset(scene: Scene, client: requests.Session) -> None:
    class Faulty(Rules):
        def delay_s(self, request: Request) -> float:
            return 0.1 if request.path == "/own" else 0.0

        def before(self, request: Request) -> Request | Answer:
            if request.path == "/reset":
                raise ConnectionReset
            if request.path == "/own":
                return Answer(429, b"{}", {"Retry-After": "1"})
            return replace(request, body=b"other")

        def editor(self, request: Request) -> Callable[[bytes], bytes]:
            return lambda body: body.replace(b"other", request.query["as"].encode())

    base = f"http://{scene.proxy(Faulty()).address}"
    own = client.get(f"{base}/own")
    assert own.elapsed.total_seconds() >= 0.1
    assert (own.status_code, own.headers["Retry-After"], own.text) == (429, "1", "{}")
    assert client.post(f"{base}/a?as=another", data="text").json()["body"] == "another"
    with pytest.raises(requests.ConnectionError, match="reset"):
        client.get(f"{base}/reset")


def test_a_proxy_with_tls_has_its_own_certificate_and_resets_too(
    scene: Scene, client: requests.Session, tmp_path: Path
) -> None:
    class Faulty(Rules):
        def before(self, request: Request) -> Request | Answer:
            if request.path == "/reset":
                raise ConnectionReset
            return request

    authority = make_authority()
    certify_administrator(authority).write(tmp_path, "admin")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    base = f"https://{scene.proxy(Faulty(), tls=tls).address}"
    client.verify = str(tmp_path / "ca.crt")
    assert client.get(f"{base}/a").json()["path"] == "/a"
    with pytest.raises(requests.ConnectionError):
        client.get(f"{base}/reset")
    assert client.get(f"{base}/a").ok
    with pytest.raises(requests.ConnectionError):
        client.get(f"{base}/a".replace("https", "http"))


def test_a_stopped_server_is_a_reset_for_the_client(scene: Scene, client: requests.Session) -> None:
    proxy = scene.proxy()
    scene.server.shutdown()
    scene.server.server_close()
    with pytest.raises(requests.ConnectionError):
        client.get(f"http://{proxy.address}/a")
