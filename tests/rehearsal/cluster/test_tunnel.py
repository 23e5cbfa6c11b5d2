from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from rehearsal.cluster.tunnel import KubeletTunnel


@pytest.fixture
def tunnel() -> Iterator[KubeletTunnel]:
    tunnel = KubeletTunnel()
    yield tunnel
    tunnel.close()


@pytest.fixture
def kubelet() -> Iterator[int]:
    """A port on loopback that echoes in capitals."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]


def ask(tunnel: KubeletTunnel, head: bytes) -> tuple[bytes, socket.socket]:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(f"\0{tunnel.name[1:]}")
    connection.sendall(head)
    return connection.recv(100), connection


def test_any_address_connects_to_its_port_on_loopback(tunnel: KubeletTunnel, kubelet: int) -> None:
    answer, connection = ask(tunnel, f"CONNECT 192.0.2.1:{kubelet} HTTP/1.1\r\n\r\n".encode())
    with connection:
        assert answer == b"HTTP/1.1 200 OK\r\n\r\n"
        connection.sendall(b"stats")
        assert connection.recv(100) == b"STATS"


def test_a_kubelet_that_does_not_listen_is_a_bad_gateway(tunnel: KubeletTunnel) -> None:
    answer, connection = ask(tunnel, b"CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n")
    connection.close()
    assert answer.startswith(b"HTTP/1.1 502")


def test_anything_but_connect_is_refused(tunnel: KubeletTunnel) -> None:
    answer, connection = ask(tunnel, b"GET / HTTP/1.1\r\n\r\n")
    connection.close()
    assert answer.startswith(b"HTTP/1.1 405")


def test_nothing_is_left_once_it_is_closed(tunnel: KubeletTunnel, kubelet: int) -> None:
    _, connection = ask(tunnel, f"CONNECT 192.0.2.1:{kubelet} HTTP/1.1\r\n\r\n".encode())
    tunnel.close()
    tunnel.close()
    with connection:
        assert connection.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(tunnel, b"")
