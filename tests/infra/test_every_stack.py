"""What each stack creates with the real engine, in what order, and what destroy leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.infra.engine import Engine, running_engine
from tests.infra.stack_files import committed_checksums, in_ci_or_full, stacks, values_of

pytestmark = pytest.mark.live

ARCHIVE = "the archive"
"""The bucket, whose name holds project and stack."""
TYPES = {
    ARCHIVE: "gcp:storage/bucket:Bucket",
    "account": "kubernetes:core/v1:ServiceAccount",
    "binding": "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "cluster": "gcp:container/cluster:Cluster",
    "configuration": "kubernetes:core/v1:ConfigMap",
    "deadline": "gcp:cloudscheduler/job:Job",
    "deadline-next-day": "gcp:cloudscheduler/job:Job",
    "deployment": "kubernetes:apps/v1:Deployment",
    "expiry": "gcp:serviceaccount/account:Account",
    "expiry-deletes-clusters": "gcp:projects/iAMMember:IAMMember",
    "measured": "gcp:container/nodePool:NodePool",
    "monitoring": "gcp:container/nodePool:NodePool",
    "namespace": "kubernetes:core/v1:Namespace",
    "nodes": "gcp:serviceaccount/account:Account",
    "nodes-defaultNodeServiceAccount": "gcp:projects/iAMMember:IAMMember",
    "nodes-reader": "gcp:projects/iAMMember:IAMMember",
    "role": "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
    "sink": "gcp:logging/projectSink:ProjectSink",
    "writer": "gcp:storage/bucketIAMMember:BucketIAMMember",
}
STREAMING_TYPES = {
    "image-streaming": "gcp:projects/service:Service",
    "nodes-serviceUsageConsumer": "gcp:projects/iAMMember:IAMMember",
}
GRANTS = {"nodes-defaultNodeServiceAccount", "nodes-reader"}
NEEDS: dict[str, set[str]] = {
    ARCHIVE: set(),
    "account": {"namespace"},
    "binding": {"namespace", "role"},
    "cluster": GRANTS | {"deadline", "deadline-next-day"},
    "configuration": {"namespace"},
    "deadline": {"expiry", "expiry-deletes-clusters"},
    "deadline-next-day": {"expiry", "expiry-deletes-clusters"},
    "deployment": {
        "account", "binding", "configuration", "measured", "monitoring", "namespace",
    },
    "expiry": set(),
    "expiry-deletes-clusters": {"expiry"},
    "measured": GRANTS | {"cluster", "nodes"},
    "monitoring": GRANTS | {"cluster", "nodes"},
    "namespace": set(),
    "nodes": set(),
    "nodes-defaultNodeServiceAccount": {"nodes"},
    "nodes-reader": {"nodes"},
    "role": set(),
    "sink": {ARCHIVE},
    "writer": {ARCHIVE, "sink"},
}  # fmt: skip
STREAMING_NEEDS: dict[str, set[str]] = {
    "image-streaming": set(),
    "nodes-serviceUsageConsumer": {"nodes"},
}
INIT_TYPES = {
    "node-init": "gcp:storage/bucket:Bucket",
    "node-init-reader": "gcp:storage/bucketIAMMember:BucketIAMMember",
    "node-init-script": "gcp:storage/bucketObject:BucketObject",
}
INIT_NEEDS: dict[str, set[str]] = {
    "node-init": set(),
    "node-init-reader": {"node-init", "nodes"},
    "node-init-script": {"node-init"},
}
REMOTE_TYPES = {"pull-through": "gcp:artifactregistry/repository:Repository"}
REMOTE_NEEDS: dict[str, set[str]] = {"pull-through": set()}
OPERATOR_TYPES = {
    "miniclusters": "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
    "operator-account": "kubernetes:core/v1:ServiceAccount",
    "operator-binding": "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "operator-deployment": "kubernetes:apps/v1:Deployment",
    "operator-namespace": "kubernetes:core/v1:Namespace",
    "operator-role": "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
}
OPERATOR_NEEDS: dict[str, set[str]] = {
    "miniclusters": set(),
    "operator-account": {"operator-namespace"},
    "operator-binding": {"operator-namespace", "operator-role"},
    "operator-deployment": {
        "measured", "miniclusters", "monitoring", "operator-account", "operator-binding",
        "operator-namespace",
    },
    "operator-namespace": set(),
    "operator-role": set(),
}  # fmt: skip
BEHIND = {"cluster", "measured", "monitoring"}
"""What must not be created before image streaming's API or the remote repository."""


@dataclass
class Lived:
    """What was seen of one stack while it was brought up and destroyed."""

    name: str
    values: dict[str, str]
    standing: dict[str, dict[str, Any]]
    clusters: list[str]
    deleted: list[str]
    clusters_after: list[str]
    deleted_inside: list[str]
    buckets_after: list[str]
    rewritten: set[str]

    @property
    def inits(self) -> bool:
        return self.values["parallelUnpacks"] != "0"

    @property
    def caches(self) -> bool:
        return self.values["remoteRepository"] != ""

    @property
    def operates(self) -> bool:
        return self.values["fluxOperator"] != "none"

    @property
    def streams(self) -> bool:
        return self.values["imageStreaming"] == "true"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch, running_engine(folder, patch) as started:
        yield started


@pytest.fixture(scope="module", params=in_ci_or_full(stacks()))
def lived(engine: Engine, request: pytest.FixtureRequest) -> Lived:
    name = request.param
    committed = committed_checksums()
    engine.up(name)
    standing = _by_role(engine.resources(name), name)
    clusters = engine.clusters
    deleted = engine.destroy(name)
    return Lived(
        name=name,
        values=values_of(name),
        standing=standing,
        clusters=clusters,
        deleted=[_role(each, name) for each in deleted],
        clusters_after=engine.clusters,
        deleted_inside=list(engine.inside.deleted),
        buckets_after=_buckets(engine),
        rewritten={
            path for path, digest in committed_checksums().items() if committed.get(path) != digest
        },
    )


def _role(name: str, stack: str) -> str:
    return ARCHIVE if name.endswith(f"-pull-study-{stack}") else name


def _by_role(resources: dict[str, dict[str, Any]], stack: str) -> dict[str, dict[str, Any]]:
    return {_role(name, stack): resource for name, resource in resources.items()}


def _buckets(engine: Engine) -> list[str]:
    answer = engine.google.ok("GET", "storage/v1/b", project="a-project")
    return [bucket["name"] for bucket in answer.get("items", [])]


def test_creates_these_resources_and_no_others(lived: Lived) -> None:
    expected = TYPES | (STREAMING_TYPES if lived.streams else {})
    expected |= INIT_TYPES if lived.inits else {}
    expected |= REMOTE_TYPES if lived.caches else {}
    expected |= OPERATOR_TYPES if lived.operates else {}
    assert {name: each["type"] for name, each in lived.standing.items()} == expected
    assert lived.clusters == [f"pull-study-{lived.name}"]


def test_each_is_created_after_what_it_needs(lived: Lived) -> None:
    more = (STREAMING_NEEDS if lived.streams else {}) | (REMOTE_NEEDS if lived.caches else {})
    expected = NEEDS | more | (OPERATOR_NEEDS if lived.operates else {})
    scripts = {"node-init-reader", "node-init-script"} if lived.inits else set()
    if lived.inits:
        expected |= INIT_NEEDS | {"measured": {*expected["measured"], "node-init"}}
    found = {
        name: {_role(urn.rpartition("::")[2], lived.name) for urn in each.get("dependencies", [])}
        - {"last-update"}
        for name, each in lived.standing.items()
    }
    for name, needs in expected.items():
        assert found[name] == needs | ({*more, *scripts} if name in BEHIND else set()), name


def test_has_the_nodes_that_its_file_says(lived: Lived) -> None:
    measured = lived.standing["measured"]["outputs"]
    assert measured["nodeCount"] == int(lived.values["nodeCount"])
    assert measured["nodeConfig"]["machineType"] == lived.values["machineType"]
    assert lived.standing["monitoring"]["outputs"]["nodeCount"] == 1


def test_what_is_in_the_cluster_is_deleted_with_it(lived: Lived) -> None:
    cluster = lived.standing["cluster"]["urn"]
    inside = {n for n, each in lived.standing.items() if each["type"].startswith("kubernetes:")}
    with_it = {n for n, each in lived.standing.items() if each.get("deletedWith") == cluster}
    assert with_it == inside | {"measured", "monitoring"}
    assert len(inside) == (12 if lived.operates else 6)
    assert lived.deleted_inside == []


def test_destroy_leaves_the_archive_and_what_fills_it(lived: Lived) -> None:
    assert set(lived.deleted) == set(lived.standing)
    assert lived.clusters_after == []
    retained = {name for name, each in lived.standing.items() if each.get("retainOnDelete")}
    assert retained == {ARCHIVE, "sink", "writer"}
    assert lived.standing[ARCHIVE]["outputs"]["name"] in lived.buckets_after


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("measured", "cluster"),
        ("monitoring", "cluster"),
        ("cluster", "deadline"),
        ("cluster", "deadline-next-day"),
        ("cluster", "nodes-defaultNodeServiceAccount"),
        ("deadline", "expiry-deletes-clusters"),
    ],
)
def test_destroy_orphans_nothing(lived: Lived, first: str, then: str) -> None:
    assert lived.deleted.index(first) < lived.deleted.index(then)


def test_no_command_rewrote_a_committed_file(lived: Lived) -> None:
    assert lived.rewritten == set()
