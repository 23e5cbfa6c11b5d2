from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster.admin import ClusterAdmin, ClusterError, ConflictError, NotThereError
from rehearsal.cluster.certificates import certify_administrator, make_authority
from rehearsal.cluster.control_plane import LocalControlPlane

LIST = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"uid": "u"}}]}
ADDED = {"type": "ADDED", "object": {"metadata": {"uid": "v"}}}


class FakeApiServer(ThreadingHTTPServer):
    """Answers lists with LIST and watches with the given status and lines; counts connections."""

    daemon_threads = True
    request_queue_size = 64
    connections = 0
    status = 200
    watched = b""
    barrier = threading.Barrier(1)


class Handler(BaseHTTPRequestHandler):
    server: FakeApiServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        is_watch = "watch=true" in self.path
        if not is_watch:
            self.server.barrier.wait(10)
        self._answer(*((self.server.status, self.server.watched) if is_watch else (200, LIST)))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.status, b"because")

    def _answer(self, status: int, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeApiServer, ClusterAdmin]]:
    authority = make_authority()
    server = FakeApiServer(("127.0.0.1", 0), Handler)
    folder = tmp_path_factory.mktemp("cluster")
    plane = LocalControlPlane(folder, server.server_port, "v1.34.1", authority)
    pki: Path = plane.authority.parent
    pki.mkdir(parents=True)
    authority.write(pki, "ca")
    certify_administrator(authority).write(pki, "admin")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(plane.admin_certificate, plane.admin_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    admin = ClusterAdmin(plane)
    yield server, admin
    admin.close()
    server.shutdown()
    server.server_close()


Plane = tuple[FakeApiServer, ClusterAdmin]


@pytest.mark.parametrize(
    ("status", "watched", "refused"),
    [
        (429, b"Too many requests, please try again later.", "refused to watch /api/v1/pods: 429"),
        (410, json.dumps({"kind": "Status", "code": 410}).encode(), "refused to watch"),
        (200, json.dumps({"kind": "Status", "code": 500}).encode() + b"\n", "The watch of"),
        (200, b"not JSON\n", "The watch of"),
    ],
)
def test_a_watch_that_is_refused_is_an_error_that_its_thread_handles(
    plane: Plane, status: int, watched: bytes, refused: str
) -> None:
    server, admin = plane
    server.status, server.watched = status, watched
    for watch in (admin.pods_in_motion(5), admin.changes("/api/v1/pods", 5)):
        next(watch)
        with pytest.raises(ClusterError, match=refused):
            next(watch)


def test_a_watch_gives_changes_and_ends_when_its_version_is_too_old(plane: Plane) -> None:
    server, admin = plane
    error = {"type": "ERROR", "object": {"code": 410}}
    deleted = {"type": "DELETED", "object": {"metadata": {"uid": "u"}}}
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in (ADDED, deleted, error))
    server.status, server.watched = 200, lines
    uids = [[pod["metadata"]["uid"] for pod in pods] for pods in admin.pods_in_motion(5)]
    assert uids == [["u"], ["u", "v"], ["v"]]
    kinds = [kind for kind, _ in admin.changes("/api/v1/pods", 5)]
    assert kinds == ["ADDED", "ADDED", "DELETED"]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotThereError), (409, ConflictError), (500, ClusterError)]
)
def test_a_refused_write_is_an_error_of_its_kind(
    plane: Plane, status: int, error: type[ClusterError]
) -> None:
    server, admin = plane
    server.status = status
    with pytest.raises(error):
        admin.add_node({})


def test_connections_are_kept_for_all_threads_of_the_fleet(plane: Plane) -> None:
    server, admin = plane
    server.barrier, threads = threading.Barrier(20), ThreadPoolExecutor(20)
    with threads:
        for _ in range(2):
            before = server.connections
            list(threads.map(lambda _: admin.nodes(""), range(20)))
    server.barrier = threading.Barrier(1)
    assert server.connections == before
