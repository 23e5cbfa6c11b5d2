"""Who may connect: clients run as this user, and as nobody where the test may become nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import requests
from aiohttp import web
from google.protobuf import empty_pb2

from rehearsal.cluster.tunnel import KubeletTunnel
from rehearsal.machine import peers
from rehearsal.machine.web import route, serving
from tests.until import until

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")

_SEND = """
import encodings.idna, os, socket, sys  # what is imported later is in a folder of root
os.setgroups([]), os.setgid(65534), os.setuid(int(sys.argv[1]))
family, address, text = sys.argv[2:]
if family == "unix":
    client = socket.socket(socket.AF_UNIX)
    client.connect("\\0" + address)
else:
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)), 10)
client.settimeout(10)
try:
    client.sendall(text.encode())
    while ("Connection: close" in text or family == "unix") and (piece := client.recv(4096)):
        sys.stdout.write(piece.decode(errors="replace"))
except ConnectionError:  # closed with the request unread
    pass
"""


def send(family: str, address: str, text: str, uid: int = NOBODY) -> str:
    """Return the answer to a text that a process of this user sends."""
    return subprocess.run(
        [sys.executable, "-I", "-c", _SEND, str(uid), family, address, text],
        capture_output=True, text=True, timeout=20, check=True,
    ).stdout  # fmt: skip


@pytest.fixture
def requests_served() -> list[str]:
    return []


@pytest.fixture
def url(requests_served: list[str]) -> Iterator[str]:
    def answer(call: object) -> web.Response:
        requests_served.append("served")
        return web.Response(text="a secret")

    with serving([route("*", "/{path:.*}", answer)]) as url:
        yield url


class TestWeb:
    def test_serves_its_own_user_on_one_connection_and_on_several(self, url: str) -> None:
        with requests.Session() as session:
            assert [session.get(url, timeout=5).text for _ in range(2)] == ["a secret"] * 2
        assert requests.get(url, timeout=5).text == "a secret"

    @needs_root
    def test_refuses_another_user(self, url: str, requests_served: list[str]) -> None:
        text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert send("tcp", url.removeprefix("http://"), text).startswith("HTTP/1.1 403 ")
        assert not requests_served

    @needs_root
    def test_does_not_serve_a_request_whose_sender_has_left(
        self, url: str, requests_served: list[str]
    ) -> None:
        """The kernel shows the connection as root's then."""
        for _ in range(20):
            send("tcp", url.removeprefix("http://"), "POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert requests.get(url, timeout=5).text == "a secret"
        assert requests_served == ["served"]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


class TestTheKernelsTable:
    def test_knows_a_connection_by_both_ends(self, listening: socket.socket) -> None:
        server = listening.getsockname()
        with socket.create_connection(server) as client:
            assert peers.is_own(client.getsockname(), server)
            assert not peers.is_own(client.getsockname(), ("127.0.0.1", server[1] ^ 1))
            assert not peers.is_own(("127.0.0.2", client.getsockname()[1]), server)

    def test_knows_an_ipv6_socket_with_an_ipv4_address(self, listening: socket.socket) -> None:
        port = listening.getsockname()[1]
        with socket.socket(socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1", port))
            assert peers.is_own(("127.0.0.1", client.getsockname()[1]), ("127.0.0.1", port))

    def test_does_not_trust_a_closed_end(self, listening: socket.socket) -> None:
        client = socket.create_connection(listening.getsockname())
        end = client.getsockname()
        accepted, _ = listening.accept()
        with accepted:
            client.close()
            until(lambda: not peers.is_own(end, listening.getsockname()), 2, "it is closed")


def one(channel: grpc.Channel) -> object:
    """The answer of the method with one answer."""
    method: Any = channel.unary_unary("/t.S/One")
    return method(b"")


def many(channel: grpc.Channel) -> list[object]:
    """The answers of the method that streams."""
    method: Any = channel.unary_stream("/t.S/Many")
    return list(method(b""))


class TestGrpc:
    @pytest.fixture
    def port(self) -> Iterator[int]:
        own_user = peers.OwnUserOnly()
        server = grpc.server(ThreadPoolExecutor(2), interceptors=[own_user])
        methods = {
            "One": grpc.unary_unary_rpc_method_handler(
                lambda request, context: empty_pb2.Empty(),
                request_deserializer=empty_pb2.Empty.FromString,
                response_serializer=empty_pb2.Empty.SerializeToString,
            ),
            "Many": grpc.unary_stream_rpc_method_handler(
                lambda request, context: iter([empty_pb2.Empty()]),
                request_deserializer=empty_pb2.Empty.FromString,
                response_serializer=empty_pb2.Empty.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", methods),))
        own_user.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield own_user.port
        server.stop(None)

    def test_serves_its_own_user(self, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert one(channel) == b""

    def test_refuses_everybody_else(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)  # the client is this user
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as refused:
                one(channel)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    def test_serves_no_method_that_streams(self, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as refused:
                many(channel)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@needs_root
def test_the_tunnel_to_kubelets_refuses_another_user(listening: socket.socket) -> None:
    tunnel = KubeletTunnel()
    try:
        head = f"CONNECT 192.0.2.1:{listening.getsockname()[1]} HTTP/1.1\r\n\r\n"
        assert send("unix", tunnel.name[1:], head).startswith("HTTP/1.1 403 ")
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
    finally:
        tunnel.close()
