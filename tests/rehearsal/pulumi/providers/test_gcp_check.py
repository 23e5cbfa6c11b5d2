"""What the gcp stand-in refuses or fills in before any call."""

from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.base import Checked, ProviderError, Resource
from rehearsal.pulumi.providers.gcp import GcpSession
from tests.rehearsal.pulumi.providers.test_gcp_decisions import SHORT

Props = dict[str, Any]
CLUSTER: Props = {"name": "c", "location": "us-central1-a", "initialNodeCount": 1}


def _check(
    session: GcpSession, kind: str, new: Props, old: Props | None = None, seed: bytes = b"1"
) -> Checked:
    return session.check(Resource(SHORT[kind], "it"), old or {}, new, seed)


def _reason(session: GcpSession, kind: str, new: Props) -> str:
    (failure,) = _check(session, kind, new).failures
    return failure.reason


@pytest.mark.parametrize(
    ("kind", "new", "reason"),
    [
        ("Cluster", {**CLUSTER, "name": "C"}, "name 'C' is not legal"),
        ("Cluster", {**CLUSTER, "name": "c" * 41}, "up to 40 lower-case letters"),
        ("Cluster", {**CLUSTER, "name": "c-"}, "not ending with a hyphen"),
        (
            "Cluster",
            {**CLUSTER, "clusterIpv4Cidr": "10.0.0.0/14", "ipAllocationPolicy": {}},
            "conflicts with ip_allocation_policy",
        ),
        (
            "Cluster",
            {**CLUSTER, "nodeConfig": {"diskSizeGb": 9}},
            "expected nodeConfig.diskSizeGb to be at least (10), got 9",
        ),
        (
            "Cluster",
            {**CLUSTER, "nodeConfig": {"advancedMachineFeatures": {}}},
            "threadsPerCore, which is missing",
        ),
        (
            "Cluster",
            {**CLUSTER, "releaseChannel": {"channel": "SLOW"}},
            "expected releaseChannel.channel to be one of",
        ),
        ("Cluster", {**CLUSTER, "initialNodeCount": "4"}, "must be a whole number"),
        ("Cluster", {**CLUSTER, "fleet": {"project": "p"}}, "does not implement fleet"),
        (
            "NodePool",
            {
                "cluster": "c",
                "nodeConfig": {"taints": [{"key": "k", "value": "v", "effect": "NO"}]},
            },
            "expected nodeConfig.taints.effect to be one of",
        ),
        ("Bucket", {"location": "US", "name": "B"}, "3 to 63 lower-case"),
        ("Account", {"accountId": "me"}, "6 to 30 lower-case"),
        ("Grant", {"project": "p", "role": "viewer", "member": "user:a"}, "roles/NAME"),
        ("Grant", {"project": "p", "role": "roles/viewer", "member": "a@b"}, "user:NAME"),
        ("Service", {"service": "container"}, "named as a domain"),
        ("Job", {"schdule": "* * * * *"}, "did you mean schedule?"),
        ("Sink", {"name": "s"}, "needs the property destination"),
    ],
)
def test_refusals(nowhere: GcpSession, kind: str, new: Props, reason: str) -> None:
    assert reason in _reason(nowhere, kind, new)


def test_a_refusal_names_the_resource(nowhere: GcpSession) -> None:
    said = _reason(nowhere, "Cluster", {**CLUSTER, "nmae": "c"})
    assert said == "Cluster 'it' has no property nmae; did you mean name?"


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        # What the official provider lets through, so that settings have to check it.
        ("Cluster", {**CLUSTER, "location": "us-central1-zz"}),
        ("Cluster", {"name": "c"}),
        (
            "Cluster",
            {**CLUSTER, "nodeConfig": {"advancedMachineFeatures": {"threadsPerCore": 7}}},
        ),
        ("NodePool", {"cluster": "c", "nodeCount": 4, "autoscaling": {"maxNodeCount": 5}}),
        # What is not known yet.
        ("Cluster", {**CLUSTER, "name": UNKNOWN, "releaseChannel": {"channel": UNKNOWN}}),
        ("Cluster", {**CLUSTER, "nodeConfig": {"diskSizeGb": UNKNOWN}}),
        ("Cluster", {**CLUSTER, "nodeConfig": UNKNOWN}),
        ("Grant", {"project": "p", "role": UNKNOWN, "member": UNKNOWN}),
        ("Grant", {"project": "p", "role": "projects/p/roles/own", "member": "user:a"}),
    ],
)
def test_what_passes(nowhere: GcpSession, kind: str, new: Props) -> None:
    assert _check(nowhere, kind, new).failures == []


def test_defaults_are_filled_in_and_remembered(nowhere: GcpSession) -> None:
    checked = _check(nowhere, "Cluster", CLUSTER)
    assert checked.inputs["deletionProtection"] is True
    assert checked.inputs["network"] == "default"
    assert checked.inputs["__defaults"] == ["deletionProtection", "enableShieldedNodes", "network"]


def test_a_name_is_made_up_and_kept(nowhere: GcpSession) -> None:
    first = _check(nowhere, "Bucket", {"location": "US"}, seed=b"1").inputs
    assert first["name"].startswith("it-")
    assert len(first["name"]) == len("it-") + 7
    again = _check(nowhere, "Bucket", {"location": "US"}, old=first, seed=b"2").inputs
    assert again["name"] == first["name"]
    other = _check(nowhere, "Bucket", {"location": "US"}, seed=b"2").inputs
    assert other["name"] != first["name"]


def test_a_long_name_is_cut_to_what_google_allows(nowhere: GcpSession) -> None:
    resource = Resource(SHORT["Bucket"], "P" * 80)
    name = nowhere.check(resource, {}, {"location": "US"}, b"1").inputs["name"]
    assert len(name) == 63
    assert name.islower()


def test_an_unknown_type_is_refused_with_its_name(nowhere: GcpSession) -> None:
    with pytest.raises(ProviderError, match="does not implement gcp:compute/instance:Instance"):
        nowhere.check(Resource("gcp:compute/instance:Instance", "vm"), {}, {}, b"1")
