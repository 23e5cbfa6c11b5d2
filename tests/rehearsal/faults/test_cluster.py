"""Faults of a cluster with fake parts; `make chaos` runs them on a real one."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.cluster import control_plane
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.certificates import certify_administrator, make_authority
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.fleet import ClusterKey, LogLine
from rehearsal.cluster.kubernetes import ClusterError, Object
from rehearsal.cluster.pod_host import PodHost
from rehearsal.faults.cluster import ClusterFaults, FaultSite
from rehearsal.faults.faults import Faults
from rehearsal.faults.trials import Moment
from rehearsal.machine import processes
from rehearsal.machine.home import Home, write_json
from tests.rehearsal.faults.observed import event, line
from tests.until import until

KEY = ClusterKey("p", "us-central1-a", "c")


class Cluster(ClusterAdmin):
    """A fake with two measured nodes, which records what is done to them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []
        self.held: list[Object] = []

    def changes(self, path: str) -> Iterator[tuple[str, Object]]:
        time.sleep(0.05)
        yield from ()

    def nodes(self, selector: str) -> list[Object]:
        assert selector == "pull-study/measured=true"
        return [
            {
                "metadata": {"name": f"n-000{n}", "labels": {"a": "b"}, "uid": "u"},
                "spec": {
                    "providerID": "x",
                    "taints": [
                        {"key": "pull-study/measured", "effect": "NoSchedule"},
                        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
                    ],
                },
                "status": {"capacity": {}, "allocatable": {}, "nodeInfo": {}, "conditions": []},
            }
            for n in (1, 2)
        ]

    def remove_node(self, name: str) -> None:
        self.done.append(("remove", name))

    def add_node(self, node: Object) -> None:
        self.done.append(("add", node))

    def events(self, namespace: str) -> list[Object]:
        assert namespace == "pull-study"
        return self.held


class Hosted(PodHost):
    """A fake that records its calls."""

    def __init__(self) -> None:
        self.renewals = 0
        self.kills: list[tuple[str, float]] = []

    def renew(self, name: str) -> None:
        self.renewals += 1

    def kill(self, name: str, down_s: float = 0.0) -> int:
        self.kills.append((name, down_s))
        return 1


class Scene:
    def __init__(self, folder: Path, *texts: str) -> None:
        self.home = Home(folder)
        authority = make_authority()
        self.plane = LocalControlPlane(folder / "cluster", 1, "v1.34.1", authority)
        self.plane.authority.parent.mkdir(parents=True)
        self.plane.authority.write_bytes(authority.pem)
        certify_administrator(authority).write(self.plane.authority.parent, "admin")
        self.cluster, self.hosted = Cluster(), Hosted()
        self.said: list[str] = []
        self.lines: list[LogLine] = []
        self.events: list[dict[str, Any] | None] = []
        self.requested = Faults.read(texts)
        site = FaultSite(
            self.home,
            self.plane,
            self.cluster,
            self.lines.append,
            self.events.append,
            self.said.append,
        )
        self.faults = ClusterFaults(self.requested, site)
        self.faults.start(self.hosted)

    def release(self, trial: int = 1) -> None:
        for moment in (Moment.STAGED, Moment.RELEASED):
            self.faults._on_moment(moment, trial)

    def injected(self) -> list[dict[str, object]]:
        return until(lambda: self.requested.injected)


Play = Callable[..., Scene]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    scenes: list[Scene] = []

    def begin(*texts: str) -> Scene:
        scenes.append(Scene(tmp_path, *texts))
        return scenes[-1]

    yield begin
    for scene in scenes:
        scene.faults.stop()


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts a process that works for a folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start(part: Path) -> subprocess.Popen[bytes]:
        process = processes.start(["sleep", "60"], part, log=tmp_path / "log")
        started.append(process)
        # a process has no environment for a moment after its start
        until(lambda: process.pid in processes.running(part))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_without_faults_a_cluster_is_as_it_is(play: Play) -> None:
    scene = play()
    assert scene.faults.public == scene.plane.public
    assert scene.faults.exporter_configuration("a: b") == "a: b"
    assert scene.faults.registry("n-1", "127.0.0.1:5000") == "127.0.0.1:5000"
    scene.faults.write_log(line(event()))
    assert len(scene.lines) == 1


def test_the_api_server_has_a_proxy_only_where_a_fault_needs_one(play: Play) -> None:
    assert play("event:source=exporter").faults.public.endpoint == "127.0.0.1:1"


def test_a_trial_that_a_resumed_run_releases_again_has_its_fault_once(play: Play) -> None:
    scene = play("exporter:how=restart,trial=2")
    for _ in range(2):
        scene.release(2)
    scene.injected()
    time.sleep(0.05)
    assert scene.hosted.kills == [("exporter", 0.0)]


@pytest.mark.parametrize(("seconds", "down_s"), [("30", 30.0), ("0", math.inf)])
def test_an_operator_that_is_down_stays_down(play: Play, seconds: str, down_s: float) -> None:
    scene = play(f"operator-down:trial=1,s={seconds}")
    scene.release()
    assert scene.injected()[0]["processes"] == "1"
    assert scene.hosted.kills == [("Flux Operator (stand-in)", down_s)]


def test_an_exporter_with_defaults_lacks_the_settings_and_its_loss_is_written(play: Play) -> None:
    scene = play("exporter:how=defaults,trial=0")
    text = yaml.safe_dump({"maxEventAgeSeconds": 1200, "kubeQPS": 100, "logLevel": "warn"})
    assert yaml.safe_load(scene.faults.exporter_configuration(text)) == {"logLevel": "warn"}
    scene.faults.write_log(line(event(1)))
    scene.faults.write_log(line(event(9, namespace="monitoring")))
    pod = {"kind": "Pod"}
    scene.cluster.held = [
        {"metadata": {"uid": f"u-{n}"}, "involvedObject": pod} for n in (1, 2, 3)
    ] + [{"metadata": {"uid": "u-4"}, "involvedObject": {"kind": "Job"}}]
    scene.faults.stop()
    assert (scene.requested.injected[-1]["events"], scene.requested.injected[-1]["lost"]) == (
        "3",
        "2",
    )


def test_a_node_is_replaced_by_an_empty_one_of_its_name(play: Play) -> None:
    scene = play("node-deleted:replaced=1,node=1")
    scene.release()
    until(lambda: len(scene.cluster.done) == 2)
    (removed, (verb, node)) = scene.cluster.done
    assert (removed, verb) == (("remove", "n-0001"), "add")
    assert node["metadata"] == {"name": "n-0001", "labels": {"a": "b"}, "annotations": {}}
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["pull-study/measured"]
    assert "conditions" not in node["status"]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("scheduler-stalled", "The control plane"),
        ("process-killed:process=kube-scheduler", "The control plane"),
        ("node-deleted:node=7", "there is no measured node of this number"),
    ],
)
def test_what_is_not_there_is_reported_and_later_faults_are_injected(
    play: Play, fault: str, problem: str
) -> None:
    scene = play(fault, "exporter:how=restart,after=0.05")
    scene.release()
    assert [each["fault"] for each in scene.injected()] == ["exporter"]
    assert any(f"fault {fault} was not injected: {problem}" in each for each in scene.said)


def test_a_stopped_scheduler_goes_on_when_the_cluster_ends(
    play: Play,
    sleeper: Callable[[Path], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = play("scheduler-stalled:trial=1,s=60")
    pid = sleeper(scene.plane.folder).pid
    monkeypatch.setattr(control_plane, "pid_of", lambda _plane, _name: pid)
    scene.faults._on_moment(Moment.STAGED, 1)
    until(lambda: is_stopped(pid), why="it is stopped before the release")
    scene.faults._on_moment(Moment.RELEASED, 1)
    scene.faults.stop()
    until(lambda: not is_stopped(pid))


def test_the_runner_is_killed_if_it_is_still_the_same_process(
    play: Play, sleeper: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    scene = play("process-killed:trial=1", "process-killed:trial=2")
    runner = sleeper(scene.home.folder / "else")
    owner = {"pid": runner.pid, "started": processes.started(runner.pid)}
    write_json(scene.home.owner_file, {**owner, "started": 1})
    scene.release(1)
    time.sleep(0.1)
    assert runner.poll() is None
    write_json(scene.home.owner_file, owner)
    scene.release(2)
    scene.injected()
    assert runner.wait(5) == -signal.SIGKILL
    assert [each["process"] for each in scene.requested.injected] == ["runner"]


def test_a_loss_that_cannot_be_counted_is_reported(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = play("exporter:how=defaults")

    def gone(_: str) -> list[Object]:
        raise ClusterError("it does not answer")

    monkeypatch.setattr(scene.cluster, "events", gone)
    scene.faults.stop()
    assert "the loss by exporter:how=defaults is not known" in scene.said[-1]
