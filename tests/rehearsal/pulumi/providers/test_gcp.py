"""What the fake gcp provider refuses, and what it does when something is not as expected.

Its requests are compared with the official provider's in test_official_requests.py, its decisions
on the program of `infra` in tests/infra/test_engine.py.
"""

import threading
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers import gke
from rehearsal.pulumi.providers.gcp import KINDS, GcpSession
from rehearsal.pulumi.providers.gcp_kind import Kind
from rehearsal.pulumi.providers.google_rest import ApiError, Json
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import ProviderError, Resource
from tests.rehearsal.local_google import Google
from tests.rehearsal.pulumi.providers.conftest import RecordingApi

TYPES = {token.rpartition(":")[2]: token for token in KINDS}
CLUSTER_ID = "projects/p/locations/us-central1-a/clusters/c"
CLUSTER: Props = {
    "name": "c", "location": "us-central1-a", "initialNodeCount": 1, "network": "default",
    "enableShieldedNodes": True, "deletionProtection": False,
}  # fmt: skip
POOL: Props = {
    "name": "measured", "cluster": "c", "location": "us-central1-a", "nodeCount": 2,
    "nodeConfig": {"machineType": "n1-standard-16"},
}  # fmt: skip
GRANT = {"project": "p", "role": "roles/viewer", "member": "user:a@b.c"}
BUCKET = {"name": "logs-p", "location": "us-central1"}


def at(kind: str, timeout_s: float = 0) -> Resource:
    return Resource(TYPES[kind], "it", timeout_s)


def reasons(session: GcpSession, kind: str, new: Props) -> list[str]:
    return [each.reason for each in session.check(at(kind), {}, new, b"1").failures]


class TestCheck:
    @pytest.mark.parametrize(
        ("kind", "new", "reason"),
        [
            (
                "Cluster", {**CLUSTER, "nmae": "c"},
                "Cluster 'it' has no property nmae; did you mean name?",
            ),
            ("Cluster", {**CLUSTER, "initialNodeCount": "4"},
             "Cluster 'it': initialNodeCount must be a whole number, not '4'."),
            ("Cluster", {**CLUSTER, "enableLegacyAbac": True},
             "Cluster 'it': the fake gcp provider does not implement enableLegacyAbac."),
            (
                "NodePool", {**POOL, "nodeConfig": {"imageType": "UBUNTU_CONTAINERD"}},
                "NodePool 'it': the fake gcp provider does not implement nodeConfig.imageType.",
            ),
            ("Job", {"name": "j", "region": "r"},
             "Job 'it' needs the property httpTarget, which is missing."),
            ("NodePool", {**POOL, "nodeCount": -1},
             "expected nodeCount to be at least (0), got -1."),
            ("Service", {"service": "a.b", "disableOnDestroy": True},
             "expected disableOnDestroy to be one of [False], got True."),
        ],
    )  # fmt: skip
    def test_refuses(self, nowhere: GcpSession, kind: str, new: Props, reason: str) -> None:
        assert reasons(nowhere, kind, new) == [reason]

    def test_accepts_what_is_unknown(self, nowhere: GcpSession) -> None:
        new = {**CLUSTER, "name": UNKNOWN, "releaseChannel": {"channel": UNKNOWN}}
        assert reasons(nowhere, "Cluster", new) == []
        assert reasons(nowhere, "NodePool", {**POOL, "nodeConfig": UNKNOWN}) == []

    def test_refuses_an_unknown_type(self, nowhere: GcpSession) -> None:
        resource = Resource("gcp:compute/instance:Instance", "vm")
        with pytest.raises(
            ProviderError, match=r"not implement gcp:compute/instance:Instance \(vm"
        ):
            nowhere.check(resource, {}, {}, b"1")

    def test_fills_in_defaults_and_remembers_them(self, nowhere: GcpSession) -> None:
        checked = nowhere.check(at("Bucket"), {}, BUCKET, b"1").inputs
        assert checked == {**BUCKET, "storageClass": "STANDARD", "__defaults": ["storageClass"]}

    def test_generates_a_name_and_keeps_it(self, nowhere: GcpSession) -> None:
        def check(old: Props, seed: bytes) -> Props:
            resource = Resource(TYPES["Bucket"], "P" * 80)
            return nowhere.check(resource, old, {"location": "US"}, seed).inputs

        first = check({}, b"1")
        assert len(first["name"]) == 63
        assert first["name"].islower()
        assert check(first, b"2")["name"] == first["name"]
        assert check({}, b"2")["name"] != first["name"]

    @pytest.mark.parametrize("kind", KINDS.values(), ids=TYPES)
    def test_rules_name_properties_that_are_implemented(self, kind: Kind) -> None:
        """A misspelt rule would never apply."""
        known = {path[:end] for path in kind.properties.split() for end in _ends(path)}
        named = {
            *kind.rules.replace, *kind.rules.computed, *kind.rules.unordered, *kind.defaults,
            *kind.state_only, *kind.enums, *kind.minimums, *kind.patterns, *kind.table.rows,
            *kind.table.int64, *kind.table.single, *kind.needed,
        }  # fmt: skip
        assert named <= known


def _ends(path: str) -> list[int]:
    return [*(index for index, char in enumerate(path) if char == "."), len(path)]


def test_a_replacement_of_the_same_name_deletes_first(nowhere: GcpSession) -> None:
    def delete_first(**change: Any) -> bool:
        return nowhere.diff(at("Cluster"), CLUSTER, CLUSTER, {**CLUSTER, **change}).delete_first

    assert delete_first(location="us-central1-b")
    assert not delete_first(location="us-central1-b", name="d")
    assert not delete_first(location="us-central1-b", __defaults=["name"])


@pytest.mark.parametrize(
    ("network", "same"), [("default", True), ("projects/p/global/networks/x", False), ("x", False)]
)
def test_a_network_may_be_given_by_its_name(nowhere: GcpSession, network: str, same: bool) -> None:
    state = {**CLUSTER, "network": "projects/p/global/networks/default"}
    found = nowhere.diff(at("Cluster"), state, CLUSTER, {**CLUSTER, "network": network})
    assert (found.changes == []) is same


class TestCluster:
    def test_that_exists_is_not_adopted(self, gcp: GcpSession) -> None:
        gcp.create(at("Cluster"), CLUSTER)
        with pytest.raises(ApiError, match="Error 409: Already exists"):
            gcp.create(at("Cluster"), CLUSTER)

    def test_that_is_protected_is_not_deleted(self, gcp: GcpSession, api: RecordingApi) -> None:
        with pytest.raises(ProviderError, match="deletion_protection is set to true"):
            gcp.delete(at("Cluster"), CLUSTER_ID, {"deletionProtection": True})
        assert api.requests == []

    def test_change_that_is_not_implemented_is_refused_before_any_other(
        self, gcp: GcpSession, api: RecordingApi
    ) -> None:
        outputs = gcp.create(at("Cluster"), CLUSTER)[1]
        api.requests.clear()
        new = {**CLUSTER, "minMasterVersion": "1.35", "resourceLabels": {"a": "b"}}
        with pytest.raises(ProviderError, match="cannot change minMasterVersion of projects/p"):
            gcp.update(at("Cluster"), CLUSTER_ID, outputs, CLUSTER, new)
        assert api.writes() == []

    def test_busy_with_another_operation_is_retried(
        self, gcp: GcpSession, api: RecordingApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outputs = gcp.create(at("Cluster"), CLUSTER)[1]
        monkeypatch.setattr(gke, "_BUSY_PAUSE_S", 0.01)
        refusals = ["Cluster is running incompatible operation operation-1."]
        call = api.call

        def busy_once(service: str, method: str, path: str, body: Any = None, **q: str) -> Json:
            if method == "DELETE" and refusals:
                raise ApiError(400, refusals.pop(), "failedPrecondition")
            return call(service, method, path, body, **q)

        monkeypatch.setattr(api, "call", busy_once)
        monkeypatch.setattr(api, "within", lambda _: api)
        gcp.delete(at("Cluster"), CLUSTER_ID, outputs)
        assert gcp.read(at("Cluster"), CLUSTER_ID, CLUSTER) is None

    def test_import_is_refused(self, gcp: GcpSession) -> None:
        with pytest.raises(ProviderError, match="cannot import gcp:container/cluster:Cluster"):
            gcp.read(at("Cluster"), CLUSTER_ID, {})


class TestNodePool:
    @pytest.fixture(autouse=True)
    def _cluster(self, gcp: GcpSession) -> None:
        gcp.create(at("Cluster"), CLUSTER)

    def test_size_that_somebody_else_changed_is_seen(self, gcp: GcpSession, google: Google) -> None:
        resource_id, _ = gcp.create(at("NodePool"), POOL)
        google.done("POST", f"container/v1beta1/{resource_id}:setSize", {"nodeCount": 1})
        found = gcp.read(at("NodePool"), resource_id, POOL)
        assert found is not None
        assert found.inputs == {**POOL, "nodeCount": 1}

    def test_of_a_deleted_cluster_counts_as_deleted(self, gcp: GcpSession, google: Google) -> None:
        resource_id, outputs = gcp.create(at("NodePool"), POOL)
        google.done("DELETE", f"container/v1beta1/{CLUSTER_ID}")
        gcp.delete(at("NodePool"), resource_id, outputs)
        assert gcp.read(at("NodePool"), resource_id, POOL) is None

    def test_change_of_nodes_that_is_not_implemented_is_refused(self, gcp: GcpSession) -> None:
        resource_id, outputs = gcp.create(at("NodePool"), POOL)
        new = {**POOL, "nodeConfig": {**POOL["nodeConfig"], "labels": {"a": "b"}}}
        with pytest.raises(ProviderError, match=r"cannot change nodeConfig\.labels of"):
            gcp.update(at("NodePool"), resource_id, outputs, POOL, new)


class TestGrants:
    def test_many_at_once_all_arrive(self, gcp: GcpSession, google: Google) -> None:
        grants = [{**GRANT, "member": f"user:{i}@b.c"} for i in range(12)]
        threads = [
            threading.Thread(target=gcp.create, args=(at("IAMMember"), grant)) for grant in grants
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        (binding,) = google.ok("POST", "crm/v1/projects/p:getIamPolicy")["bindings"]
        assert sorted(binding["members"]) == sorted(grant["member"] for grant in grants)

    def test_policy_that_was_written_meanwhile_is_read_again(
        self, gcp: GcpSession, google: Google, api: RecordingApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = {**GRANT, "member": "user:x@y.z"}
        other = GcpSession(RecordingApi("p", google.url))
        call, races = api.call, [other.create]

        def overtaken(service: str, method: str, path: str, body: Any = None, **q: str) -> Json:
            if path.endswith(":setIamPolicy") and races:
                races.pop()
                policy = google.ok("POST", "crm/v1/projects/p:getIamPolicy")
                binding = {"role": theirs["role"], "members": [theirs["member"]]}
                google.ok(
                    "POST", "crm/v1/projects/p:setIamPolicy",
                    {"policy": {**policy, "bindings": [binding]}},
                )  # fmt: skip
            return call(service, method, path, body, **q)

        monkeypatch.setattr(api, "call", overtaken)
        monkeypatch.setattr(api, "within", lambda _: api)
        gcp.create(at("IAMMember"), GRANT)
        (binding,) = google.ok("POST", "crm/v1/projects/p:getIamPolicy")["bindings"]
        assert binding["members"] == ["user:x@y.z", "user:a@b.c"]

    def test_of_others_stay(self, gcp: GcpSession) -> None:
        theirs = {**GRANT, "member": "user:x@y.z"}
        gcp.create(at("IAMMember"), theirs)
        resource_id, outputs = gcp.create(at("IAMMember"), GRANT)
        assert resource_id == "p/roles/viewer/user:a@b.c"
        gcp.delete(at("IAMMember"), resource_id, outputs)
        assert gcp.read(at("IAMMember"), "p/roles/viewer/user:x@y.z", theirs) is not None
        assert gcp.read(at("IAMMember"), resource_id, GRANT) is None

    def test_on_a_deleted_bucket_counts_as_deleted(self, gcp: GcpSession) -> None:
        gcp.create(at("Bucket"), BUCKET)
        grant = {"bucket": "logs-p", "role": "roles/storage.objectCreator", "member": "user:a@b.c"}
        resource_id, outputs = gcp.create(at("BucketIAMMember"), grant)
        gcp.delete(at("Bucket"), "logs-p", {})
        assert gcp.read(at("BucketIAMMember"), resource_id, grant) is None
        gcp.delete(at("BucketIAMMember"), resource_id, outputs)
