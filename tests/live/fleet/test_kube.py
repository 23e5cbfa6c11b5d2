"""The runner's Kubernetes client against a real API server: expiring tokens, compacted versions."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import yaml

from experiment import tokens
from experiment.cluster_lease import ensure_namespace
from experiment.errors import MeasureError
from experiment.kube import Kube, Obj
from experiment.measure import reflector
from experiment.measure.job_manifest import canary_event
from experiment.measure.reflector import ListWatch, Reflector
from infra.components.cluster import kubeconfig
from rehearsal.cluster import control_plane
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.machine import processes, web
from rehearsal.machine.home import Home
from rehearsal.machine.programs import AUTH_PLUGIN, write_plugin
from rehearsal.machine.tokens import PATH, token_route
from schema.names import JOB_NAMESPACE
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(1200)]

EVENTS = f"/api/v1/namespaces/{JOB_NAMESPACE}/events"


@dataclass
class Site:
    """A control plane, and the rehearsal's review of its tokens."""

    plane: LocalControlPlane
    home: Home
    ahead_s: float = 0.0
    """Of the reviewer's clock."""

    @property
    def kubeconfig(self) -> str:
        """As `infra` writes it, with the rehearsal's plugin."""
        authority = base64.b64encode(self.plane.authority.read_bytes()).decode()
        text = kubeconfig("c", self.plane.public.endpoint, authority)
        return text.replace(
            f"command: {AUTH_PLUGIN}", f"command: {self.home.programs / AUTH_PLUGIN}"
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    home = Home(folder / "home")
    home.folder.mkdir()
    write_plugin(home)
    sites: list[Site] = []
    reviews = token_route(home, lambda: time.time() + sum(site.ahead_s for site in sites))
    try:
        with web.serving([reviews]) as url:
            plane = control_plane.start(folder / "cluster", reviewer=url.rstrip("/") + PATH)
            sites.append(Site(plane, home))
            yield sites[0]
    finally:
        processes.stop(folder)


def test_a_token_that_has_ended_is_refused_and_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    run = tokens.run_plugin

    def counted(*arguments: Any) -> Any:
        token = run(*arguments)
        fetched.append(token.value if token else "")
        return token

    monkeypatch.setattr("experiment.kubeconfig.run_plugin", counted)
    with closing(Kube(site.kubeconfig)) as kube:
        version = kube.server_version()
        until(lambda: len(set(fetched)) > 1, 60, "a new token is fetched in the background")
        assert kube.server_version() == version
        site.ahead_s = 60
        try:
            # the API server remembers for 10 s that a token was valid
            until(lambda: _is_refused(kube), 20, "a token that has ended is refused")
        finally:
            site.ahead_s = 0
        until(lambda: not _is_refused(kube), 10, "a valid token is accepted")


def _is_refused(kube: Kube) -> bool:
    try:
        kube.nodes("")
    except MeasureError as error:
        return "does not accept the login" in error.problem
    return False


def compact(plane: LocalControlPlane, version: int) -> None:
    """Let etcd forget all that is older, as kube-apiserver does every five minutes."""
    port = yaml.safe_load((plane.folder / "kwokctl.yaml").read_text())["options"]["etcdPort"]
    pki = next(plane.folder.rglob("etcd-ca.crt")).parent
    files = (pki / name for name in ("etcd-ca.crt", "etcd.key", "etcd.crt"))
    login = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    # CompactionRequest of etcd's rpc.proto: revision is field 1, physical is field 2.
    request = b"\x08" + varint(version) + b"\x10\x01"
    with grpc.secure_channel(f"127.0.0.1:{port}", login) as channel:
        call: Any = channel.unary_unary("/etcdserverpb.KV/Compact")
        call(request, timeout=20)


def varint(number: int) -> bytes:
    """Encode a number as protobuf does."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


class Watched:
    """What a reflector reports of events, and how often it lists them."""

    def __init__(self, kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.gaps: list[Any] = []
        self.lists = 0
        listed = kube.list

        def counted(*arguments: Any) -> Obj:
            self.lists += 1
            return listed(*arguments)

        monkeypatch.setattr(kube, "list", counted)
        what = ListWatch("events", EVENTS, events=True)
        self.reflector = Reflector(kube, what, self.see, lambda *gap: self.gaps.append(gap))

    def see(self, _change: str, event: Obj) -> None:
        self.seen.append(event["metadata"]["name"])


@pytest.mark.parametrize(("watch_s", "idle_s"), [((1, 1), 5), (reflector._WATCH_S, 12 * 60)])
def test_a_watch_that_was_idle_while_etcd_was_compacted_loses_nothing_and_has_no_gap(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    watch_s: tuple[int, int],
    idle_s: float,
) -> None:
    monkeypatch.setattr(reflector, "_WATCH_S", watch_s)
    monkeypatch.setattr(reflector, "_EARLY_S", min(5, watch_s[0] / 2))
    with closing(Kube(site.kubeconfig)) as kube:
        ensure_namespace(kube)
        watched = Watched(kube, monkeypatch)
        try:
            names = [f"event-{watch_s[0]}-{number}" for number in range(2)]
            kube.create_event(canary_event("run", names[0], "2026-11-24T12:00:00Z"))
            until(lambda: names[0] in watched.seen)
            time.sleep(idle_s / 2)
            listed = kube.list("/api/v1/namespaces", {})
            compact(site.plane, int(listed["metadata"]["resourceVersion"]))
            time.sleep(idle_s / 2)
            until(lambda: watched.lists >= 3, 30, "the events are listed again")
            kube.create_event(canary_event("run", names[1], "2026-11-24T12:00:00Z"))
            until(lambda: names[1] in watched.seen)
        finally:
            watched.reflector.close()
        assert watched.reflector.failure is None
        assert [watched.seen.count(name) for name in names] == [1, 1]
        assert watched.gaps == []
