"""A cluster ends by itself at its deadline; a killed `up` of a real one leaves no orphan."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_settings import stack_facts
from rehearsal.google.environment import PROJECT
from rehearsal.machine import processes
from schema.project_files import PROJECT_DIR
from tests.live.harness import ROOT, Place, await_exit, children, kill, needs_real_nodes
from tests.live.stack.rig import UP
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

STACK = "one"
SETTINGS = """
config:
  pull-study:nodeCount: "1"
encryptionsalt: v1:GLaoFvNotSg=:v1:mQZYjTQiYfnzah9x:rbuc03MEE1eMxsJ3BN8M9TrlL/3tIA==
"""
JOBS = f"scheduler/v1/projects/{PROJECT}/locations/us-central1/jobs"


@dataclass(frozen=True)
class OneNode:
    """A stack of one node in a running rehearsal."""

    place: Place

    def work_dir(self) -> Path:
        """Fresh copies of the stack's files."""
        work = self.place.folder / f"work-{time.monotonic_ns()}"
        (work / "infra").mkdir(parents=True)
        (work / "Pulumi.yaml").write_bytes((PROJECT_DIR / "Pulumi.yaml").read_bytes())
        (work / f"Pulumi.{STACK}.yaml").write_text(SETTINGS)
        return work

    def cluster(self) -> StackCluster:
        """The stack's cluster, in this process."""
        work = self.work_dir()
        return StackCluster(STACK, work, stack_facts(STACK, work), lambda _line: None)

    def resources(self) -> list[str]:
        """What the local Google lists, without the archive, which stays."""
        lists = {
            f"container/v1beta1/projects/{PROJECT}/locations/-/clusters": "clusters",
            f"iam/v1/projects/{PROJECT}/serviceAccounts": "accounts",
            JOBS: "jobs",
        }
        return [
            f"{name} {each['name']}"
            for path, name in lists.items()
            for each in self.place.call("GET", path).get(name, [])
        ]

    def processes(self) -> list[int]:
        """Of all clusters."""
        return list(processes.running(self.place.home.clusters))

    def expect_deleted(self) -> None:
        """Expect no process, and that the next command copes with a state that knows more."""
        until(lambda: not self.processes(), 20, "the cluster's processes end")
        assert not any(self.place.home.clusters.iterdir())
        assert self.cluster().repair() is Presence.PARTS
        self.cluster().teardown()
        assert self.resources() == []


def test_the_schedulers_job_deletes_the_cluster_with_its_control_plane(simulated: Place) -> None:
    one = OneNode(simulated)
    with simulated.entered():
        one.cluster().provision()
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in one.processes()}
        assert {"kube-apiserver", "etcd"} <= names
        job, _next_day = simulated.call("GET", JOBS)["jobs"]
        simulated.call("POST", f"scheduler/v1/{job['name']}:run", {})
        until(lambda: not simulated.clusters(), 60, "the job deletes the cluster")
        one.expect_deleted()


@pytest.mark.full
@needs_real_nodes
def test_a_runner_killed_while_it_brings_real_nodes_up_leaves_no_orphan(place: Place) -> None:
    with place.session() as inside, inside.entered():
        one = OneNode(inside)
        maker = subprocess.Popen(
            [sys.executable, "-c", UP, str(one.work_dir()), STACK, "up"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert maker.stdin
        assert maker.stdout
        with maker.stdin, maker.stdout:
            maker.stdin.write("go\n")
            maker.stdin.flush()
            next(line for line in maker.stdout if "create NodePool measured ..." in line)
            cli = children(maker.pid)
            kill(maker.pid)
            maker.wait(20)
        assert cli
        for pid in cli:
            await_exit(pid)
        assert one.resources()
        one.cluster().recover(resumed=False)
        assert one.resources() == []
        assert one.processes() == []
    place.expect_nothing_left()
