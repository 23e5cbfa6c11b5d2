"""The calls that the gcp stand-in makes, against the local Google's REST server."""

import threading
import time
from typing import Any

import pytest

from rehearsal.google.state import Kind
from rehearsal.pulumi.providers.base import NotReadyError, ProviderError, Resource
from rehearsal.pulumi.providers.gcp import GcpSession
from rehearsal.pulumi.providers.google_rest import ApiError, GcpConfig, GoogleApi
from tests.rehearsal.pulumi.providers.noted_google import NotedGoogle
from tests.rehearsal.pulumi.providers.test_gcp_decisions import SHORT

Props = dict[str, Any]
ZONE = "projects/p/locations/us-central1-a"
CLUSTER = f"{ZONE}/clusters/c"
CONTAINER = f"/container/v1beta1/{CLUSTER}"
INPUTS: Props = {
    "name": "c", "location": "us-central1-a", "initialNodeCount": 1, "network": "default",
    "enableShieldedNodes": True, "deletionProtection": False, "resourceLabels": {"team": "a"},
    "releaseChannel": {"channel": "REGULAR"},
    "ipAllocationPolicy": {"clusterIpv4CidrBlock": "/14"},
    "nodeConfig": {
        "machineType": "n1-standard-16",
        "advancedMachineFeatures": {"threadsPerCore": 1},
        "gvnic": {"enabled": True},
        "oauthScopes": ["https://www.googleapis.com/auth/logging.write"],
    },
}  # fmt: skip
POOL: Props = {
    "name": "measured", "cluster": "c", "location": "us-central1-a", "nodeCount": 2,
    "nodeConfig": {
        "machineType": "n1-standard-16",
        "oauthScopes": ["https://www.googleapis.com/auth/logging.write"],
        "labels": {"pull-study/measured": "true"},
        "taints": [{"key": "pull-study/measured", "value": "true", "effect": "NO_SCHEDULE"}],
    },
}  # fmt: skip


def _at(kind: str, timeout_s: float = 0) -> Resource:
    return Resource(SHORT[kind], "it", timeout_s)


def _create(session: GcpSession, kind: str, inputs: Props) -> tuple[str, Props]:
    return session.create(_at(kind), inputs)


def _update(session: GcpSession, kind: str, resource_id: str, old: Props, new: Props) -> Props:
    found = session.read(_at(kind), resource_id, old)
    assert found is not None
    return session.update(_at(kind), resource_id, found.outputs, old, new)


class TestCluster:
    def test_is_created_read_and_deleted(self, gcp: GcpSession, google: NotedGoogle) -> None:
        resource_id, outputs = _create(gcp, "Cluster", INPUTS)
        assert resource_id == CLUSTER
        assert outputs["endpoint"] == "127.0.0.1:6443"
        assert outputs["masterAuth"]["clusterCaCertificate"]
        assert outputs["masterVersion"].startswith("1.34.1")
        assert outputs["selfLink"].endswith("/clusters/c")
        assert outputs["nodeConfig"]["advancedMachineFeatures"] == {"threadsPerCore": 1}
        assert outputs["nodeConfig"]["diskSizeGb"] == 100
        assert outputs["effectiveLabels"] == {"team": "a", "goog-pulumi-provisioned": "true"}
        calls = [call for call in google.calls if "/operations/" not in call]
        assert calls[:2] == [f"GET {CONTAINER}", f"POST {CONTAINER.rpartition('/')[0]}"]
        gcp.delete(_at("Cluster"), resource_id, outputs)
        assert gcp.read(_at("Cluster"), resource_id, INPUTS) is None

    def test_is_sent_as_the_official_provider_sends_it(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        _create(gcp, "Cluster", INPUTS)
        made = google.client.ok("GET", CONTAINER.lstrip("/"))
        assert made["networkConfig"]["network"] == "projects/p/global/networks/default"
        assert made["shieldedNodes"] == {"enabled": True}
        assert made["nodeConfig"]["advancedMachineFeatures"] == {"threadsPerCore": "1"}
        assert made["clusterIpv4Cidr"].endswith("/14")

    def test_default_pool_is_removed(self, gcp: GcpSession, google: NotedGoogle) -> None:
        plain = {key: item for key, item in INPUTS.items() if key != "nodeConfig"}
        _create(gcp, "Cluster", {**plain, "removeDefaultNodePool": True})
        assert google.fleet.done[-1] == "delete_pool default-pool"

    def test_that_exists_is_not_taken_over(self, gcp: GcpSession) -> None:
        _create(gcp, "Cluster", INPUTS)
        with pytest.raises(ApiError, match="Error 409: Already exists"):
            _create(gcp, "Cluster", INPUTS)

    def test_whose_operation_fails_is_kept_with_the_reason(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        google.fleet.stock_out = "default-pool"
        with pytest.raises(NotReadyError, match="ZONE_RESOURCE_POOL_EXHAUSTED") as failure:
            _create(gcp, "Cluster", INPUTS)
        assert failure.value.resource_id == CLUSTER
        assert failure.value.outputs["name"] == "c"

    def test_that_is_protected_is_not_deleted(self, gcp: GcpSession, google: NotedGoogle) -> None:
        with pytest.raises(ProviderError, match="deletion_protection is set to true"):
            gcp.delete(_at("Cluster"), CLUSTER, {"deletionProtection": True})
        assert google.calls == []

    @pytest.mark.parametrize(
        ("change", "call"),
        [
            ({"resourceLabels": {"team": "b"}}, f"POST {CONTAINER}:setResourceLabels"),
            ({"releaseChannel": {"channel": "RAPID"}}, f"PUT {CONTAINER}"),
            ({"enableShieldedNodes": False}, f"PUT {CONTAINER}"),
        ],
    )
    def test_changes_in_place(
        self, gcp: GcpSession, google: NotedGoogle, change: Props, call: str
    ) -> None:
        _create(gcp, "Cluster", INPUTS)
        google.forget()
        outputs = _update(gcp, "Cluster", CLUSTER, INPUTS, {**INPUTS, **change})
        assert google.writes() == [call]
        assert {key: outputs[key] for key in change} == change

    def test_protection_is_a_matter_of_the_state_alone(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        _create(gcp, "Cluster", INPUTS)
        google.forget()
        outputs = _update(gcp, "Cluster", CLUSTER, INPUTS, {**INPUTS, "deletionProtection": True})
        assert google.writes() == []
        assert outputs["deletionProtection"] is True

    def test_a_change_of_the_default_pool_that_is_not_implemented_is_refused(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        _create(gcp, "Cluster", INPUTS)
        google.forget()
        nodes = {**INPUTS["nodeConfig"], "fastSocket": {"enabled": True}}
        with pytest.raises(ProviderError, match=r"cannot change nodeConfig\.fastSocket"):
            _update(gcp, "Cluster", CLUSTER, INPUTS, {**INPUTS, "nodeConfig": nodes})
        assert google.writes() == []

    def test_import_fills_in_inputs(self, gcp: GcpSession) -> None:
        _create(gcp, "Cluster", INPUTS)
        found = gcp.read(_at("Cluster"), CLUSTER, {})
        assert found is not None
        assert found.inputs["name"] == "c"
        assert found.inputs["nodeConfig"]["machineType"] == "n1-standard-16"
        assert found.inputs["deletionProtection"] is True
        assert "endpoint" not in found.inputs

    def test_refresh_keeps_the_program_s_own_words(self, gcp: GcpSession) -> None:
        _create(gcp, "Cluster", INPUTS)
        found = gcp.read(_at("Cluster"), CLUSTER, INPUTS)
        assert found is not None
        assert found.inputs == INPUTS

    def test_busy_cluster_is_waited_for(self, gcp: GcpSession, google: NotedGoogle) -> None:
        outputs = _create(gcp, "Cluster", INPUTS)[1]
        said = "Cluster is running incompatible operation operation-1."
        google.answers[f"DELETE {CONTAINER}"] = [(400, {"error": {"message": said}})]
        gcp.delete(_at("Cluster"), CLUSTER, outputs)
        assert google.calls.count(f"DELETE {CONTAINER}") == 2

    def test_waiting_ends_with_the_custom_timeout(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        google.fleet.cluster_s = 1.5
        with pytest.raises(ProviderError, match="timeout while waiting for creating GKE cluster"):
            gcp.create(_at("Cluster", 0.3), INPUTS)


class TestNodePool:
    @pytest.fixture(autouse=True)
    def _cluster(self, gcp: GcpSession, google: NotedGoogle) -> None:
        _create(gcp, "Cluster", INPUTS)
        google.forget()

    def test_is_created_read_and_deleted(self, gcp: GcpSession, google: NotedGoogle) -> None:
        resource_id, outputs = _create(gcp, "NodePool", POOL)
        assert resource_id == f"{CLUSTER}/nodePools/measured"
        assert outputs["nodeCount"] == 2
        assert outputs["cluster"] == "c"
        assert outputs["nodeConfig"]["taints"] == POOL["nodeConfig"]["taints"]
        assert len(outputs["instanceGroupUrls"]) == 1
        assert google.fleet.specs[-1].taints == (("pull-study/measured", "true", "NoSchedule"),)
        gcp.delete(_at("NodePool"), resource_id, outputs)
        assert google.fleet.done[-1] == "delete_pool measured"

    def test_changed_count_is_setsize(self, gcp: GcpSession, google: NotedGoogle) -> None:
        resource_id, _ = _create(gcp, "NodePool", POOL)
        google.forget()
        outputs = _update(gcp, "NodePool", resource_id, POOL, {**POOL, "nodeCount": 5})
        assert google.writes() == [f"POST {CONTAINER}/nodePools/measured:setSize"]
        assert outputs["nodeCount"] == 5

    @pytest.mark.parametrize(
        "change",
        [
            {"labels": {"pull-study/measured": "false"}},
            {"taints": [{"key": "a", "value": "b", "effect": "NO_EXECUTE"}]},
            {"tags": ["a"]},
            {"machineType": "n1-standard-8"},
            {"gvnic": {"enabled": True}},
            {"gcfsConfig": {"enabled": True}},
            {"kubeletConfig": {"maxParallelImagePulls": 4}},
            {"loggingVariant": "MAX_THROUGHPUT"},
            {"workloadMetadataConfig": {"mode": "GKE_METADATA"}},
        ],
    )
    def test_nodes_change_in_place(
        self, gcp: GcpSession, google: NotedGoogle, change: Props
    ) -> None:
        resource_id, _ = _create(gcp, "NodePool", POOL)
        google.forget()
        new = {**POOL, "nodeConfig": {**POOL["nodeConfig"], **change}}
        outputs = _update(gcp, "NodePool", resource_id, POOL, new)
        assert len(google.writes()) == 1
        assert {key: outputs["nodeConfig"].get(key) for key in change} == change
        assert gcp.diff(_at("NodePool"), outputs, new, new).changes == []

    @pytest.mark.parametrize(
        "change",
        [
            {"management": {"autoRepair": True, "autoUpgrade": True}, "nodeCount": 3},
            {"upgradeSettings": {"maxSurge": 2, "maxUnavailable": 1}},
        ],
    )
    def test_the_pool_changes_in_place(
        self, gcp: GcpSession, google: NotedGoogle, change: Props
    ) -> None:
        resource_id, _ = _create(gcp, "NodePool", POOL)
        google.forget()
        outputs = _update(gcp, "NodePool", resource_id, POOL, {**POOL, **change})
        assert len(google.writes()) == 1
        assert gcp.diff(_at("NodePool"), outputs, POOL, {**POOL, **change}).changes == []

    def test_node_count_that_somebody_else_changed_is_seen(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        resource_id, _ = _create(gcp, "NodePool", POOL)
        path = f"container/v1beta1/{resource_id}:setSize"
        google.client.done("POST", path, {"nodeCount": 1})
        found = gcp.read(_at("NodePool"), resource_id, POOL)
        assert found is not None
        assert found.inputs["nodeCount"] == 1

    def test_pool_of_a_cluster_that_is_gone_counts_as_gone(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        resource_id, outputs = _create(gcp, "NodePool", POOL)
        google.client.done("DELETE", f"container/v1beta1/{CLUSTER}")
        gcp.delete(_at("NodePool"), resource_id, outputs)
        assert gcp.read(_at("NodePool"), resource_id, POOL) is None


class TestOtherTypes:
    @pytest.mark.parametrize(
        ("kind", "inputs", "resource_id", "known"),
        [
            (
                "Account",
                {"accountId": "nodes-4", "displayName": "Nodes"},
                "projects/p/serviceAccounts/nodes-4@p.iam.gserviceaccount.com",
                {"member": "serviceAccount:nodes-4@p.iam.gserviceaccount.com"},
            ),
            ("Bucket", {"name": "logs-p", "location": "US"}, "logs-p", {"url": "gs://logs-p"}),
            (
                "Job",
                {"name": "j", "region": "us-central1", "schedule": "1 2 3 4 *",
                 "timeZone": "Etc/UTC", "httpTarget": {"uri": "https://x", "httpMethod": "DELETE"}},
                "projects/p/locations/us-central1/jobs/j",
                {"state": "ENABLED", "paused": False},
            ),
            (
                "Service", {"service": "container.googleapis.com"}, "p/container.googleapis.com",
                {"service": "container.googleapis.com"},
            ),
            (
                "Repository",
                {"repositoryId": "images", "location": "us-central1", "format": "DOCKER",
                 "mode": "STANDARD_REPOSITORY"},
                "projects/p/locations/us-central1/repositories/images",
                {"name": "images", "registryUri": "us-central1-docker.pkg.dev/p/images"},
            ),
            (
                "Role",
                {"roleId": "expiry", "title": "Delete", "stage": "GA",
                 "permissions": ["container.clusters.delete"]},
                "projects/p/roles/expiry", {"name": "projects/p/roles/expiry"},
            ),
            (
                "Grant", {"project": "p", "role": "roles/viewer", "member": "user:a@b.c"},
                "p/roles/viewer/user:a@b.c", {"role": "roles/viewer"},
            ),
        ],
    )  # fmt: skip
    def test_is_created_read_and_deleted(
        self, gcp: GcpSession, kind: str, inputs: Props, resource_id: str, known: Props
    ) -> None:
        made, outputs = _create(gcp, kind, inputs)
        assert made == resource_id
        assert {key: outputs[key] for key in known} == known
        found = gcp.read(_at(kind), resource_id, inputs)
        assert found is not None
        assert found.inputs == inputs
        assert gcp.diff(_at(kind), found.outputs, found.inputs, inputs).changes == []
        imported = gcp.read(_at(kind), resource_id, {})
        assert imported is not None
        gcp.delete(_at(kind), resource_id, {**outputs, "disableOnDestroy": True})
        assert gcp.read(_at(kind), resource_id, inputs) is None
        gcp.delete(_at(kind), resource_id, outputs)

    def test_sink_knows_its_writer(self, gcp: GcpSession, google: NotedGoogle) -> None:
        _create(gcp, "Bucket", {"name": "logs-p", "location": "US"})
        inputs = {
            "name": "s",
            "destination": "storage.googleapis.com/logs-p",
            "filter": 'log_id("a")',
        }
        resource_id, outputs = _create(gcp, "Sink", inputs)
        assert resource_id == "projects/p/sinks/s"
        assert outputs["writerIdentity"].startswith("serviceAccount:")
        google.forget()
        changed = _update(gcp, "Sink", resource_id, inputs, {**inputs, "filter": 'log_id("b")'})
        assert changed["filter"] == 'log_id("b")'
        assert google.writes() == ["PATCH /logging/v2/projects/p/sinks/s"]

    def test_sink_that_is_there_is_taken_over(self, gcp: GcpSession, google: NotedGoogle) -> None:
        sink = {"name": "s", "destination": "storage.googleapis.com/old", "filter": ""}
        google.client.ok("POST", "logging/v2/projects/p/sinks", sink)
        google.forget()
        wanted = {**sink, "destination": "storage.googleapis.com/new", "description": "ours"}
        _, outputs = _create(gcp, "Sink", wanted)
        assert google.writes() == ["PATCH /logging/v2/projects/p/sinks/s"]
        assert outputs["destination"] == "storage.googleapis.com/new"
        assert outputs["description"] == "ours"

    def test_bucket_says_which_objects_its_rules_mean(self, gcp: GcpSession) -> None:
        rules = [
            {"action": {"type": "Delete"}, "condition": {"age": 400, "withState": "ANY"}},
            {"action": {"type": "Delete"}, "condition": {"age": 1, "withState": "ARCHIVED"}},
        ]
        inputs = {"name": "logs-p", "location": "US", "lifecycleRules": rules}
        assert _create(gcp, "Bucket", inputs)[1]["lifecycleRules"] == rules

    def test_bucket_with_objects_goes_only_by_force(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        outputs = _create(gcp, "Bucket", {"name": "logs-p", "location": "US"})[1]
        name = "logs-p/2026/11/24.json"
        google.client.state.put(Kind.OBJECT, name, {"name": "2026/11/24.json", "bucket": "logs-p"})
        with pytest.raises(ProviderError, match="without `force_destroy` set to true"):
            gcp.delete(_at("Bucket"), "logs-p", outputs)
        gcp.delete(_at("Bucket"), "logs-p", {**outputs, "forceDestroy": True})
        assert gcp.read(_at("Bucket"), "logs-p", {}) is None

    def test_deleted_role_comes_back_under_its_id(self, gcp: GcpSession) -> None:
        inputs = {"roleId": "expiry", "title": "a", "permissions": ["container.clusters.delete"]}
        resource_id, outputs = _create(gcp, "Role", inputs)
        gcp.delete(_at("Role"), resource_id, outputs)
        assert _create(gcp, "Role", {**inputs, "title": "b"})[1]["title"] == "b"

    def test_deletion_policy_is_kept(self, gcp: GcpSession, google: NotedGoogle) -> None:
        outputs = _create(gcp, "Bucket", {"name": "logs-p", "location": "US"})[1]
        google.forget()
        with pytest.raises(ProviderError, match="deletion_policy is set to PREVENT"):
            gcp.delete(_at("Bucket"), "logs-p", {**outputs, "deletionPolicy": "PREVENT"})
        gcp.delete(_at("Bucket"), "logs-p", {**outputs, "deletionPolicy": "ABANDON"})
        assert google.calls == []


class TestLabels:
    def _labels(self, google: NotedGoogle, **config: str) -> dict[str, str]:
        session = GcpSession(GoogleApi(GcpConfig({**google.config(), **config})))
        bucket = {"name": "logs-p", "location": "US", "labels": {"team": "a"}}
        return dict(_create(session, "Bucket", bucket)[1]["effectiveLabels"])

    def test_of_the_provider_come_under_those_of_the_resource(self, google: NotedGoogle) -> None:
        labels = self._labels(google, defaultLabels='{"team": "x", "cost": "y"}')
        assert labels == {"team": "a", "cost": "y", "goog-pulumi-provisioned": "true"}

    def test_of_pulumi_can_be_left_out(self, google: NotedGoogle) -> None:
        assert self._labels(google, addPulumiAttributionLabel="false") == {"team": "a"}


class TestGrants:
    def test_many_at_once_all_arrive(self, gcp: GcpSession, google: NotedGoogle) -> None:
        grants = [
            {"project": "p", "role": "roles/viewer", "member": f"user:{i}@b.c"} for i in range(12)
        ]
        threads = [threading.Thread(target=_create, args=(gcp, "Grant", grant)) for grant in grants]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        policy = google.client.ok("POST", "crm/v1/projects/p:getIamPolicy")
        (binding,) = policy["bindings"]
        assert sorted(binding["members"]) == sorted(grant["member"] for grant in grants)

    def test_policy_that_was_written_meanwhile_is_read_again(
        self, gcp: GcpSession, google: NotedGoogle
    ) -> None:
        path = "/crm/v1/projects/p:setIamPolicy"
        google.answers[f"POST {path}"] = [(409, {"error": {"message": "concurrent changes"}})]
        _create(gcp, "Grant", {"project": "p", "role": "roles/viewer", "member": "user:a@b.c"})
        assert google.calls.count(f"POST {path}") == 2

    def test_others_keep_their_rights(self, gcp: GcpSession, google: NotedGoogle) -> None:
        mine = {"project": "p", "role": "roles/viewer", "member": "user:a@b.c"}
        theirs = {**mine, "member": "user:x@y.z"}
        _create(gcp, "Grant", theirs)
        resource_id, outputs = _create(gcp, "Grant", mine)
        gcp.delete(_at("Grant"), resource_id, outputs)
        assert gcp.read(_at("Grant"), "p roles/viewer user:x@y.z", {}) is not None
        assert gcp.read(_at("Grant"), "p roles/viewer user:a@b.c", {}) is None

    def test_grant_on_a_bucket_that_is_gone_counts_as_gone(self, gcp: GcpSession) -> None:
        kind = Resource("gcp:storage/bucketIAMMember:BucketIAMMember", "it")
        _create(gcp, "Bucket", {"name": "logs-p", "location": "US"})
        grant = {"bucket": "logs-p", "role": "roles/storage.objectCreator", "member": "user:a@b.c"}
        resource_id, outputs = gcp.create(kind, grant)
        assert resource_id == "b/logs-p/roles/storage.objectCreator/user:a@b.c"
        gcp.delete(_at("Bucket"), "logs-p", {})
        assert gcp.read(kind, resource_id, grant) is None
        gcp.delete(kind, resource_id, outputs)

    def test_grant_on_a_service_account(self, gcp: GcpSession) -> None:
        kind = Resource("gcp:serviceaccount/iAMMember:IAMMember", "it")
        account, _ = _create(gcp, "Account", {"accountId": "nodes-4"})
        grant = {
            "serviceAccountId": account, "role": "roles/iam.workloadIdentityUser",
            "member": "user:a@b.c",
        }  # fmt: skip
        resource_id, outputs = gcp.create(kind, grant)
        assert resource_id == f"{account}/roles/iam.workloadIdentityUser/user:a@b.c"
        assert gcp.read(kind, resource_id, grant) is not None
        gcp.delete(kind, resource_id, outputs)
        assert gcp.read(kind, resource_id, grant) is None


class TestAnswers:
    PATH = "GET /storage/v1/b/logs-p"

    @pytest.mark.parametrize("status", [429, 502, 503])
    def test_busy_google_is_asked_again(
        self, gcp: GcpSession, google: NotedGoogle, status: int
    ) -> None:
        google.answers[self.PATH] = [(status, {}), (status, {})]
        assert gcp.read(_at("Bucket"), "logs-p", {}) is None
        assert google.calls == [self.PATH] * 3

    @pytest.mark.parametrize("status", [400, 403, 409, 500])
    def test_a_refusal_is_final(self, gcp: GcpSession, google: NotedGoogle, status: int) -> None:
        error = {"error": {"message": "Quota exceeded.", "errors": [{"reason": "quotaExceeded"}]}}
        google.answers[self.PATH] = [(status, error)]
        with pytest.raises(ApiError) as refusal:
            gcp.read(_at("Bucket"), "logs-p", {})
        expected = f"googleapi: Error {status}: Quota exceeded., quotaExceeded"
        assert str(refusal.value) == expected
        assert google.calls == [self.PATH]

    def test_asking_again_ends_with_the_timeout(self, gcp: GcpSession, google: NotedGoogle) -> None:
        google.answers[self.PATH] = [(503, {"error": {"message": "busy"}})] * 50
        begun = time.monotonic()
        with pytest.raises(ApiError, match="Error 503: busy"):
            gcp.read(_at("Bucket", 1.0), "logs-p", {})
        assert time.monotonic() - begun < 5

    def test_without_an_endpoint_nothing_is_called(self, nowhere: GcpSession) -> None:
        with pytest.raises(ProviderError, match="set GOOGLE_STORAGE_CUSTOM_ENDPOINT or install"):
            nowhere.read(_at("Bucket"), "logs-p", {})

    def test_without_a_token_nothing_is_called(
        self, google: NotedGoogle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("GOOGLE_OAUTH_ACCESS_TOKEN", raising=False)
        config = {key: item for key, item in google.config().items() if key != "accessToken"}
        session = GcpSession(GoogleApi(GcpConfig(config)))
        with pytest.raises(ProviderError, match="could not find default credentials"):
            session.read(_at("Bucket"), "logs-p", {})
        assert google.calls == []

    def test_unreachable_google_is_named(self) -> None:
        config = {"storageCustomEndpoint": "http://127.0.0.1:1/", "accessToken": "t"}
        session = GcpSession(GoogleApi(GcpConfig(config)))
        with pytest.raises(ProviderError, match=r"Cannot reach http://127\.0\.0\.1:1/b/logs-p"):
            session.read(_at("Bucket", 0.3), "logs-p", {})

    @pytest.mark.parametrize(
        ("text", "seconds"), [("", 1.0), ("500ms", 0.5), ("2s", 2.0), ("1m", 60.0)]
    )
    def test_poll_interval(self, text: str, seconds: float) -> None:
        assert GcpConfig({"pollInterval": text}).poll_s() == seconds

    def test_poll_interval_that_is_none(self) -> None:
        with pytest.raises(ProviderError, match="'soon', which is no duration such as 1s"):
            GcpConfig({"pollInterval": "soon"}).poll_s()
