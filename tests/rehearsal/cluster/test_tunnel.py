"""Refusals and the end of the tunnel; tests/live/fleet reads kubelets' figures through it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rehearsal.cluster.tunnel import KubeletTunnel


@pytest.fixture
def tunnel() -> Iterator[KubeletTunnel]:
    tunnel = KubeletTunnel()
    yield tunnel
    tunnel.close()


def ask(tunnel: KubeletTunnel, head: str) -> tuple[bytes, socket.socket]:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(f"\0{tunnel.name[1:]}")
    connection.sendall(f"{head} HTTP/1.1\r\n\r\n".encode())
    return connection.recv(100), connection


@pytest.mark.parametrize(
    ("head", "status"), [("CONNECT 192.0.2.1:1", b"502 Bad Gateway"), ("GET /", b"405 Method")]
)
def test_a_silent_kubelet_or_another_method_is_an_error(
    tunnel: KubeletTunnel, head: str, status: bytes
) -> None:
    answer, connection = ask(tunnel, head)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_nothing_is_left_once_it_is_closed(tunnel: KubeletTunnel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kubelet:
        _, connection = ask(tunnel, f"CONNECT 192.0.2.1:{kubelet.getsockname()[1]}")
        tunnel.close()
        tunnel.close()
        with connection:
            assert connection.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(tunnel, "GET /")
