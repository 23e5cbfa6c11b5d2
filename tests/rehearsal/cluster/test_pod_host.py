"""The supervision of a pod's program, with a script in the exporter's place and no cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster import exporter
from rehearsal.cluster.admin import ClusterAdmin, ServiceAccountToken
from rehearsal.cluster.certificates import make_authority
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.cluster.kubernetes import NotThereError, Object
from rehearsal.cluster.pod_host import PodHost, PodSite, container_of, map_path
from rehearsal.machine import processes
from tests.until import until
from tools.programs import Located

KEY = ClusterKey("p", "us-central1-a", "c")
EXPORTER = exporter.exporter(lambda text: text)
CONFIG = {"config.yaml": "logLevel: info\n"}


class Cluster(ClusterAdmin):
    """A fake of a cluster with these pods."""

    def __init__(self, pods: list[Object]) -> None:
        self.pods = pods
        self.data: dict[str, str] | None = CONFIG
        self.lifetime_s = 3607.0
        self.tokens = 0
        self.statuses: list[tuple[str, bool, int]] = []

    def pods_in_motion(self) -> Iterator[list[Object]]:
        time.sleep(0.02)
        yield list(self.pods)

    def virtual_nodes(self) -> set[str]:
        return {"virtual"}

    def config_map(self, namespace: str, name: str) -> dict[str, str]:
        if self.data is None:
            raise NotThereError(f"{namespace}/{name} is not in the cluster")
        return self.data

    def service_account_token(self, pod: Object) -> ServiceAccountToken:
        self.tokens += 1
        expires = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        return ServiceAccountToken(f"token-{self.tokens}", expires)

    def set_container_status(self, pod: Object, statuses: list[Object], *, ready: bool) -> None:
        (status,) = statuses
        (state,) = status["state"]
        self.statuses.append((state, ready, status["restartCount"]))


class Scene:
    """A host over such a cluster."""

    def __init__(
        self, folder: Path, pods: list[Object], configure: Callable[[str], str] = lambda text: text
    ) -> None:
        self.folder = folder
        self.cluster = Cluster(pods)
        self.lines: list[LogLine] = []
        self.said: list[str] = []
        plane = LocalControlPlane(folder, 6443, "v1.34.1", make_authority())
        write, say = self.lines.append, self.said.append
        programs = (exporter.exporter(configure),)
        self.host = PodHost(PodSite(KEY, plane, self.cluster, write, say, programs, 0.1))

    def texts(self, stream: str = "stdout") -> list[str]:
        return [line.text for line in self.lines if line.stream == stream]


def pod(uid: str = "u", node: str = "virtual", *, token: bool = True) -> Object:
    sources = [{"serviceAccountToken": {"path": "token"}}] if token else []
    container = {
        "name": "exporter",
        "image": "ghcr.io/resmoio/kubernetes-event-exporter:v1.6.1",
        "args": ["-conf=/data/config.yaml"],
        "volumeMounts": [
            {"name": "config", "mountPath": "/data"},
            {"name": "api", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": "exporter"}},
        {"name": "api", "projected": {"sources": sources}},
    ]
    return {
        "metadata": {"name": f"exporter-{uid}", "namespace": "monitoring", "uid": uid},
        "spec": {"nodeName": node, "containers": [container], "volumes": volumes},
    }


Play = Callable[..., Scene]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Start a scene in which the exporter is the given script."""
    scenes: list[Scene] = []

    def start(script: str, *pods: Object, **changes: Any) -> Scene:
        program = tmp_path / "exporter"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        found = Located("kubernetes-event-exporter", program, "1.6.1", "cache")
        monkeypatch.setattr(exporter, "locate", lambda _: found)
        configure = changes.pop("configure", lambda text: text)
        scene = Scene(tmp_path / "cluster", list(pods), configure)
        for name, value in changes.items():
            setattr(scene.cluster, name, value)
        scene.host.start()
        scenes.append(scene)
        return scene

    yield start
    for scene in scenes:
        scene.host.stop()
    processes.stop(tmp_path)


def test_every_line_is_forwarded_with_the_pod_s_names(play: Play) -> None:
    scene = play("echo out; echo err >&2; printf 'caf\\303\\251'; exec sleep 100", pod())
    until(lambda: scene.texts() and scene.texts("stderr"))
    (line,) = (line for line in scene.lines if line.text == "out")
    assert (line.cluster, line.namespace_name) == (KEY, "monitoring")
    assert (line.pod_name, line.container_name) == ("exporter-u", "exporter")
    assert scene.texts("stderr") == ["err"]
    assert datetime.now(UTC) - line.at < timedelta(minutes=1)


PRINT = 'for each; do case $each in -conf=*) cat "${each#-conf=}";; *) echo "$each";; esac; done'


def test_a_pod_without_a_token_gets_none_and_its_configuration_can_be_changed(play: Play) -> None:
    changed = play(
        f"{PRINT}; exec sleep 100", pod(token=False), configure=lambda text: text.upper()
    )
    assert until(changed.texts)[0] == "LOGLEVEL: INFO"
    until(lambda: len(changed.texts()) == 3)
    own = [text.partition("=")[0] for text in changed.texts()[1:]]
    assert own == ["-metrics-address", "-metrics-tls-config"]
    assert changed.cluster.tokens == 0


def test_a_token_is_renewed_before_it_expires_and_the_process_goes_on(play: Play) -> None:
    scene = play("echo up; exec sleep 100", pod(), lifetime_s=0.5)
    until(lambda: scene.cluster.tokens >= 3)
    folder = scene.folder / "pods" / "u"
    until(lambda: (folder / "token").read_text() == f"token-{scene.cluster.tokens}")
    assert scene.texts() == ["up"]
    assert len(processes.running(folder)) == 1


def test_a_crash_is_shown_and_the_process_restarted_with_back_off(play: Play) -> None:
    scene = play("echo up; exit 3", pod())
    until(lambda: len(scene.texts()) >= 3)
    assert "it ended with code 3; it starts again in 0 s" in "".join(scene.said)
    assert scene.cluster.statuses[:3] == [
        ("waiting", False, 1),
        ("running", True, 1),
        ("waiting", False, 2),
    ]


def test_a_killed_program_stays_down_as_long_as_it_is_told(play: Play) -> None:
    scene = play("echo up; exec sleep 100", pod())
    until(scene.texts)
    assert [scene.host.kill(name, 1000.0) for name in ("another", exporter.NAME)] == [0, 1]
    until(lambda: any("it starts again in 1000 s" in line for line in scene.said))
    assert scene.texts() == ["up"]


def test_a_missing_configuration_is_waited_for(play: Play) -> None:
    scene = play("echo up; exec sleep 100", pod(), data=None)
    until(lambda: any("monitoring/exporter is not in the cluster" in line for line in scene.said))
    scene.cluster.data = CONFIG
    assert until(scene.texts) == ["up"]


def test_a_process_ends_with_its_pod_and_leaves_no_file(play: Play) -> None:
    scene = play("echo up; exec sleep 100", pod("one"), pod("other"), pod("real", node="real"))
    until(lambda: len(scene.texts()) == 2)
    scene.cluster.pods.pop(0)
    until(lambda: not (scene.folder / "pods" / "one").exists())
    assert processes.running(scene.folder / "pods" / "one") == []
    assert len(processes.running(scene.folder / "pods" / "other")) == 1
    # the kubelet of a real node runs its pods itself
    assert {line.pod_name for line in scene.lines} == {"exporter-one", "exporter-other"}


@pytest.mark.parametrize(
    "image",
    ["r.io/a/kubernetes-event-exporter", "r:5000/kubernetes-event-exporter:v1@sha256:1"],
)
def test_a_program_is_known_by_the_end_of_its_image_s_repository(image: str) -> None:
    found = pod()
    found["spec"]["containers"][0]["image"] = image
    assert container_of(found, EXPORTER)
    found["spec"]["containers"][0]["image"] = image.replace("/kube", "/my-kube")
    assert container_of(found, EXPORTER) is None


def test_a_program_s_container_is_that_of_a_bound_pod_that_is_not_deleted() -> None:
    other = {"name": "other", "image": "x"}
    found = pod()
    found["spec"]["containers"].insert(0, other)
    assert (container_of(found, EXPORTER) or {})["name"] == "exporter"
    without, deleted, unbound = pod(), pod(), pod(node="")
    without["spec"]["containers"] = [other]
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert [container_of(each, EXPORTER) for each in (without, deleted, unbound)] == [None] * 3


@pytest.mark.parametrize(
    ("argument", "mapped"),
    [
        ("-conf=/data/config.yaml", "-conf=/v/0/config.yaml"),
        ("--conf=/data/deep/config.yaml", "--conf=/v/1/config.yaml"),
        ("/data", "/v/0"),
        ("-conf=/database/x", "-conf=/database/x"),
        ("-level=debug", "-level=debug"),
        ("plain", "plain"),
    ],
)
def test_paths_of_volumes_are_mapped_to_their_folders(argument: str, mapped: str) -> None:
    mounts = {"/data": Path("/v/0"), "/data/deep": Path("/v/1")}
    assert map_path(mounts, argument) == mapped


def test_what_the_program_does_not_declare_is_refused(play: Play) -> None:
    other = pod()
    other["spec"]["containers"][0]["env"] = [{"name": "LEVEL", "value": "debug"}]
    scene = play("echo up", other)
    until(lambda: any("does not imitate env of its container" in line for line in scene.said))
