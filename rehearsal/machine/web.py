"""A web server on loopback, in its own thread, for this user alone.

Handlers are plain functions and may block. Clients of other users get 403.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakSet

from aiohttp import web
from aiohttp.typedefs import Handler as AioHandler
from aiohttp.typedefs import Middleware

from rehearsal.machine import peers
from rehearsal.machine.loop import LoopThread

_THREADS = 32
_LARGEST_BODY_BYTES = 64 << 20
_START_S = 20.0
_STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    url_path: str
    path: dict[str, str]
    """Its variable parts."""
    query: dict[str, str]
    """The last value of a repeated name."""
    query_string: str
    raw: bytes
    """The body."""
    base_url: str
    """Scheme, host and port by which the caller reached this server, and a slash."""
    authorization: str
    """The header; empty without one."""


Handler = Callable[[Call], web.Response]


def route(method: str, path: str, handler: Handler) -> web.RouteDef:
    """Return a route; the variable parts of `path` are in braces, as aiohttp reads them."""

    async def answer(request: web.Request) -> web.Response:
        call = Call(
            method=request.method,
            url_path=request.path,
            path=dict(request.match_info),
            query=dict(request.query),
            query_string=request.query_string,
            raw=await request.read(),
            base_url=f"{request.scheme}://{request.host}/",
            authorization=request.headers.get("Authorization", ""),
        )
        return await asyncio.get_running_loop().run_in_executor(None, handler, call)

    return web.route(method, path, answer)


def refuse_others() -> Middleware:
    """Return what refuses requests of other users, before anything of them is read."""
    own: WeakSet[asyncio.BaseTransport] = WeakSet()

    @web.middleware
    async def refuse(request: web.Request, handler: AioHandler) -> web.StreamResponse:
        connection = request.transport
        if connection is not None and connection not in own:
            ends = (connection.get_extra_info(end) for end in ("peername", "sockname"))
            if peers.is_own(*(end[:2] for end in ends)):
                own.add(connection)
        if connection not in own:
            return web.Response(status=403, text=peers.REFUSAL)
        return await handler(request)

    return refuse


@contextmanager
def serving(
    routes: Iterable[web.RouteDef],
    listening: socket.socket | None = None,
    *,
    middlewares: Iterable[Middleware] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Serve on a bound socket, by default a free port, until the block ends; give the URL."""
    application = web.Application(
        middlewares=(refuse_others(), *middlewares), client_max_size=_LARGEST_BODY_BYTES
    )
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_S)
    listening = listening or socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    loop = LoopThread("web", _THREADS)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, listening, ssl_context=tls).start()

    try:
        loop.run(start(), _START_S)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        loop.run(runner.cleanup(), _START_S)
        loop.stop()
