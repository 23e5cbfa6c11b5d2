"""What is left of a stack is named, with the command that deletes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from experiment.provision.google_api import GoogleApi
from experiment.provision.manage.footprint import footprint
from rehearsal.google.environment import PROJECT
from rehearsal.google.state import Json, Kind
from schema.errors import ExitCode
from tests.generated.world import STACK, World, new_world, prepare

CLUSTER = f"pull-study-{STACK}"
HERE = f"projects/{PROJECT}"
ZONE = f"{HERE}/zones/us-central1-a"
REGION = f"{HERE}/regions/us-central1"
IN_CLUSTER = {"goog-k8s-cluster-name": CLUSTER}
ON_PROJECT = f"--project {PROJECT}"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    prepare(monkeypatch)
    with new_world() as world:
        yield world


def leave(world: World, kind: Kind, name: str, body: Json) -> None:
    world.google.state.put(kind, name, {"name": name.rpartition("/")[2], **body})


@dataclass(frozen=True)
class Left:
    """What is left behind, and what the user sees."""

    kind: Kind
    name: str
    body: Json
    code: ExitCode
    command: str


LEFT = {
    "a disk of a volume": Left(
        Kind.DISK,
        f"{ZONE}/disks/pvc-1",
        {"zone": ZONE, "labels": IN_CLUSTER},
        ExitCode.TEARDOWN,
        f"gcloud compute disks delete pvc-1 --zone us-central1-a {ON_PROJECT}",
    ),
    "a regional disk with the stack's labels": Left(
        Kind.DISK,
        f"{REGION}/disks/pvc-2",
        {"region": REGION, "labels": {"project": "pull-study", "stack": STACK}},
        ExitCode.TEARDOWN,
        f"gcloud compute disks delete pvc-2 --region us-central1 {ON_PROJECT}",
    ),
    "an address": Left(
        Kind.ADDRESS,
        f"{REGION}/addresses/gke-{CLUSTER}-0a1b2c3d-pe",
        {"region": REGION},
        ExitCode.TEARDOWN,
        f"gcloud compute addresses delete gke-{CLUSTER}-0a1b2c3d-pe --region us-central1",
    ),
    "a firewall rule": Left(
        Kind.FIREWALL,
        f"{HERE}/global/firewalls/gke-{CLUSTER}-0a1b2c3d-all",
        {},
        ExitCode.PROVIDER_ERROR,
        f"gcloud compute firewall-rules delete gke-{CLUSTER}-0a1b2c3d-all {ON_PROJECT}",
    ),
    "a firewall rule for its nodes": Left(
        Kind.FIREWALL,
        f"{HERE}/global/firewalls/k8s-fw-1",
        {"targetTags": [f"gke-{CLUSTER}-0a1b2c3d-node"]},
        ExitCode.PROVIDER_ERROR,
        f"gcloud compute firewall-rules delete k8s-fw-1 {ON_PROJECT}",
    ),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=list(LEFT))
def test_what_a_destroy_leaves_is_named_with_its_command(world: World, left: Left) -> None:
    leave(world, left.kind, left.name, left.body)
    outcome = world.destroy()
    assert outcome.code == left.code
    assert "is deleted, but Google's lists still have: " in outcome.text
    assert ("(costs money)" in outcome.text) == (left.code is ExitCode.TEARDOWN)
    assert f"Fix: {left.command}" in outcome.text
    assert not any("only its archive" in line for line in outcome.said)


def test_what_is_deleted_within_a_minute_is_not_left(world: World) -> None:
    name = f"{ZONE}/disks/pvc-1"
    leave(world, Kind.DISK, name, {"zone": ZONE, "labels": IN_CLUSTER})

    def delete() -> None:
        world.google.state.delete(Kind.DISK, name)

    world.google.clock.after(40, delete)
    assert world.destroy().code == ExitCode.OK


def test_a_grant_to_an_account_that_was_deleted_is_left(world: World) -> None:
    member = f"deleted:serviceAccount:nodes-{STACK}@{PROJECT}.iam.gserviceaccount.com?uid=1"
    policy = {"version": 1, "bindings": [{"role": "roles/viewer", "members": [member]}]}
    world.google.state.put(Kind.POLICY, HERE, policy)
    outcome = world.destroy()
    assert outcome.code == ExitCode.PROVIDER_ERROR
    assert f"--all --role roles/viewer --member '{member}'" in outcome.text


def test_a_whole_stack_is_found_and_nothing_of_others(world: World) -> None:
    world.run(keep=True)
    labels = {"goog-k8s-cluster-name": f"{CLUSTER}-streaming"}
    leave(world, Kind.DISK, f"{ZONE}/disks/theirs", {"zone": ZONE, "labels": labels})
    rule = f"{HERE}/global/firewalls/gke-{CLUSTER}-streaming-0a1b2c3d-all"
    leave(world, Kind.FIREWALL, rule, {})
    found = footprint(GoogleApi(PROJECT), STACK, CLUSTER)
    assert found.unread == ()
    assert found.counted() == (
        "1 cluster, 5 instances, 5 disks, 4 firewall rules, 2 accounts, 3 grants, 2 scheduler jobs"
    )
    outcome = world.destroy()
    assert outcome.code == ExitCode.OK
    assert f"Deleted, by Google's lists: {found.counted()}." in outcome.said


def test_a_remote_repository_is_named_while_it_exists(world: World) -> None:
    name = f"{HERE}/locations/us-central1/repositories/pull-through-{STACK}"
    assert footprint(GoogleApi(PROJECT), STACK, CLUSTER, name).items == ()
    world.google.state.put(Kind.REPOSITORY, name, {"name": name})
    (item,) = footprint(GoogleApi(PROJECT), STACK, CLUSTER, name).items
    assert item.costs
    assert item.command == (
        f"gcloud artifacts repositories delete pull-through-{STACK} --location us-central1 "
        f"{ON_PROJECT}"
    )


def test_a_list_that_is_refused_is_said_and_the_others_are_read(world: World) -> None:
    world.refuse(403, 99, path="GET .*/aggregated/instances", reason="forbidden")
    outcome = world.destroy()
    assert outcome.code == ExitCode.OK
    assert any("could not be checked everywhere: Google refused" in each for each in outcome.said)
    assert not any("only its archive of events is left." in each for each in outcome.said)


def test_zones_that_gke_cannot_reach_are_not_said_to_be_empty(world: World) -> None:
    world.run(keep=True)
    world.google.late_lists, world.google.missing_zones = 1, True
    found = footprint(GoogleApi(PROJECT), STACK, CLUSTER)
    assert found.unread == ("GKE cannot reach us-central1-a now.",)


def test_recover_names_what_the_state_does_not_have(world: World) -> None:
    world.refuse(0, 5, path="POST")
    world.run(keep=True)
    world.calm()
    outcome = world.recover()
    left = f"this is left: account expiry-{STACK}@{PROJECT}.iam.gserviceaccount.com"
    assert any(left in line for line in outcome.said), outcome
    assert world.destroy().code == ExitCode.OK
    assert world.recover().said == [f"Nothing of the stack {STACK} exists."]
