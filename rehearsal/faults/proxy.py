"""A fault-injecting reverse proxy on loopback, used only where a fault needs one.

It passes requests and answers on as they are, streams line by line. Its rules may delay a request,
change it, answer it, reset its connection, and see each line of a stream.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from rehearsal.machine.loop import LoopThread

_TIMEOUT = ClientTimeout(total=None, sock_read=600)
_IDLE_S = 600.0
_NOT_PASSED = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "accept-encoding",
}
"""Headers of one connection, and one that would hide the lines."""
_OWN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that sends RST."""

Emit = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request on its way to the server."""

    method: str
    target: str
    """Path and query."""
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that the rules give in the server's place."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """An answer that goes to the client line by line. Its callbacks are thread-safe."""

    request: Request
    emit: Emit
    """Send a line to the client."""
    reset: Callable[[], None]
    """Reset the client's connection."""


class ConnectionReset(Exception):
    """Raised by `Rules.before`: reset the client's connection."""


class Rules:
    """What a proxy does besides passing on: nothing. Called in its event loop; must not block."""

    def delay_s(self, _request: Request) -> float:
        """Return how long to hold the request back."""
        return 0.0

    def before(self, request: Request) -> Request | Answer:
        """Return the request to pass on, or the answer to give; may raise ConnectionReset."""
        return request

    def open_stream(self, _stream: Stream) -> Emit | None:
        """Return the callback for each line of the answer; None if it is not read by lines."""
        return None

    def close_stream(self, stream: Stream) -> None:
        """Forget a stream that has ended."""

    def editor(self, _request: Request) -> Callable[[bytes], bytes] | None:
        """Return what changes the body of the answer; None to pass it on as it arrives."""
        return None


class FaultProxy:
    """A running proxy before the server at host:port, in its own event loop and thread.

    `tls` is for its clients, `upstream_tls` for the server behind it; None stands for plain HTTP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rules: Rules,
        *,
        tls: ssl.SSLContext | None = None,
        upstream_tls: ssl.SSLContext | None = None,
    ) -> None:
        self._base = f"{'https' if upstream_tls else 'http'}://{host}:{port}"
        self._rules = rules
        self._upstream_tls = upstream_tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = LoopThread("fault-proxy")
        self._loop.run(self._start(tls))

    def stop(self) -> None:
        """Close all connections."""
        with suppress(TimeoutError, CancelledError):
            self._loop.run(self._stop())
        self._loop.stop()

    async def _start(self, tls: ssl.SSLContext | None) -> None:
        connector = TCPConnector(limit=0, ssl=self._upstream_tls or False)
        self._session = ClientSession(
            connector=connector, timeout=_TIMEOUT, auto_decompress=False, skip_auto_headers=_OWN
        )
        self._runner = web.ServerRunner(
            web.Server(
                self._handle, handler_cancellation=True, keepalive_timeout=_IDLE_S, access_log=None
            ),
            shutdown_timeout=0,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener, ssl_context=tls).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = Request(incoming.method, incoming.raw_path, await incoming.content.read())
        if delay_s := self._rules.delay_s(request):
            await asyncio.sleep(delay_s)
        try:
            result = self._rules.before(request)
            if isinstance(result, Answer):
                return web.Response(status=result.status, body=result.body, headers=result.headers)
            return await self._pass_on(incoming, result)
        except (ConnectionReset, ClientError, OSError) as error:
            _reset(incoming)
            raise asyncio.CancelledError from error  # there is no connection to answer on

    async def _pass_on(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        headers = [(k, v) for k, v in incoming.headers.items() if k.lower() not in _NOT_PASSED]
        url = URL(self._base + request.target, encoded=True)
        async with self._session.request(
            request.method, url, data=request.body or None, headers=headers, allow_redirects=False
        ) as upstream:
            answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            kept = _NOT_PASSED - {"content-length"}
            answer.headers.extend(
                (k, v) for k, v in upstream.headers.items() if k.lower() not in kept
            )
            if await self._stream(incoming, request, upstream, answer):
                pass
            elif edit := self._rules.editor(request):
                body = edit(await upstream.read())
                answer.content_length = len(body)
                await answer.prepare(incoming)
                await answer.write(body)
            else:
                await answer.prepare(incoming)
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
            await answer.write_eof()
            return answer

    async def _stream(
        self,
        incoming: web.BaseRequest,
        request: Request,
        upstream: ClientResponse,
        answer: web.StreamResponse,
    ) -> bool:
        """Send the answer line by line if the rules read it so."""
        due: list[bytes] = []
        more = asyncio.Event()

        def emit(line: bytes) -> None:
            due.append(line)
            if not more.is_set():
                self._loop.call(more.set)

        stream = Stream(request, emit, lambda: self._loop.call(_reset, incoming))
        take = self._rules.open_stream(stream)
        if take is None:
            return False

        async def read() -> None:
            with suppress(ClientError, OSError):
                async for line in _lines(upstream):
                    take(line)

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: more.set())
        try:
            await answer.prepare(incoming)
            while due or not reader.done():
                await more.wait()
                more.clear()
                batch = due[:]
                del due[: len(batch)]  # other threads append
                await answer.write(b"".join(batch))
            reader.result()
        finally:
            reader.cancel()
            self._rules.close_stream(stream)
        return True


async def _lines(upstream: ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length as they arrive."""
    rest = b""
    async for chunk in upstream.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _reset(incoming: web.BaseRequest) -> None:
    if incoming.transport is not None:
        connection = incoming.transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        incoming.transport.abort()
