"""The commands about clusters, as a user types them, against a real engine and a local Google."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest

from experiment.errors import PreflightError
from experiment.provision.manage.stacks import extend
from experiment.provision.pulumi_stack import StudyStack
from experiment.provision.stack_files import copy_stack_files
from infra.components.expiry import cron, next_day_cron
from rehearsal.google.state import Kind
from schema.errors import ExitCode
from tests.live.harness import ROOT, STACK_FILES
from tests.live.stack.rig import Rig
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
full = pytest.mark.full

PLACE = "container/v1beta1/projects/pull-study-rehearsal/locations"
JOB = "scheduler/v1/projects/pull-study-rehearsal/locations/us-central1/jobs/pull-study-size-4"
CLUSTER = f"{PLACE}/us-central1-a/clusters/pull-study-size-4"


@pytest.fixture
def up(rig: Rig) -> Iterator[Rig]:
    """With the stack up; nothing of it is left afterwards."""
    rig.cluster().provision()
    yield rig
    rig.cluster().teardown()
    assert rig.resources() == []


def command(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "experiment", *arguments],
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def expires(rig: Rig) -> datetime:
    """The deadline in the cluster's label."""
    (record,) = rig.google.state.find(Kind.CLUSTER)
    label = record["body"]["resourceLabels"]["expires"]
    return datetime.strptime(label, "%Y-%m-%dt%H-%Mz").replace(tzinfo=UTC)


def foreign(rig: Rig, name: str, location: str, **labels: str) -> None:
    """A cluster that another program created."""
    body = {"name": name, "initialNodeCount": 1, "resourceLabels": labels}
    rig.google.done("POST", f"{PLACE}/{location}/clusters", {"cluster": body})


def test_the_life_of_a_cluster_by_commands(up: Rig) -> None:
    code, printed = command("list")
    assert code == 0
    assert re.search(r"size-4 +RUNNING +us-central1-a .* 3\.37 USD/h, 0\.\d\d USD so far", printed)

    before = expires(up)
    code, printed = command("extend", "--stack", "size-4", "--hours", "5")
    assert code == 0, printed
    after = expires(up)
    assert after == before + timedelta(hours=5)
    assert up.google.ok("GET", JOB)["schedule"] == cron(after)
    assert up.google.ok("GET", f"{JOB}-next-day")["schedule"] == next_day_cron(after)
    policy = up.google.ok("GET", CLUSTER)["maintenancePolicy"]["window"]
    (exclusion,) = policy["maintenanceExclusions"].values()
    assert datetime.fromisoformat(exclusion["endTime"]) == after + timedelta(days=1)
    assert f"{after:%Y-%m-%dT%H:%MZ}" in printed
    # The next `up` keeps it: the stack's exports have it.
    assert up.cluster().stack.changes() == []

    code, printed = command("recover", "--stack", "size-4")
    assert (code, "is complete, and its cluster is RUNNING" in printed) == (0, True), printed

    code, printed = command("destroy", "--stack", "size-4")
    assert code == ExitCode.USAGE
    assert "--yes" in printed
    assert up.fleet.clusters

    code, printed = command("destroy", "--stack", "size-4", "--yes")
    assert code == 0, printed
    assert up.resources() == []
    assert "delete Cluster cluster done" in printed
    code, printed = command("destroy", "--stack", "size-4", "--yes")
    assert code == 0, printed
    code, printed = command("recover", "--stack", "size-4")
    assert (code, "Nothing of the stack size-4 exists" in printed) == (0, True), printed
    code, printed = command("list")
    assert (code, "has no cluster of this program" in printed) == (0, True)
    assert {path: path.read_bytes() for path in STACK_FILES} == STACK_FILES


@full
def test_the_deadline_of_a_cluster_whose_files_changed_is_not_moved(
    up: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_other_nodes(stack: str, work: Path) -> None:
        copy_stack_files(stack, work)
        (work / f"Pulumi.{stack}.yaml").write_text(
            "config:\n  pull-study:gvnic: 'false'\n  pull-study:nodeCount: '4'\n"
        )

    monkeypatch.setattr("experiment.provision.manage.stacks.copy_stack_files", of_other_nodes)
    before = expires(up)
    with pytest.raises(PreflightError, match="would also change measured"):
        extend("size-4", 1, lambda _line: None)
    assert expires(up) == before


@full
def test_a_life_of_more_than_thirty_days_is_refused(up: Rig) -> None:
    code, printed = command("extend", "--stack", "size-4", "--hours", "719")
    assert code == ExitCode.USAGE
    assert "the maximum is 30 days from now" in printed
    assert re.search(r"--hours 70\d", printed)


@full
def test_what_is_not_up_has_no_deadline(rig: Rig) -> None:
    code, printed = command("extend", "--stack", "size-4", "--hours", "1")
    assert code == ExitCode.PREFLIGHT
    assert "is not up" in printed
    assert rig.resources() == []


def test_sweep_deletes_what_is_past_its_deadline_and_nothing_else(up: Rig) -> None:
    past = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dt%H-%Mz}"
    ours = {"project": "pull-study", "expires": past}
    foreign(up, "pull-study-size-8", "europe-west4-b", stack="size-8", **ours)
    foreign(up, "not-ours", "us-central1-a", expires=past)
    foreign(up, "pull-study-odd", "us-east1-b", project="pull-study", stack="odd", expires="soon")
    code, printed = command("sweep")
    assert code == ExitCode.USAGE
    assert "nothing was deleted" in printed
    assert len(up.google.state.find(Kind.CLUSTER)) == 4

    code, printed = command("sweep", "--yes")
    assert code == 0, printed
    names = {record["body"]["name"] for record in up.google.state.find(Kind.CLUSTER)}
    assert names == {"pull-study-size-4", "not-ours", "pull-study-odd"}
    assert "pull-study-size-8 is deleted" in printed
    assert "no deadline" in printed

    code, printed = command("sweep", "--yes")
    assert (code, "is past its deadline" in printed) == (0, True)
    for location, name in (("us-central1-a", "not-ours"), ("us-east1-b", "pull-study-odd")):
        up.google.done("DELETE", f"{PLACE}/{location}/clusters/{name}")


def test_the_dead_man_switch_deletes_the_cluster_with_its_own_right(up: Rig) -> None:
    up.google.ok("POST", f"{JOB}-next-day:run", {})
    until(lambda: up.fleet.clusters == {})
    until(lambda: up.google.call("GET", CLUSTER).status_code == HTTPStatus.NOT_FOUND)
    code, printed = command("destroy", "--stack", "size-4", "--yes")
    assert code == 0, printed
    assert up.resources() == []


@full
def test_a_swept_stack_comes_up_again(up: Rig) -> None:
    """The state still thinks that the cluster is there."""
    labels = {"project": "pull-study", "stack": "size-4", "expires": "2020-01-01t00-00z"}
    fingerprint = up.google.ok("GET", CLUSTER)["labelFingerprint"]
    body = {"resourceLabels": labels, "labelFingerprint": fingerprint}
    up.google.done("POST", f"{CLUSTER}:setResourceLabels", body)
    code, printed = command("sweep", "--yes")
    assert code == 0, printed
    assert up.fleet.clusters == {}
    for job in (JOB, f"{JOB}-next-day"):
        assert up.google.error("GET", job)["code"] == 404
    cluster_of_a_run = up.cluster()
    cluster_of_a_run.recover(resumed=False)
    cluster_of_a_run.provision()
    assert len(up.fleet.clusters) == 1


@full
def test_sweep_says_which_cluster_it_could_not_delete(rig: Rig) -> None:
    labels = {"project": "pull-study", "stack": "size-8", "expires": "2020-01-01t00-00z"}
    foreign(rig, "pull-study-size-8", "us-central1-a", **labels)
    rig.inject("google:method=DELETE,path=clusters/pull-study-size-8,status=403,reason=x")
    code, printed = command("sweep", "--yes")
    assert code == ExitCode.TEARDOWN
    assert "Google refused DELETE" in printed
    rig.inject()
    code, _ = command("sweep", "--yes")
    assert code == 0
    assert rig.fleet.clusters == {}


def test_a_stack_whose_state_was_lost_is_destroyed(up: Rig) -> None:
    stack: StudyStack = up.cluster().stack
    stack._stack.workspace.remove_stack("size-4", force=True, preserve_config=True)
    assert len(up.fleet.clusters) == 1
    code, printed = command("destroy", "--stack", "size-4", "--yes")
    assert code == 0, printed
    assert "adopted cluster, which the state did not have" in printed
    assert up.resources() == []


@full
def test_a_stack_that_is_in_use_is_left_alone(up: Rig) -> None:
    maker = up.maker("destroy")
    up.inject("operation:how=stuck,type=DELETE_CLUSTER,s=8")
    assert maker.stdin is not None
    maker.stdin.write("go\n")
    maker.stdin.close()
    until(lambda: any("DELETE" in call and "clusters" in call for call in up.calls.calls))
    assert maker.poll() is None
    code, printed = command("destroy", "--stack", "size-4", "--yes")
    assert code == ExitCode.PREFLIGHT, printed
    assert "is in use by process" in printed
    assert maker.wait(60) == 0


@full
def test_a_project_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    for name in ("list", "sweep"):
        code, output = command(name)
        assert (code, "No Google Cloud project is given" in output) == (ExitCode.USAGE, True)
