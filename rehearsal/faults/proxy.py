"""A front: a reverse proxy on loopback that rules may make misbehave. Used only where faults are.

It hands requests on as they come and answers as they are given, streams line by line. What the
rules may do to a request: change it, answer in the server's place, let it wait, reset its
connection, and see each line of a stream on its way back. HTTP/1.1, a thread a connection.
"""

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

_TIMEOUT_S = 600.0
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding"}
"""Headers of one connection, and one whose effect would be that lines cannot be read."""

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
        """Without the query."""
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


class ConnectionReset(Exception):
    """Raised by rules: the client's connection is to be reset."""


class Rules(Protocol):
    """What a front does beside handing on. Called from many threads."""

    def before(self, request: Request) -> Request | Answer:
        """The request to hand on, or the answer to give; may take its time.

        Raises:
            ConnectionReset: instead of any answer.
        """

    def open_stream(self, request: Request, emit: Emit, close: Callable[[], None]) -> Emit | None:
        """What takes each line of the answer and emits it; None for an answer that is no stream.

        Args:
            request: that is answered.
            emit: sends a line to the client; from any thread.
            close: cuts the stream off; from any thread.
        """

    def body(self, request: Request, body: bytes) -> bytes:
        """The body of an answer that is no stream, as it is to arrive."""


class Front:
    """A running front.

    Args:
        host: of the server behind.
        port: of the server behind.
        rules: what it does beside handing on.
        listen: address to listen on, `port` 0 for any free one.
        tls: how the client is met; None for plain HTTP.
        upstream_tls: how the server behind is met; None for plain HTTP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rules: Rules,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
        upstream_tls: ssl.SSLContext | None = None,
    ) -> None:
        def connect() -> http.client.HTTPConnection:
            if upstream_tls is None:
                return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=upstream_tls)

        handler = type("Handler", (_Handler,), {"rules": rules, "connect": staticmethod(connect)})
        self._server = _Server(listen, handler)
        self._server.tls = tls
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """host:port that it listens on."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def stop(self) -> None:
        """Take no more connections; those that are open end with the server behind."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, so that a slow client stops nobody."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client or the server behind went away: nobody is left to tell."""


class _Stream:
    """An answer that goes to the client line by line, from several threads."""

    def __init__(self, out: Any, cut_upstream: Callable[[], None]) -> None:
        self._out = out
        self._cut_upstream = cut_upstream
        self._guard = threading.Lock()
        self._over = False

    def emit(self, line: bytes) -> None:
        """Send a line, unless the stream is over."""
        with self._guard:
            if self._over:
                return
            try:
                self._out.write(b"%x\r\n%b\r\n" % (len(line), line))
            except OSError:  # the client has gone
                self._over = True
                self._cut_upstream()

    def cut(self) -> None:
        """Break it off."""
        with self._guard:
            self._over = True
        self._cut_upstream()

    def end(self) -> bool:
        """End it in good order; False if it was broken off before."""
        with self._guard:
            if self._over:
                return False
            self._over = True
            self._out.write(b"0\r\n\r\n")
            return True


class _Handler(BaseHTTPRequestHandler):
    rules: Rules
    connect: Callable[[], http.client.HTTPConnection]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Nothing is logged here: the server behind has its own log."""

    def finish(self) -> None:
        """The client's connection ends, and the one to the server with it."""
        if self._upstream:
            self._upstream.close()
        with suppress(OSError):
            super().finish()

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        request = Request(self.command, self.path, self.rfile.read(length))
        try:
            decided = self.rules.before(request)
            if isinstance(decided, Answer):
                self._give(decided.status, decided.headers, decided.body)
            else:
                self._hand_on(decided)
        except ConnectionReset:
            self._reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _handle  # noqa: N815

    def _hand_on(self, request: Request) -> None:
        answer = self._ask(request)
        stream = _Stream(self.wfile, self._cut_upstream)
        take = self.rules.open_stream(request, stream.emit, stream.cut)
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if take is None:
            content = answer.read()
            if request.method == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length", "0")
            self._give(answer.status, headers, self.rules.body(request, content))
            return
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError, http.client.HTTPException, ValueError):
            while line := answer.readline():
                take(line)
        if not stream.end():
            raise ConnectionReset

    def _cut_upstream(self) -> None:
        if self._upstream and self._upstream.sock:
            with suppress(OSError):
                self._upstream.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, request: Request) -> http.client.HTTPResponse:
        """Ask the server behind, on a new connection where the kept one has gone stale."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        for fresh in (False, True):
            if fresh or self._upstream is None:
                self._upstream = self.connect()
            try:
                self._upstream.request(request.method, request.target, request.body, headers)
                return self._upstream.getresponse()
            except (http.client.HTTPException, OSError):
                self._upstream.close()
                if fresh:
                    raise ConnectionReset from None
        raise AssertionError("the loop above returns or raises")

    def _give(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # `unwrap` of TLS would say goodbye first: the bare socket is closed under it.
            socket.socket(fileno=self.connection.detach()).close()
