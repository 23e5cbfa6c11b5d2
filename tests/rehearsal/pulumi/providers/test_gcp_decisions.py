"""What a changed program means, by resource type: nothing, an update or a replacement."""

from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.base import Resource
from rehearsal.pulumi.providers.gcp import KINDS, GcpSession

Props = dict[str, Any]

CLUSTER: Props = {
    "name": "c",
    "location": "us-central1-a",
    "initialNodeCount": 4,
    "deletionProtection": False,
    "network": "default",
    "releaseChannel": {"channel": "REGULAR"},
    "resourceLabels": {"team": "a"},
    "ipAllocationPolicy": {"clusterIpv4CidrBlock": "/14"},
    "nodeConfig": {
        "machineType": "n1-standard-16",
        "advancedMachineFeatures": {"threadsPerCore": 1},
        "gvnic": {"enabled": True},
        "oauthScopes": ["a", "b"],
        "labels": {"x": "1"},
        "metadata": {"disable-legacy-endpoints": "true"},
        "diskSizeGb": 100,
    },
}
CLUSTER_STATE: Props = {
    **CLUSTER,
    "network": "projects/p/global/networks/default",
    "ipAllocationPolicy": {"clusterIpv4CidrBlock": "10.64.0.0/14", "useIpAliases": True},
    "nodeConfig": {**CLUSTER["nodeConfig"], "imageType": "COS_CONTAINERD"},
    "endpoint": "10.0.0.1",
}
POOL: Props = {
    "name": "measured",
    "cluster": "c",
    "location": "us-central1-a",
    "nodeCount": 4,
    "nodeConfig": {"machineType": "n1-standard-16", "serviceAccount": "a@p", "spot": False},
    "management": {"autoRepair": True, "autoUpgrade": True},
}
SHORT = {
    "Cluster": "gcp:container/cluster:Cluster",
    "NodePool": "gcp:container/nodePool:NodePool",
    "Bucket": "gcp:storage/bucket:Bucket",
    "Sink": "gcp:logging/projectSink:ProjectSink",
    "Job": "gcp:cloudscheduler/job:Job",
    "Account": "gcp:serviceaccount/account:Account",
    "Grant": "gcp:projects/iAMMember:IAMMember",
    "Role": "gcp:projects/iAMCustomRole:IAMCustomRole",
    "Service": "gcp:projects/service:Service",
    "Repository": "gcp:artifactregistry/repository:Repository",
}


def _node(**changes: Any) -> Props:
    return {"nodeConfig": {**CLUSTER["nodeConfig"], **changes}}


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({}, "same"),
        ({"initialNodeCount": 8}, "replace"),
        ({"location": "us-central1-b"}, "replace"),
        ({"name": "d"}, "replace"),
        ({"network": "other"}, "replace"),
        ({"ipAllocationPolicy": {"clusterIpv4CidrBlock": "/16"}}, "replace"),
        (_node(advancedMachineFeatures={"threadsPerCore": 2}), "replace"),
        (_node(oauthScopes=["a"]), "replace"),
        (_node(metadata={"disable-legacy-endpoints": "false"}), "replace"),
        (_node(spot=True), "replace"),
        (_node(ephemeralStorageLocalSsdConfig={"localSsdCount": 1}), "replace"),
        (_node(serviceAccount=UNKNOWN), "replace"),
        (_node(oauthScopes=["b", "a"]), "same"),
        (_node(imageType="COS_CONTAINERD"), "same"),
        (_node(machineType="n1-standard-64"), "update"),
        (_node(gvnic={"enabled": False}), "update"),
        (_node(labels={"x": "2"}), "update"),
        (_node(labels={}), "update"),
        (_node(diskSizeGb=200), "update"),
        ({"resourceLabels": {"team": "b"}}, "update"),
        ({"releaseChannel": {"channel": "RAPID"}}, "update"),
        ({"deletionProtection": True}, "update"),
        ({"network": "projects/p/global/networks/default"}, "same"),
    ],
)
def test_cluster(nowhere: GcpSession, change: Props, effect: str) -> None:
    assert _effect(nowhere, "Cluster", CLUSTER_STATE, CLUSTER, {**CLUSTER, **change}) == effect


@pytest.mark.parametrize(
    ("gone", "effect"),
    [("nodeConfig", "same"), ("releaseChannel", "same"), ("resourceLabels", "update")],
)
def test_a_property_left_out_of_a_cluster(nowhere: GcpSession, gone: str, effect: str) -> None:
    new = {key: item for key, item in CLUSTER.items() if key != gone}
    assert _effect(nowhere, "Cluster", CLUSTER_STATE, CLUSTER, new) == effect


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"nodeCount": 8}, "update"),
        ({"management": {"autoRepair": False, "autoUpgrade": False}}, "update"),
        ({"version": "1.35.0"}, "update"),
        ({"nodeConfig": {**POOL["nodeConfig"], "machineType": "n1-standard-64"}}, "update"),
        ({"nodeConfig": {**POOL["nodeConfig"], "spot": True}}, "replace"),
        ({"initialNodeCount": 8}, "replace"),
        ({"cluster": "d"}, "replace"),
        ({"cluster": UNKNOWN}, "replace"),
        ({"cluster": "projects/p/locations/us-central1-a/clusters/c"}, "same"),
        ({"name": "other"}, "replace"),
    ],
)
def test_node_pool(nowhere: GcpSession, change: Props, effect: str) -> None:
    assert _effect(nowhere, "NodePool", POOL, POOL, {**POOL, **change}) == effect


@pytest.mark.parametrize(
    ("kind", "old", "change", "effect"),
    [
        ("Bucket", {"name": "b", "location": "US"}, {"location": "us"}, "same"),
        ("Bucket", {"name": "b", "location": "US"}, {"location": "EU"}, "replace"),
        ("Bucket", {"name": "b", "location": "US"}, {"versioning": {"enabled": True}}, "update"),
        ("Sink", {"name": "s", "filter": "a"}, {"filter": "b"}, "update"),
        ("Sink", {"name": "s", "filter": "a"}, {"name": "t"}, "replace"),
        ("Job", {"name": "j", "schedule": "1 * * * *"}, {"schedule": "2 * * * *"}, "update"),
        ("Job", {"name": "j", "region": "us-central1"}, {"region": "us-east1"}, "replace"),
        ("Account", {"accountId": "nodes", "displayName": "a"}, {"displayName": "b"}, "update"),
        ("Account", {"accountId": "nodes"}, {"accountId": "other"}, "replace"),
        ("Grant", {"role": "roles/a", "member": "user:a"}, {"role": "roles/b"}, "replace"),
        ("Role", {"roleId": "r", "permissions": ["a", "b"]}, {"permissions": ["b", "a"]}, "same"),
        ("Role", {"roleId": "r", "permissions": ["a"]}, {"permissions": ["b"]}, "update"),
        ("Role", {"roleId": "r"}, {"roleId": "s"}, "replace"),
        ("Service", {"service": "a.b"}, {"service": "c.d"}, "replace"),
        ("Service", {"service": "a.b"}, {"disableOnDestroy": True}, "update"),
        ("Repository", {"repositoryId": "r", "format": "DOCKER"}, {"description": "x"}, "update"),
        ("Repository", {"repositoryId": "r", "format": "DOCKER"}, {"format": "APT"}, "replace"),
    ],
)
def test_other_types(
    nowhere: GcpSession, kind: str, old: Props, change: Props, effect: str
) -> None:
    assert _effect(nowhere, kind, old, old, {**old, **change}) == effect


def test_a_fixed_name_is_deleted_before_it_is_made_anew(nowhere: GcpSession) -> None:
    resource = Resource(SHORT["Cluster"], "cluster")
    moved = {**CLUSTER, "location": "us-central1-b"}
    assert nowhere.diff(resource, CLUSTER_STATE, CLUSTER, moved).delete_first
    renamed = {**moved, "name": "d"}
    assert not nowhere.diff(resource, CLUSTER_STATE, CLUSTER, renamed).delete_first
    made_up = {**moved, "__defaults": ["name"]}
    assert not nowhere.diff(resource, CLUSTER_STATE, CLUSTER, made_up).delete_first


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.title)
def test_rules_speak_of_properties_that_exist(kind: Any) -> None:
    """A misspelt rule would never apply."""
    known = set(kind.args.__init__.__annotations__)
    tops = {
        path.partition(".")[0]
        for paths in (
            kind.rules.replace, kind.rules.computed, kind.rules.unordered, kind.rules.links,
            kind.rules.sizes, kind.rules.ignore_case, kind.supported, kind.defaults,
            kind.state_only, kind.enums, kind.patterns,
        )
        for path in paths
    }  # fmt: skip
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in top) for top in tops}
    assert snake - known == set()


def _effect(session: GcpSession, kind: str, state: Props, old: Props, new: Props) -> str:
    difference = session.diff(Resource(SHORT[kind], "x"), state, old, new)
    if any(change.replace for change in difference.changes):
        return "replace"
    return "update" if difference.changes else "same"
