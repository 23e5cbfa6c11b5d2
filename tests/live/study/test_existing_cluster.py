"""A cluster that exists: colleagues, a killed run, a user with the documented rights alone."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import copy_stack_files
from experiment.run_folder import RunFolder
from schema.errors import ExitCode
from schema.run_records import Status
from tests.experiment.provision.test_existing_cluster import MANIFEST
from tests.live.harness import LONGEST_S, Place, needs_real_nodes, place_in
from tests.live.study.node_failures import Nodes
from tests.until import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(2 * LONGEST_S),
    needs_real_nodes,
]
TAGS = ["1-layers-size-48702097-bytes", "9-layers-size-48702097-bytes"]
STUDY = {
    "name": "two",
    "images": [{"repository": "ghcr.io/a/b", "tags": TAGS}],
    "command": ["sleep", "15"],  # so that a second run starts while one measures
}
USER = "system:serviceaccount:default:anna"
THEIRS = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "theirs", "namespace": "pull-study"},
    "spec": {
        "suspend": True,
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}
        },
    },
}
RUN = (
    *("--kubeconfig", "config", "--node-selector", "pull-study/measured=true"),
    *("--study", "study.yaml", "--yes"),
)


@dataclass(frozen=True)
class Theirs:
    """The cluster of someone else."""

    place: Place
    nodes: Nodes

    def left(self) -> str:
        """What runs have left on it."""
        return self.nodes.kubectl(
            "get", "jobs,pods,leases,nodes", "-A", "-l", "pull-study/run", "-o", "name"
        ) + self.nodes.kubectl("-n", "pull-study", "get", "leases", "-o", "name")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    with place_in(tmp_path_factory.mktemp("theirs")) as empty, empty.session() as place:
        (place.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        copy_stack_files("size-4", place.folder / "pulumi")
        with place.entered():
            cluster = StackCluster("size-4", place.folder / "pulumi")
            cluster.provision()
        nodes = Nodes(place.home)
        try:
            yield Theirs(place, nodes)
        finally:
            with place.entered():
                cluster.teardown()


def give_rights(theirs: Theirs, manifest: str) -> None:
    """Make a kubeconfig of a user with the rights of a manifest and no others."""
    nodes = theirs.nodes
    nodes.kubectl("delete", "namespace", "pull-study", "--ignore-not-found")
    nodes.kubectl("create", "serviceaccount", "anna")
    nodes.kubectl("apply", "-f", "-", text=manifest.replace("anna@example.com", USER))
    token = nodes.kubectl("create", "token", "anna", "--duration", "1h").strip()
    config = yaml.safe_load((nodes.cluster / "admin.kubeconfig").read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    (theirs.place.folder / "config").write_text(yaml.safe_dump(config))


def expect_good(folder: RunFolder, *, cells: int = 8) -> None:
    """As on a new cluster."""
    assert Counter(cell.status for cell in folder.last_cells()) == {Status.VALID: cells}
    for evidence in folder.evidence():
        assert {node: s for node, s in evidence.clock_offsets_s.items() if abs(s) > 3} == {}
    assert all(cell.marks == () for cell in folder.last_cells())
    prefix = folder.path.name
    about = [each.event["involvedObject"] for each in folder.events()]
    pods = [each["name"] for each in about if each["kind"] == "Pod"]
    assert pods
    assert all(name.startswith(prefix) for name in pods)


@pytest.fixture(scope="module")
def with_rights(theirs: Theirs) -> Theirs:
    """Only the documented rights, and a Job of someone else in the namespace."""
    give_rights(theirs, MANIFEST)
    theirs.nodes.kubectl("apply", "-f", "-", text=yaml.safe_dump(THEIRS))
    return theirs


def expect_as_before(theirs: Theirs) -> None:
    assert theirs.left() == ""
    jobs = theirs.nodes.kubectl("-n", "pull-study", "get", "jobs", "-o", "name")
    assert jobs.strip() == "job.batch/theirs"


def test_a_run_has_all_it_needs_and_a_colleague_s_is_refused_by_name(with_rights: Theirs) -> None:
    place = with_rights.place
    first = place.start("experiment", "run", *RUN, "--run-id", "one")
    until(lambda: "lease" in with_rights.left(), LONGEST_S, "the run has the cluster's Lease")
    code, output = place.run("experiment", "run", *RUN, "--run-id", "second")
    assert code == ExitCode.PREFLIGHT, output
    assert "run one) measures on this cluster" in " ".join(output.split())
    output, _ = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 0, output
    expect_good(place.record("one"))
    expect_as_before(with_rights)


def test_a_killed_run_is_resumed_at_once_and_its_first_events_spoil_nothing(
    with_rights: Theirs,
) -> None:
    place = with_rights.place
    process = place.begin(*RUN, run_id="two", trials=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "node/" in with_rights.left()
    output = place.succeed("experiment", "run", "--resume", "two", "--yes")
    assert "8 of 8 cells of a rehearsal are valid" in output
    expect_good(place.record("two"))
    expect_as_before(with_rights)
