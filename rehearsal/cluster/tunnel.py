"""The tunnel by which API servers reach kubelets, which listen on loopback alone.

An API server refuses to connect to a node at a loopback address, and a node's kubelet does not
listen on its own address. On GKE connections from the control plane to nodes go through a tunnel
(konnectivity) too: this one is an HTTP CONNECT proxy that connects to the requested port on
loopback, whatever the address. It listens on an abstract socket, which ends with the process, and
serves this user alone.
"""

import asyncio
import re
import uuid
from contextlib import suppress
from typing import Any

from rehearsal.machine import peers
from rehearsal.machine.loop import LoopThread

_CONNECT = re.compile(rb"CONNECT \S+:(?P<port>\d+) HTTP/1\.1\r\n")
_PIECE = 65536
_TIMEOUT_S = 10.0


class KubeletTunnel:
    """Runs in its own thread until it is closed."""

    def __init__(self) -> None:
        self.name = f"@pull-study-kubelets-{uuid.uuid4().hex}"
        """Of the socket, as Go writes one without a file."""
        self._loop = LoopThread("kubelet-tunnel")
        listening = asyncio.start_unix_server(self._handle, f"\0{self.name[1:]}")
        self._server = self._loop.run(listening)

    def close(self) -> None:
        """Stop listening and close all connections. Idempotent."""
        self._loop.call(self._server.close)
        self._loop.stop()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _TIMEOUT_S)
            if not peers.is_own_unix(writer.get_extra_info("socket")):
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            request = _CONNECT.match(head)
            if request is None:
                writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
                return
            try:
                inner, outer = await asyncio.open_connection("127.0.0.1", int(request["port"]))
            except OSError:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # the client has disconnected, or sent no request
        finally:
            writer.close()


async def _copy(source: asyncio.StreamReader, target: Any) -> None:
    try:
        while piece := await source.read(_PIECE):
            target.write(piece)
            await target.drain()
    finally:
        with suppress(OSError):
            target.close()
