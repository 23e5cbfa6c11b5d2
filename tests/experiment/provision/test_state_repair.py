"""Repairs of a state, without an engine; with one: tests/live/stack/test_recovery.py."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.provision.state_repair import (
    CLUSTER,
    Resource,
    adopt,
    entry_of,
    foreign_resources,
    found,
    is_cloud,
    pending_creates,
    without,
)

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
STACK = "urn:pulumi:size-4::pull-study::pulumi:pulumi:Stack::pull-study-size-4"
PROVIDER = "urn:pulumi:size-4::pull-study::pulumi:providers:gcp::google"
LABELS = {"project": "pull-study", "stack": "size-4"}
CLUSTER_INPUTS = {"name": "c", "location": "us-central1-a", "resourceLabels": LABELS}
FULL = "projects/p/locations/us-central1-a/clusters/c"


def urn(resource_type: str, name: str) -> str:
    return f"urn:pulumi:size-4::pull-study::{resource_type}::{name}"


def state(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    provider = {"urn": PROVIDER, "type": "pulumi:providers:gcp", "id": "7", "custom": True}
    return {"manifest": {}, "resources": [provider, *resources], **more}


def needed(resource_type: str, name: str, /, **inputs: Any) -> Resource:
    return Resource(urn(resource_type, name), resource_type, inputs, provider=f"{PROVIDER}::x")


NEEDED_CLUSTER = needed(CLUSTER, "cluster", **CLUSTER_INPUTS)


@pytest.mark.parametrize(
    ("resource_type", "inputs", "expected"),
    [
        (CLUSTER, CLUSTER_INPUTS, FULL),
        (
            "gcp:container/nodePool:NodePool",
            {"name": "m", "cluster": "c", "location": "us-central1-a"},
            f"{FULL}/nodePools/m",
        ),
        (
            "gcp:container/nodePool:NodePool",
            {"name": "m", "cluster": f"{FULL}", "location": "us-central1-a"},
            f"{FULL}/nodePools/m",
        ),
        (
            "gcp:serviceaccount/account:Account",
            {"accountId": "nodes-size-4"},
            "projects/p/serviceAccounts/nodes-size-4@p.iam.gserviceaccount.com",
        ),
        (
            "gcp:projects/iAMMember:IAMMember",
            {"role": "roles/r", "member": "user:a", "project": "q"},
            "q/roles/r/user:a",
        ),
        ("gcp:logging/projectSink:ProjectSink", {"name": "s"}, "projects/p/sinks/s"),
        (
            "gcp:cloudscheduler/job:Job",
            {"name": "j", "region": "us-central1"},
            "projects/p/locations/us-central1/jobs/j",
        ),
        ("gcp:storage/bucket:Bucket", {"name": "b"}, "b"),
        (
            "gcp:storage/bucketIAMMember:BucketIAMMember",
            {"bucket": "b", "role": "roles/r", "member": "user:a"},
            "b/b/roles/r/user:a",
        ),
    ],
)
def test_what_may_exist_is_put_in_under_its_id(
    resource_type: str, inputs: dict[str, Any], expected: str
) -> None:
    adoption = adopt(state(), [needed(resource_type, "it", **inputs)], "p")
    entry = entry_of(adoption.deployment, resource_type)
    assert entry is not None
    assert entry["id"] == expected
    assert entry["provider"] == f"{PROVIDER}::7", "the provider as the state has it"
    assert entry["outputs"].keys() >= inputs.keys(), "the provider reads by properties too"


def test_what_has_no_name_yet_is_left_out() -> None:
    grant = needed(
        "gcp:projects/iAMMember:IAMMember", "g", role="roles/r", member=UNKNOWN, project="p"
    )
    assert adopt(state(), [grant], "p").declared == {}


def test_unknown_values_are_no_inputs() -> None:
    node = {"nodeConfig": {"serviceAccount": UNKNOWN}, "resourceLabels": {"expires": UNKNOWN}}
    adoption = adopt(state(), [needed(CLUSTER, "cluster", **{**CLUSTER_INPUTS, **node})], "p")
    (inputs,) = adoption.declared.values()
    assert inputs == {"name": "c", "location": "us-central1-a"}


def test_what_the_state_knows_stays_as_it_is() -> None:
    known = {"urn": NEEDED_CLUSTER.urn, "type": CLUSTER, "id": "it", "custom": True}
    before = state(known)
    adoption = adopt(before, [NEEDED_CLUSTER], "p")
    assert adoption.declared == {}
    assert adoption.deployment == before


def test_a_state_of_nothing_gets_stack_components_and_provider_too() -> None:
    component = "urn:pulumi:size-4::pull-study::pull-study:infra:StudyCluster::c"
    plan = [
        Resource(STACK, "pulumi:pulumi:Stack", {}, custom=False),
        Resource(PROVIDER, "pulumi:providers:gcp", {"project": "p"}, parent=STACK),
        Resource(component, "pull-study:infra:StudyCluster", {}, parent=STACK, custom=False),
        Resource(NEEDED_CLUSTER.urn, CLUSTER, CLUSTER_INPUTS, component, f"{PROVIDER}::{UNKNOWN}"),
    ]
    entries = adopt({}, plan, "p").deployment["resources"]
    assert [entry["urn"] for entry in entries] == [each.urn for each in plan]
    assert entries[3]["provider"] == f"{PROVIDER}::{entries[1]['id']}"
    assert entries[3]["parent"] == component
    assert "id" not in entries[2]


def test_without_its_provider_nothing_can_be_read() -> None:
    assert adopt({"resources": []}, [NEEDED_CLUSTER], "p").declared == {}


def test_pending_creations_are_taken_over_and_settled() -> None:
    pending = {
        "type": "creating",
        "resource": {
            "urn": NEEDED_CLUSTER.urn, "type": CLUSTER, "inputs": CLUSTER_INPUTS,
            "provider": f"{PROVIDER}::7", "retainOnDelete": False,
        },
    }  # fmt: skip
    deleting = {"type": "deleting", "resource": {"urn": "x", "type": CLUSTER}}
    before = state(pending_operations=[pending, deleting])
    creates = pending_creates(before)
    assert [each.urn for each in creates] == [NEEDED_CLUSTER.urn]
    after = adopt(before, creates, "p").deployment
    assert "pending_operations" not in after
    assert entry_of(after, CLUSTER) is not None
    assert "pending_operations" in before, "the state itself stays as it was"


def test_a_bucket_that_outlives_its_stack_goes_on_doing_so() -> None:
    bucket = Resource(
        urn("gcp:storage/bucket:Bucket", "b"), "gcp:storage/bucket:Bucket", {"name": "b"},
        provider=f"{PROVIDER}::7", retained=True,
    )  # fmt: skip
    entry = entry_of(adopt(state(), [bucket], "p").deployment, "gcp:storage/bucket:Bucket")
    assert entry is not None
    assert entry["retainOnDelete"] is True


@given(st.permutations(range(5)))
def test_each_comes_after_what_it_depends_on(order: list[int]) -> None:
    """The engine refuses a state in which a dependency follows, and deletes in reverse."""
    everything = [
        needed("gcp:serviceaccount/account:Account", "a", accountId="nodes"),
        needed("gcp:projects/iAMMember:IAMMember", "g", role="roles/r", member="user:a"),
        needed("gcp:cloudscheduler/job:Job", "j", name="j", region="us-central1"),
        NEEDED_CLUSTER,
        needed("gcp:container/nodePool:NodePool", "m", name="m", cluster="c", location="z"),
    ]
    entries = adopt(state(), [everything[number] for number in order], "p").deployment["resources"]
    seen: set[str] = set()
    for entry in entries:
        assert set(entry.get("dependencies", [])) <= seen
        seen.add(entry["urn"])
    pool = next(entry for entry in entries if entry["type"].endswith("NodePool"))
    assert len(pool["dependencies"]) == 4


class TestStrangers:
    def refreshed(self, **outputs: Any) -> dict[str, Any]:
        entry = {"urn": NEEDED_CLUSTER.urn, "type": CLUSTER, "id": FULL, "outputs": outputs}
        return state(entry)

    declared: ClassVar = {NEEDED_CLUSTER.urn: CLUSTER_INPUTS}

    def test_a_cluster_with_our_labels_is_ours(self) -> None:
        deployment = self.refreshed(resourceLabels={**LABELS, "expires": "then", "team": "a"})
        assert foreign_resources(deployment, self.declared) == []
        assert found(deployment, self.declared) == [NEEDED_CLUSTER.urn]

    @pytest.mark.parametrize("labels", [None, {}, {"project": "pull-study", "stack": "size-8"}])
    def test_one_without_them_is_not(self, labels: dict[str, str] | None) -> None:
        assert foreign_resources(self.refreshed(resourceLabels=labels), self.declared) == [FULL]

    def test_an_account_is_known_by_its_display_name(self) -> None:
        kind = "gcp:serviceaccount/account:Account"
        account = needed(kind, "nodes", accountId="nodes", displayName="Nodes of pull-study size-4")
        entry = {"urn": account.urn, "type": kind, "id": "it"}
        for name, expected in (("Nodes of pull-study size-4", []), ("Ours", ["it"])):
            deployment = state({**entry, "outputs": {"displayName": name}})
            assert foreign_resources(deployment, {account.urn: account.inputs}) == expected


def test_an_entry_is_taken_out_with_all_mention_of_it() -> None:
    first = {"urn": "a", "type": CLUSTER}
    second = {"urn": "b", "type": CLUSTER, "dependencies": ["a", "c"]}
    assert without({"resources": [first, second]}, ["a"])["resources"] == [
        {"urn": "b", "type": CLUSTER, "dependencies": ["c"]}
    ]


def test_components_and_providers_are_nothing_in_the_cloud() -> None:
    assert not is_cloud("pulumi:pulumi:Stack")
    assert not is_cloud("pulumi:providers:gcp")
    assert not is_cloud("pull-study:infra:StudyCluster")
    assert is_cloud(CLUSTER)
    assert is_cloud("kubernetes:core/v1:Namespace")
