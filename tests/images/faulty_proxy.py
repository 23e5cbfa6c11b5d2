"""Stands between a client and a real registry and behaves as networks and other registries do."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Fault:
    """What happens to the next request that matches, or to all."""

    method: str
    path: str
    """Part of the path."""
    status: int = 0
    """Answer with this."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the answer; they replace those of the registry."""
    forward: bool = False
    """Let the registry do it before answering with another status."""
    answers: int = 0
    """Only if the registry's answer has this status."""
    body: bytes = b""
    cut_after: int = -1
    """Break the connection after this many bytes of the request's body."""
    cut_answer: int = -1
    """Send this many bytes of the answer's body, then break the connection."""
    lose_answer: bool = False
    """Let the registry do it, then break the connection instead of answering."""
    always: bool = False


@dataclass
class Proxy:
    """The proxy's name, what is to fail, and what came by."""

    name: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""
    authorizations: list[str | None] = field(default_factory=list)
    body_bytes: int = 0
    """Bytes of bodies passed on to the registry."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, method: str, path: str, status: int = 0) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                matches = fault.method == method and fault.path in path
                if matches and fault.answers in {0, status}:
                    if not fault.always:
                        self.faults.remove(fault)
                    return fault
        return None

    def methods(self) -> list[str]:
        return [line.split()[0] for line in self.seen]


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *args: object) -> None:
        pass


class _Handler(QuietHandler):
    """Passes requests on, one by one; a subclass says for which proxy."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy
    upstream: str

    def handle_any(self) -> None:
        self.proxy.seen.append(f"{self.command} {self.path}")
        self.proxy.authorizations.append(self.headers.get("Authorization"))
        fault = self.proxy.find(self.command, self.path)
        cut_after = fault.cut_after if fault else -1
        body = self._body(cut_after)
        if cut_after >= 0:
            self._break()
        elif fault and fault.status and not fault.forward:
            self._send(fault.status, {}, fault.body, fault)
        else:
            with self.proxy.lock:
                self.proxy.body_bytes += len(body)
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        names = {key for key in self.headers if key.lower() not in _HOP}
        sent = {key: ", ".join(self.headers.get_all(key, [])) for key in names}
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, sent)
            answer = connection.getresponse()
            content = answer.read()
        if fault and fault.lose_answer:
            self._break()
            return
        fault = fault or self.proxy.find(self.command, self.path, answer.status)
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        self._send((fault and fault.status) or answer.status, headers, content, fault)

    def _send(
        self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None
    ) -> None:
        headers = {"Content-Length": str(len(content)), **headers}
        headers |= fault.headers if fault else {}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and content:
            cut = fault.cut_answer if fault else -1
            self.wfile.write(content if cut < 0 else content[:cut])
            if cut >= 0:
                self._break()

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self, most: int) -> bytes:
        """The body, or about so many bytes of it."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = bytearray()
        while size := int(self.rfile.readline() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if 0 <= most < len(body):
                return bytes(body)
        self.rfile.readline()
        return bytes(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815


@contextlib.contextmanager
def run_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of a registry until the block ends."""
    proxy = Proxy("")
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": upstream})
    with serve(handler) as name:
        proxy.name = name
        yield proxy


@contextlib.contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on loopback until the block ends; yields host:port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
