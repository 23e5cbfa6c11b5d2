"""On a real control plane: a forgotten cluster ends by itself, a killed `up` leaves no orphan."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_files import PROJECT_DIR, set_deadline
from experiment.provision.stack_settings import stack_facts
from rehearsal.google.environment import PROJECT
from rehearsal.machine import processes, requirements
from rehearsal.machine.home import HOME_VARIABLE, Home
from rehearsal.session import session
from schema.names import REHEARSAL_VARIABLE
from tests.infra.stack_files import ROOT
from tests.live.recovery_bed import UP, children, gone, kill

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(requirements.obstacles(Path("/var/lib"))), reason="this machine cannot run real nodes"
    ),
]

STACK = "one"
SETTINGS = """
config:
  pull-study:nodeCount: "1"
encryptionsalt: v1:GLaoFvNotSg=:v1:mQZYjTQiYfnzah9x:rbuc03MEE1eMxsJ3BN8M9TrlL/3tIA==
"""


@dataclass(frozen=True)
class Place:
    """A rehearsal that is under way, and a stack of one real node."""

    home: Home
    folder: Path
    google: str

    def work_dir(self) -> Path:
        """Fresh copies of the stack's files."""
        work = self.folder / f"work-{time.monotonic_ns()}"
        (work / "infra").mkdir(parents=True)
        (work / "Pulumi.yaml").write_bytes((PROJECT_DIR / "Pulumi.yaml").read_bytes())
        (work / f"Pulumi.{STACK}.yaml").write_text(SETTINGS)
        return work

    def cluster(self, work: Path | None = None) -> StackCluster:
        """The stack's cluster, in this process."""
        work = work or self.work_dir()
        return StackCluster(STACK, work, stack_facts(STACK, work), lambda _line: None)

    def there(self) -> list[str]:
        """What is in the local Google, by its own lists; the archive is to stay."""
        lists = {
            f"container/v1beta1/projects/{PROJECT}/locations/-/clusters": "clusters",
            f"iam/v1/projects/{PROJECT}/serviceAccounts": "accounts",
            f"iam/v1/projects/{PROJECT}/roles": "roles",
            f"scheduler/v1/projects/{PROJECT}/locations/us-central1/jobs": "jobs",
        }
        found = []
        for path, name in lists.items():
            headers = {"Authorization": "Bearer any"}
            answer = requests.get(f"{self.google}/{path}", headers=headers, timeout=20)
            found += [f"{name} {each['name']}" for each in answer.json()[name]]
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("dead-man")
    home = Home(folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home.folder))
        patch.delenv(REHEARSAL_VARIABLE, raising=False)
        with session():
            google = os.environ["GOOGLE_IAM_BETA_CUSTOM_ENDPOINT"].removesuffix("/iam/v1/")
            yield Place(home, folder, google)


def test_the_cluster_is_gone_at_its_deadline_with_control_plane_and_nodes(place: Place) -> None:
    work = place.work_dir()
    deadline = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
    set_deadline(STACK, work, f"{deadline:%Y-%m-%dT%H:%MZ}")
    cluster = place.cluster(work)
    outputs = cluster.provision()
    assert outputs.expires_at == f"{deadline:%Y-%m-%dT%H:%M:00Z}"
    assert datetime.now(UTC) < deadline, "it came up too late to see it live"
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in _running(place)}
    assert {"kube-apiserver", "etcd", "kubelet", "containerd"} <= names

    api = GoogleApi(PROJECT)
    end = time.monotonic() + (deadline - datetime.now(UTC)).total_seconds() + 60
    while api.clusters():
        assert time.monotonic() < end, "nobody deleted the cluster"
        time.sleep(0.5)
    assert datetime.now(UTC) >= deadline, "it was deleted too early"
    assert _running(place) == []
    assert not any(place.home.clusters.iterdir())

    # The state still knows the cluster; the next command is not confused by that.
    assert place.cluster().repair() is Presence.PARTS
    place.cluster().teardown()
    assert place.there() == []


def _running(place: Place) -> list[int]:
    """Processes of all clusters."""
    return list(processes.running(place.home.clusters))


@pytest.mark.parametrize(
    "line",
    ["create Cluster cluster ...", "create NodePool measured ...", "create Deployment deployment"],
)
def test_a_runner_killed_while_it_brings_a_real_cluster_up_leaves_no_orphan(
    place: Place, line: str
) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", UP, str(place.work_dir()), STACK, "up"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert maker.stdin is not None
    assert maker.stdout is not None
    with maker.stdin, maker.stdout:
        maker.stdin.write("go\n")
        maker.stdin.flush()
        for said in maker.stdout:
            if line in said:
                break
        cli = children(maker.pid)
        kill(maker.pid)
        maker.wait(20)
    assert cli
    for pid in cli:
        gone(pid)
    assert place.there()
    cluster = place.cluster()
    cluster.recover(resumed=False)
    assert place.there() == []
    assert _running(place) == []
