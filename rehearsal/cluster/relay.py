"""A TCP relay on loopback before a server, which can refuse connections for a while."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress

from rehearsal.machine.loop import LoopThread

_BACKLOG = 512
_CHUNK = 1 << 16


class Relay:
    """A running relay to `upstream`, host:port; its own `address` never changes."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.partition(":")
        self._upstream = (host, int(port))
        self._writers: set[asyncio.StreamWriter] = set()
        self._socket = _bound(0)
        self._port = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._loop = LoopThread("relay")
        self._loop.run(self._open())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset all connections, and refuse new ones until the block ends."""
        with suppress(CancelledError):
            self._loop.run(self._close())
        try:
            yield
        finally:
            with suppress(CancelledError):  # stopped meanwhile
                self._loop.run(self._open())

    def stop(self) -> None:
        """Close all connections. Idempotent."""
        with suppress(CancelledError):
            self._loop.run(self._close())
        self._loop.stop()
        self._socket.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._connect, sock=self._socket, backlog=_BACKLOG
        )

    async def _close(self) -> None:
        self._server.close()
        # bound but not listening: it keeps the port, and the kernel refuses connections
        self._socket = _bound(self._port)
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
            try:
                await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
            finally:
                far_writer.close()
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
