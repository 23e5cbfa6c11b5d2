"""Blob uploads as the distribution specification 1.1 says them, in memory: they can be resumed.

For what Debian's docker-registry 2.8 cannot do, and for answers that no sound registry gives.
"""

import contextlib
import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.images.faulty_proxy import serve


@dataclass
class SpecRegistry:
    """What it holds."""

    name: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: SpecRegistry

    def do_HEAD(self) -> None:
        found = self.registry.blobs.get(self._last())
        self._answer(404 if found is None else 200, content=found or b"")

    def do_POST(self) -> None:
        name = uuid.uuid4().hex
        self.registry.uploads[name] = bytearray()
        self._answer(202, Location=f"{urlsplit(self.path).path}{name}")

    def do_PATCH(self) -> None:
        upload = self.registry.uploads[self._last()]
        with contextlib.suppress(ValueError, ConnectionError):
            while size := int(self.rfile.readline(), 16):
                while size and (piece := self.rfile.read1(size)):
                    upload += piece
                    size -= len(piece)
                self.rfile.readline()
            self.rfile.readline()
            self._status(202, upload)

    def do_GET(self) -> None:
        name = self._last()
        if name in self.registry.uploads:
            self._status(204, self.registry.uploads[name])
        else:
            self.do_HEAD()

    def do_PUT(self) -> None:
        upload = self.registry.uploads.pop(self._last())
        upload += self.rfile.read(int(self.headers.get("Content-Length", "0")))
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(upload).hexdigest()}":
            self._answer(400)
            return
        self.registry.blobs[digest] = bytes(upload)
        self._answer(201, Digest=digest)

    def log_message(self, *args: object) -> None:
        pass

    def _last(self) -> str:
        return re.split("/", urlsplit(self.path).path)[-1]

    def _status(self, code: int, upload: bytearray) -> None:
        self._answer(code, Location=urlsplit(self.path).path, Range=f"0-{max(len(upload) - 1, 0)}")

    def _answer(self, code: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextlib.contextmanager
def run_spec_registry() -> Iterator[SpecRegistry]:
    """Run one until the block ends."""
    registry = SpecRegistry()
    with serve(type("Handler", (_Handler,), {"registry": registry})) as name:
        registry.name = name
        yield registry
