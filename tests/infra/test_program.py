import pytest

from infra.components.expiry import ROLE
from infra.components.nodes import SCOPES
from schema.names import MEASURED_LABEL
from schema.stack_outputs import StackOutputs
from tests.infra.conftest import COMPUTED, PROJECT, Declare, Declared
from tests.infra.stack_files import stacks, values_of

CLUSTER = "container/cluster:Cluster"
POOL = "container/nodePool:NodePool"
JOB = "cloudscheduler/job:Job"
BUCKET = "storage/bucket:Bucket"
DEPLOYMENT = "apps/v1:Deployment"


@pytest.fixture(params=stacks())
def each(request: pytest.FixtureRequest, declare_stack: Declare) -> Declared:
    """Every committed stack in turn."""
    return declare_stack(request.param, **values_of(request.param))


class TestExports:
    def test_are_exactly_the_stack_outputs(self, each: Declared) -> None:
        assert set(each.exports) == set(StackOutputs.model_fields)

    def test_describe_the_cluster(self, declared: Declared) -> None:
        outputs = StackOutputs.model_validate(declared.exports)
        assert outputs.project == PROJECT
        assert outputs.cluster_name == declared.only(CLUSTER).inputs["name"] == "pull-study-size-4"
        assert outputs.node_count == declared.only(POOL, "measured").inputs["nodeCount"] == 4
        assert outputs.archive_bucket == COMPUTED["gcp:storage/bucket:Bucket"]["name"]

    def test_log_filter_is_the_sinks(self, declared: Declared) -> None:
        sink = declared.only("ProjectSink")
        assert declared.exports["log_filter"] == sink.inputs["filter"]

    def test_price_is_of_all_nodes_disks_and_the_control_plane(self, declared: Declared) -> None:
        disk = 100 * 0.10 / 730
        expected = 0.10 + 4 * (0.76 + disk) + 0.134 + disk + 5 * 0.005
        assert declared.exports["usd_per_hour"] == pytest.approx(expected, abs=0.005)


class TestProviders:
    def test_every_resource_has_an_explicit_one(self, each: Declared) -> None:
        assert len(each.custom) >= 15
        for resource in each.custom:
            assert resource.provider_type == resource.type.partition(":")[0], resource.urn

    def test_project_is_never_ambient(self, declared: Declared) -> None:
        inputs = declared.only("pulumi:providers:gcp").inputs
        assert (inputs["project"], inputs["billingProject"]) == (PROJECT, PROJECT)
        assert inputs["userProjectOverride"] in {True, "true"}

    def test_kubernetes_uses_the_stacks_own_kubeconfig(self, declared: Declared) -> None:
        provider = declared.only("pulumi:providers:kubernetes")
        assert provider.inputs["kubeconfig"] == declared.exports["kubeconfig"]


class TestSecrets:
    def test_nothing_registered_or_exported_is_one(self, declared: Declared) -> None:
        everything = repr([resource.inputs for resource in declared.resources]) + repr(
            declared.exports
        )
        for word in ("ya29.", "private_key", "client-key-data", "password", "bearer"):
            assert word not in everything.lower()
        assert "'token'" not in everything

    def test_no_service_account_key_is_created(self, each: Declared) -> None:
        assert not [found for found in each.resources if "serviceaccount/key" in found.type.lower()]


class TestDestroy:
    def test_the_cluster_is_not_protected(self, each: Declared) -> None:
        assert each.only(CLUSTER).inputs["deletionProtection"] is False

    def test_nodes_and_objects_in_the_cluster_are_deleted_with_it(self, each: Declared) -> None:
        cluster = each.only(CLUSTER).urn
        inside = [found for found in each.custom if found.type.startswith("kubernetes:")]
        assert len(inside) == (12 if each.exports["flux_operator"] else 6)
        pools = each.of_type(POOL)
        assert {found.request.deletedWith for found in (*inside, *pools)} == {cluster}

    def test_only_the_archive_stays(self, each: Declared) -> None:
        retained = [found.type for found in each.custom if found.request.retainOnDelete]
        assert sorted(retained) == [
            "gcp:logging/projectSink:ProjectSink",
            "gcp:storage/bucket:Bucket",
            "gcp:storage/bucketIAMMember:BucketIAMMember",
        ]

    def test_nodes_are_deleted_before_their_rights(self, declared: Declared) -> None:
        rights = {found.urn for found in declared.of_type("IAMMember") if "nodes" in found.name}
        assert len(rights) == 2
        for resource in (*declared.of_type(POOL), declared.only(CLUSTER)):
            assert rights <= set(resource.request.dependencies)


class TestTimeouts:
    def test_cluster_and_pools_have_explicit_ones(self, each: Declared) -> None:
        for resource in (*each.of_type(POOL), each.only(CLUSTER)):
            timeouts = resource.request.customTimeouts
            assert (timeouts.create, timeouts.update, timeouts.delete) == ("40m", "60m", "40m")


class TestNames:
    def test_all_but_the_archives_are_deterministic(self, each: Declared) -> None:
        unnamed = [
            found.type
            for found in each.custom
            if not {"name", "accountId", "repositoryId", "role", "service"} & set(found.inputs)
            and "name" not in found.inputs.get("metadata", {})
        ]
        assert unnamed == ["gcp:storage/bucket:Bucket"]

    def test_differ_between_stacks(self, declare_stack: Declare) -> None:
        def names(declared: Declared) -> set[str]:
            keys = ("name", "accountId", "repositoryId")
            google = [found for found in declared.custom if found.type.startswith("gcp:")]
            pools = {"measured", "monitoring"}
            return {
                found.inputs[key] for found in google for key in keys if key in found.inputs
            } - pools

        first, second = declare_stack("size-4"), declare_stack("size-8", nodeCount=8)
        assert len(names(first)) == 4
        assert not names(first) & names(second)

    def test_archive_name_leaves_room_for_a_suffix(self, declare_stack: Declare) -> None:
        bucket = declare_stack("a-name-of-twenty-3-char").only(BUCKET)
        assert len(bucket.name) <= 55


class TestMeasuredNodes:
    def test_are_as_in_the_original_study(self, declared: Declared) -> None:
        node = declared.only(POOL, "measured").inputs["nodeConfig"]
        assert node["machineType"] == "n1-standard-16"
        assert node["advancedMachineFeatures"] == {"threadsPerCore": 1}
        assert node["gvnic"] == {"enabled": True}
        assert (node["diskType"], node["diskSizeGb"]) == ("pd-balanced", 100)
        assert "ephemeralStorageLocalSsdConfig" not in node
        assert "gcfsConfig" not in node

    def test_accept_only_the_studys_pods(self, declared: Declared) -> None:
        node = declared.only(POOL, "measured").inputs["nodeConfig"]
        assert node["labels"] == {MEASURED_LABEL: "true"}
        assert node["taints"] == [{"key": MEASURED_LABEL, "value": "true", "effect": "NO_SCHEDULE"}]

    def test_are_not_upgraded_during_a_study(self, declared: Declared) -> None:
        pool = declared.only(POOL, "measured").inputs
        (policy,) = pool["maintenancePolicies"]
        assert policy == {"exclusionUntilEndOfSupports": [{"enabled": True}]}
        assert pool["management"] == {"autoRepair": True, "autoUpgrade": True}

    def test_without_a_channel_are_neither_upgraded_nor_repaired(
        self, declare_stack: Declare
    ) -> None:
        pool = declare_stack(releaseChannel="UNSPECIFIED").only(POOL, "measured").inputs
        assert pool["management"] == {"autoRepair": False, "autoUpgrade": False}
        assert "maintenancePolicies" not in pool

    @pytest.mark.parametrize(
        ("key", "value", "path", "expected"),
        [
            ("machineType", "n1-standard-64", "machineType", "n1-standard-64"),
            ("minCpuPlatform", "Intel Skylake", "minCpuPlatform", "Intel Skylake"),
            ("threadsPerCore", 2, "advancedMachineFeatures", {"threadsPerCore": 2}),
            ("gvnic", False, "gvnic", {"enabled": False}),
            ("spot", True, "spot", True),
            ("diskType", "pd-ssd", "diskType", "pd-ssd"),
            ("diskSizeGb", 500, "diskSizeGb", 500),
            ("localSsdCount", 2, "ephemeralStorageLocalSsdConfig", {"localSsdCount": 2}),
            ("imageStreaming", True, "gcfsConfig", {"enabled": True}),
            ("maxParallelImagePulls", 5, "kubeletConfig", {"maxParallelImagePulls": 5}),
            (
                "registryHosts",
                {"ghcr.io": ["https://m.example/v2/proxy", "http://n.example:5000"]},
                "containerdConfig",
                {
                    "registryHosts": [
                        {
                            "server": "ghcr.io",
                            "hosts": [
                                {
                                    "host": host,
                                    "capabilities": [
                                        "HOST_CAPABILITY_PULL",
                                        "HOST_CAPABILITY_RESOLVE",
                                    ],
                                    "overridePath": root,
                                }
                                for host, root in [
                                    ("https://m.example/v2/proxy", True),
                                    ("http://n.example:5000", False),
                                ]
                            ],
                        }
                    ]
                },
            ),
            (
                "workloadMetadata",
                "GKE_METADATA",
                "workloadMetadataConfig",
                {"mode": "GKE_METADATA"},
            ),
        ],
    )
    def test_follow_the_settings(
        self, declare_stack: Declare, key: str, value: object, path: str, expected: object
    ) -> None:
        node = declare_stack(**{key: value}).only(POOL, "measured").inputs["nodeConfig"]
        assert node[path] == expected

    def test_have_the_rights_and_scopes_that_nodes_need_and_no_others(
        self, declared: Declared
    ) -> None:
        for pool in declared.of_type(POOL):
            assert tuple(pool.inputs["nodeConfig"]["oauthScopes"]) == SCOPES
        assert not [scope for scope in SCOPES if scope.endswith("/cloud-platform")]
        roles = {
            f.inputs["role"] for f in declared.of_type("iAMMember:IAMMember") if "nodes" in f.name
        }
        assert roles == {
            "roles/container.defaultNodeServiceAccount",
            "roles/artifactregistry.reader",
        }


class TestImageStreaming:
    def test_has_its_api_and_its_right_before_the_nodes(self, declare_stack: Declare) -> None:
        declared = declare_stack(imageStreaming=True)
        api = declared.only("projects/service:Service")
        assert api.inputs["service"] == "containerfilesystem.googleapis.com"
        assert api.inputs["disableOnDestroy"] is False
        right = declared.only("iAMMember:IAMMember", "nodes-serviceUsageConsumer")
        pool = declared.only(POOL, "measured")
        assert {api.urn, right.urn} <= set(pool.request.dependencies)


class TestMonitoringPool:
    def test_carries_the_exporter_and_all_its_logs(self, declared: Declared) -> None:
        pool = declared.only(POOL, "monitoring").inputs
        assert pool["nodeCount"] == 1
        assert pool["nodeConfig"]["loggingVariant"] == "MAX_THROUGHPUT"
        assert "taints" not in pool["nodeConfig"]
        pod = declared.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"cloud.google.com/gke-nodepool": "monitoring"}

    def test_without_it_everything_can_run_on_the_measured_nodes(
        self, declare_stack: Declare
    ) -> None:
        declared = declare_stack(monitoringPool=False)
        node = declared.only(POOL).inputs["nodeConfig"]
        assert "taints" not in node
        assert node["loggingVariant"] == "MAX_THROUGHPUT"
        deployment = declared.only(DEPLOYMENT)
        assert "nodeSelector" not in deployment.inputs["spec"]["template"]["spec"]
        assert declared.only(POOL).urn in deployment.request.dependencies


class TestExporter:
    def test_image_is_the_one_that_is_set(self, declare_stack: Declare) -> None:
        image = f"us-central1-docker.pkg.dev/a-project/mirror/exporter@sha256:{'0' * 64}"
        deployment = declare_stack(exporter=image).only(DEPLOYMENT)
        (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
        assert container["image"] == image

    def test_none_puts_nothing_into_the_cluster(self, declare_stack: Declare) -> None:
        declared = declare_stack(exporter="none")
        assert not [found for found in declared.resources if "kubernetes" in found.type]
        outputs = StackOutputs.model_validate(declared.exports)
        assert (outputs.exporter_namespace, outputs.exporter_deployment) == ("", "")
        assert "stdout" not in outputs.log_filter
        assert 'log_id("events")' in outputs.log_filter


class TestControlPlane:
    def test_regional_keeps_all_nodes_in_one_zone(self, declare_stack: Declare) -> None:
        declared = declare_stack(regional=True, zones=["us-east1-b", "us-central1-a"])
        cluster = declared.only(CLUSTER).inputs
        assert (cluster["location"], cluster["nodeLocations"]) == ("us-east1", ["us-east1-b"])
        assert {pool.inputs["location"] for pool in declared.of_type(POOL)} == {"us-east1"}
        assert declared.exports["location"] == "us-east1"
        assert declared.exports["zone"] == "us-east1-b"

    def test_version_is_of_nodes_too(self, declare_stack: Declare) -> None:
        declared = declare_stack(kubernetesVersion="1.34")
        assert declared.only(CLUSTER).inputs["minMasterVersion"] == "1.34"
        assert {pool.inputs["version"] for pool in declared.of_type(POOL)} == {"1.34"}

    def test_labels_name_project_stack_run_and_deadline(self, declare_stack: Declare) -> None:
        declared = declare_stack(runId="run-1", labels={"team": "systems"})
        labels = declared.only(CLUSTER).inputs["resourceLabels"]
        assert set(labels) == {"team", "project", "stack", "run", "expires"}
        assert labels["stack"] == "size-4"
        assert labels["run"] == "run-1"
        assert declared.only(BUCKET).inputs["labels"]["team"] == "systems"

    def test_private_nodes_and_workload_identity_are_optional(self, declare_stack: Declare) -> None:
        plain = declare_stack().only(CLUSTER).inputs
        assert not {"privateClusterConfig", "workloadIdentityConfig"} & set(plain)
        cluster = declare_stack(privateNodes=True, workloadMetadata="GKE_METADATA").only(CLUSTER)
        assert cluster.inputs["privateClusterConfig"] == {"enablePrivateNodes": True}
        pool = {"workloadPool": f"{PROJECT}.svc.id.goog"}
        assert cluster.inputs["workloadIdentityConfig"] == pool


class TestDeadMan:
    def test_is_created_before_the_cluster(self, each: Declared) -> None:
        jobs = {job.urn for job in each.of_type(JOB)}
        assert len(jobs) == 2
        assert jobs <= set(each.only(CLUSTER).request.dependencies)

    def test_requests_the_deletion_of_this_cluster(self, declared: Declared) -> None:
        for job in declared.of_type(JOB):
            assert job.inputs["httpTarget"]["httpMethod"] == "DELETE"
            assert job.inputs["httpTarget"]["uri"] == (
                "https://container.googleapis.com/v1/projects/a-project/locations/us-central1-a"
                "/clusters/pull-study-size-4"
            )
            assert job.inputs["retryConfig"]["retryCount"] == 5

    def test_may_manage_this_cluster_and_nothing_else(self, declared: Declared) -> None:
        (grant,) = [f for f in declared.of_type("iAMMember:IAMMember") if "expiry" in f.name]
        assert grant.inputs["role"] == ROLE == "roles/container.clusterAdmin"
        name = declared.only(CLUSTER).inputs["name"]
        assert f"/zones/us-central1-a/clusters/{name}" in grant.inputs["condition"]["expression"]
        for job in declared.of_type(JOB):
            assert grant.urn in job.request.dependencies

    def test_jobs_are_where_cloud_scheduler_is(self, declare_stack: Declare) -> None:
        declared = declare_stack(zones=["southamerica-west1-a"])
        assert {job.inputs["region"] for job in declared.of_type(JOB)} == {"us-central1"}

    def test_keeps_the_deadline_that_the_last_update_exported(self, declare_stack: Declare) -> None:
        declared = declare_stack(last_exports={"expires_at": "2099-03-04T05:06:00Z"})
        assert declared.exports["expires_at"] == "2099-03-04T05:06:00Z"
        assert declared.only(JOB, "deadline").inputs["schedule"] == "6 5-23 4 3 *"
        assert declared.only(JOB, "deadline-next-day").inputs["schedule"] == "*/15 * 5 3 *"
        labels = declared.only(CLUSTER).inputs["resourceLabels"]
        assert labels["expires"] == "2099-03-04t05-06z"

    def test_no_upgrade_until_a_day_after_the_deadline(self, declare_stack: Declare) -> None:
        exports = {
            "expires_at": "2099-03-04T05:06:00Z",
            "upgrades_excluded_since": "2099-03-03T01:00:00Z",
        }
        declared = declare_stack(last_exports=exports)
        policy = declared.only(CLUSTER).inputs["maintenancePolicy"]
        assert policy["maintenanceExclusions"] == [
            {
                "exclusionName": "study",
                "startTime": "2099-03-03T01:00:00Z",
                "endTime": "2099-03-05T05:06:00Z",
                "exclusionOptions": {"scope": "NO_UPGRADES"},
            }
        ]
        assert declared.exports["upgrades_excluded_since"] == "2099-03-03T01:00:00Z"


class TestArchive:
    def test_is_private_versioned_and_ages(self, declared: Declared) -> None:
        bucket = declared.only(BUCKET).inputs
        assert bucket["uniformBucketLevelAccess"] is True
        assert bucket["publicAccessPrevention"] == "enforced"
        assert bucket["versioning"] == {"enabled": True}
        assert bucket["lifecycleRules"] == [
            {"action": {"type": "Delete"}, "condition": {"age": 400, "withState": "ANY"}}
        ]
        assert bucket["location"] == "us-central1"

    def test_takes_objects_from_its_own_sink_alone(self, declared: Declared) -> None:
        sink, member = declared.only("ProjectSink"), declared.only("BucketIAMMember")
        assert sink.inputs["uniqueWriterIdentity"] is True
        bucket = declared.exports["archive_bucket"]
        assert sink.inputs["destination"] == f"storage.googleapis.com/{bucket}"
        assert member.inputs == {
            "bucket": bucket,
            "role": "roles/storage.objectCreator",
            "member": "serviceAccount:writer@google",
        }

    def test_existing_bucket_is_used_and_not_owned(self, declare_stack: Declare) -> None:
        declared = declare_stack(archiveBucket="ours")
        assert not declared.of_type(BUCKET)
        assert declared.exports["archive_bucket"] == "ours"
        assert declared.only("BucketIAMMember").inputs["bucket"] == "ours"
        assert declared.only("ProjectSink").inputs["destination"] == "storage.googleapis.com/ours"


class TestPreview:
    def test_of_a_stack_that_does_not_exist_declares_it_all(self, declare_stack: Declare) -> None:
        assert len(declare_stack(preview=True).custom) == len(declare_stack().custom)
