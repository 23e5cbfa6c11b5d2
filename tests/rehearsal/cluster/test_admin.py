from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rehearsal.cluster import kubernetes
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.certificates import certify_administrator, make_authority
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.kubernetes import ClusterError, ConflictError, NotThereError
from rehearsal.machine.web import serving

UID = {"metadata": {"uid": "u", "resourceVersion": "8"}}
LIST = {"metadata": {"resourceVersion": "7"}, "items": [UID]}
ADDED = {"type": "ADDED", "object": {"metadata": {"uid": "v", "resourceVersion": "9"}}}


def lines(*changes: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in changes)


class Api:
    """Lists have LIST; watches and writes have these answers in turn, the last for ever."""

    def __init__(self) -> None:
        self.listed = json.dumps(LIST).encode()
        self.answers: list[tuple[int, bytes]] = []
        self.requests = 0
        self.connections: set[Any] = set()
        self.barrier = asyncio.Barrier(1)

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET" and "watch" not in request.query:
            assert request.transport
            self.connections.add(request.transport.get_extra_info("peername"))
            await self.barrier.wait()
            return web.Response(body=self.listed)
        status, body = self.answers[min(self.requests, len(self.answers) - 1)]
        self.requests += 1
        return web.Response(status=status, body=body)


Scene = tuple[Api, ClusterAdmin]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    authority, api = make_authority(), Api()
    plane = LocalControlPlane(tmp_path, 0, "v1.34.1", authority)
    plane.pki.mkdir(parents=True)
    authority.write(plane.pki, "ca")
    certify_administrator(authority).write(plane.pki, "admin")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(plane.admin_certificate, plane.admin_key)
    with serving([web.route("*", "/{path:.*}", api.answer)], tls=tls) as url:
        port = int(url.rpartition(":")[2])
        admin = ClusterAdmin(LocalControlPlane(tmp_path, port, "v1.34.1", authority))
        yield api, admin
        admin.close()


@pytest.mark.parametrize(
    ("status", "watched", "refused"),
    [
        (429, b"Too many requests, please try again later.", "refused watch /api/v1/pods: 429"),
        (410, lines({"kind": "Status", "message": "too old"}), "refused watch .*: 410 too old"),
        (200, lines({"kind": "Status", "code": 500}), "The watch of"),
        (200, b"not JSON\n", "The watch of"),
    ],
)
def test_a_watch_that_is_refused_is_an_error_that_its_thread_handles(
    scene: Scene, status: int, watched: bytes, refused: str
) -> None:
    api, admin = scene
    api.answers = [(status, watched)]
    watch = admin.changes("/api/v1/pods")
    next(watch)
    with pytest.raises(ClusterError, match=refused):
        next(watch)


@pytest.mark.parametrize("listed", [b"not JSON", b'{"kind": "Status"}'])
def test_a_list_that_cannot_be_read_is_an_error_that_its_thread_handles(
    scene: Scene, listed: bytes
) -> None:
    api, admin = scene
    api.listed = listed
    with pytest.raises(ClusterError, match="The list of /api/v1/pods is"):
        next(admin.changes("/api/v1/pods"))


def test_a_watch_goes_on_where_it_ended_until_its_version_is_too_old(scene: Scene) -> None:
    api, admin = scene
    error, deleted = {"type": "ERROR", "object": {"code": 410}}, {"type": "DELETED", "object": UID}
    api.answers = [(200, lines(ADDED)), (200, lines(deleted, error))]
    kinds = [kind for kind, _ in admin.changes("/api/v1/pods")]
    assert kinds == ["ADDED", "ADDED", "DELETED"]
    api.requests = 0
    uids = [[pod["metadata"]["uid"] for pod in pods] for pods in admin.pods_in_motion()]
    assert uids == [["u"], ["u", "v"], ["v"]]


@pytest.mark.parametrize(
    ("answers", "tries", "error"),
    [
        ([503] * 9 + [429, 201], None, None),
        ([503, 503, 500], 3, ClusterError),
        ([403], None, ClusterError),
        ([404], None, NotThereError),
        ([409], None, ConflictError),
    ],
)
def test_a_request_is_repeated_while_the_server_is_unavailable(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[int],
    tries: int | None,
    error: type[ClusterError] | None,
) -> None:
    monkeypatch.setattr(kubernetes, "_LONGEST_WAIT_S", 0.01)
    api, admin = scene
    api.answers = [(status, b"because") for status in answers]
    problem = f"refused POST /x: {answers[-1]} because"
    with pytest.raises(error, match=problem) if error else nullcontext():
        admin._loop.run(admin._client.request("POST", "/x", {}, tries=tries))
    assert api.requests == len(answers)


@pytest.mark.parametrize("status", [404, 409])
def test_a_kubelet_s_write_about_a_deleted_or_existing_object_is_no_error(
    scene: Scene, status: int
) -> None:
    api, admin = scene
    api.answers = [(status, b"")]
    admin._loop.run(admin._client.send("POST", "/x", {}))


def test_connections_are_kept_for_all_threads_of_the_fleet(scene: Scene) -> None:
    api, admin = scene
    api.barrier, threads = asyncio.Barrier(20), ThreadPoolExecutor(20)
    with threads:
        for _ in range(2):
            list(threads.map(lambda _: admin.nodes(""), range(20)))
    assert len(api.connections) == 20


def test_a_watch_ends_with_its_client(scene: Scene) -> None:
    api, admin = scene
    api.answers = [(200, b"")]
    watch = admin.changes("/api/v1/pods")
    next(watch)
    closing = threading.Timer(0.1, admin.close)
    closing.start()
    with pytest.raises(ClusterError):
        next(watch)
    closing.join()
    with pytest.raises(ClusterError, match="closed"):
        admin.nodes("")
