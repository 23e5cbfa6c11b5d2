"""Which user is at the other end of a connection: a rehearsal serves the one that started it.

Every user of a machine can connect to its loopback addresses and to abstract sockets. Where the
client is a program that sends no secret (Pulumi's engine, which connects to plugins by port), the
kernel's table of connections says whose it is (proc_pid_net(5)); of a Unix socket the kernel says
so itself (unix(7), SO_PEERCRED).
"""

import os
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""A client may connect to an IPv4 address by an IPv6 socket."""
_ESTABLISHED = "01"
_UCRED = struct.Struct("3i")
REFUSAL = "This belongs to a rehearsal of another user."

Address = tuple[str, int]
"""IPv4 address and port."""


def is_own(client: Address, server: Address) -> bool:
    """Return whether the client's end of a TCP connection on this machine is this user's.

    False for a connection that the client has closed: the kernel no longer knows whose it was, and
    shows root. So no one can send a request, close, and have it served.
    """
    # of an IPv6 address that maps an IPv4 one, the end is the same
    row = re.compile(rf"{_hex(client)} [0-9A-F]*{_hex(server)} {_ESTABLISHED} (.*)".encode())
    for table in _TABLES:
        if table.exists() and (found := row.search(table.read_bytes())):
            uid, inode = int(found[1].split()[3]), int(found[1].split()[5])
            return uid == os.geteuid() and inode != 0
    return False


def is_own_unix(connection: socket.socket) -> bool:
    """Return whether the client of an accepted Unix socket is this user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return bool(_UCRED.unpack(credentials)[1] == os.geteuid())


class OwnUserOnly(grpc.ServerInterceptor):
    """Refuses calls of other users, with PERMISSION_DENIED. Set `port` once it is known."""

    port = 0

    def intercept_service(
        self, continuation: Callable[[Any], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return None  # UNIMPLEMENTED: no method that streams is served

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            kind, _, address = context.peer().partition(":")
            host, _, port = address.rpartition(":")
            if kind != "ipv4" or not is_own((host, int(port)), ("127.0.0.1", self.port)):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, REFUSAL)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _hex(address: Address) -> str:
    """Return an address as in the tables."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
