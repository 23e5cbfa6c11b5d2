import json
from datetime import UTC, datetime

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.config import SettingsError, parse_settings
from infra.settings import EXPORTER, FLUX_OPERATOR, Settings
from tests.infra.conftest import Declare

NOW = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
SET = "pulumi config set --stack mine pull-study:"
REMOVE = "pulumi config rm --stack mine pull-study:"

ZONES = "it must be a list of 1 to 10 zones of Google Cloud such as us-central1-a."
NODES = SET + "nodeCount 4"


def settings(**values: object) -> Settings:
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in {"nodeCount": 4, **values}.items()
    }
    return parse_settings(texts, stack="mine", project="a-project", now=NOW)


REFUSALS = [
    ("nodeCount", 0, "to 0, but it must be a whole number from 1 to 1000.", NODES),
    ("nodeCount", 2000, "to 2000, but it must be a whole number from 1 to 1000.", NODES),
    ("nodeCount", "a", "to a, but it must be a whole number from 1 to 1000.", NODES),
    ("threadsPerCore", 7, "to 7, but it must be 1 or 2.", SET + "threadsPerCore 1"),
    ("gvnic", "perhaps", "to perhaps, but it must be true or false.", SET + "gvnic true"),
    (
        "zones", "us-central1-a",
        f"to us-central1-a, but {ZONES}",
        "pulumi config set --stack mine --path 'pull-study:zones[0]' us-central1-a",
    ),
    (
        "zones", ["us-east1-b", "us-central1-zz"],
        f'to ["us-east1-b", "us-central1-zz"], but {ZONES}',
        "pulumi config set --stack mine --path 'pull-study:zones[1]' us-central1-a",
    ),
    (
        "zones", [], f"to [], but {ZONES}",
        "pulumi config set --stack mine --path 'pull-study:zones[0]' us-central1-a",
    ),
    ("regional", "us-east1", "to us-east1, but it must be true or false.", SET + "regional false"),
    (
        "minCpuPlatform", "skylake",
        "to skylake, but it must be a CPU platform such as Intel Skylake, or empty for any.",
        REMOVE + "minCpuPlatform",
    ),
    (
        "exporter", "ghcr.io/resmoio/kubernetes-event-exporter:v1.7",
        ("to ghcr.io/resmoio/kubernetes-event-exporter:v1.7, but it must be an image with its "
        "digest (REPOSITORY@sha256:...), or none."),
        f"{SET}exporter {EXPORTER}",
    ),
    (
        "fluxOperator", "true",
        "to true, but it must be an image with its digest (REPOSITORY@sha256:...), or none.",
        f"{SET}fluxOperator {FLUX_OPERATOR}",
    ),
    (
        "machineType", "n1-standart-16",
        ("to n1-standart-16, but infra/prices.yaml has no such machine type "
        "(nearest: n1-standard-16)."),
        SET + "machineType n1-standard-16",
    ),
    (
        "monitoringMachineType", "e2-standard-5",
        ("to e2-standard-5, but infra/prices.yaml has no such machine type "
        "(nearest: e2-standard-8)."),
        SET + "monitoringMachineType e2-standard-8",
    ),
    (
        "diskType", "hyperdisk", "to hyperdisk, but it must be pd-standard, pd-balanced or pd-ssd.",
        SET + "diskType pd-balanced",
    ),
    (
        "diskSizeGb", 9, "to 9, but it must be a whole number of GB from 10 to 65536.",
        SET + "diskSizeGb 100",
    ),
    (
        "localSsdCount", 9,
        "to 9, but n1-standard-16 takes 0, 1, 2, 3, 4, 5, 6, 7, 8, 16 or 24 local SSDs.",
        SET + "localSsdCount 8",
    ),
    (
        "maxParallelImagePulls", 6, "to 6, but it must be 0 (GKE's own choice) or 2 to 5.",
        SET + "maxParallelImagePulls 0",
    ),
    (
        "maxParallelImagePulls", 1,
        "to 1, but it must be 0 (GKE's own choice) or 2 to 5, GKE's range of this setting.",
        SET + "maxParallelImagePulls 2",
    ),
    (
        "preloadedImage", "images/ours",
        ("to images/ours, but it must be the name of a disk image, with "
        "projects/PROJECT/global/images/ where it is of another project, or empty for none."),
        REMOVE + "preloadedImage",
    ),
    (
        "remoteRepository", "https://ghcr.io",
        "to https://ghcr.io, but it must be a registry as HOST or HOST:PORT, or empty for none.",
        SET + "remoteRepository ghcr.io",
    ),
    (
        "registryHosts", '{"https://ghcr.io": ["https://m.example"]}',
        ('to {"https://ghcr.io": ["https://m.example"]}, but it must be a mapping of at most 25 '
        "registries, as HOST or HOST:PORT, to lists of 1 to 10 mirrors, as "
        "http(s)://HOST[:PORT][/PATH]."),
        REMOVE + "registryHosts",
    ),
    (
        "registryHosts", '{"ghcr.io": []}',
        ('to {"ghcr.io": []}, but it must be a mapping of at most 25 registries, as HOST or '
        "HOST:PORT, to lists of 1 to 10 mirrors, as http(s)://HOST[:PORT][/PATH]."),
        REMOVE + "registryHosts",
    ),
    (
        "releaseChannel", "FAST",
        ("to FAST, but it must be RAPID, REGULAR, STABLE, EXTENDED, or UNSPECIFIED for none, "
        "which GKE allows existing customers only."),
        SET + "releaseChannel REGULAR",
    ),
    (
        "kubernetesVersion", "v1.34",
        ("to v1.34, but it must be a version such as 1.34 or 1.34.1-gke.1829001, "
        "or empty for the channel's."),
        SET + "kubernetesVersion 1.34",
    ),
    (
        "workloadMetadata", "NONE", "to NONE, but it must be GCE_METADATA or GKE_METADATA.",
        SET + "workloadMetadata GCE_METADATA",
    ),
    (
        "podRangePrefix", 22, "to 22, but it must be a prefix length from 9 to 21.",
        SET + "podRangePrefix 14",
    ),
    (
        "archiveBucket", "gs://ours",
        ("to gs://ours, but it must be the name of an existing bucket without gs://, "
        "or empty for a new one."),
        REMOVE + "archiveBucket",
    ),
    (
        "archiveDays", 0, "to 0, but it must be a whole number of days from 1 to 3650.",
        SET + "archiveDays 400",
    ),
    (
        "deadlineHours", 0, "to 0, but it must be a whole number of hours from 1 to 168.",
        SET + "deadlineHours 12",
    ),
    (
        "expiresAt", "tomorrow",
        ("to tomorrow, but it must be a time in UTC such as 2026-11-25T03:00Z, "
        "or empty for deadlineHours."),
        REMOVE + "expiresAt",
    ),
    (
        "expiresAt", "2026-11-24T03:15Z",
        ("to 2026-11-24T03:15Z, but that time has passed, "
        "so the cluster would never be deleted automatically."),
        REMOVE + "expiresAt",
    ),
    (
        "expiresAt", "2026-12-25T00:00Z",
        "to 2026-12-25T00:00Z, but the maximum is 30 days from now.",
        REMOVE + "expiresAt",
    ),
    (
        "runId", "Run 1",
        "to Run 1, but it must be empty or up to 63 lower-case letters, digits, _ and -.",
        REMOVE + "runId",
    ),
    (
        "labels", "team", "to team, but it must be a mapping of Google Cloud labels.",
        REMOVE + "labels",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "sentence", "fix"), REFUSALS, ids=lambda item: str(item)[:30]
)
def test_refusal_names_key_value_rule_and_fix(
    key: str, value: object, sentence: str, fix: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{key: value})
    assert caught.value.problem == f"Stack mine sets pull-study:{key} {sentence}"
    assert caught.value.fix == fix


class TestCombinations:
    def test_a_zone_twice(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(zones=["us-central1-a", "us-east1-b", "us-central1-a"])
        assert caught.value.problem == (
            "Stack mine sets pull-study:zones[2] to us-central1-a, "
            "but the list has this zone already."
        )
        assert caught.value.fix == "pulumi config rm --stack mine --path 'pull-study:zones[2]'"

    def test_more_zones_than_ten(self) -> None:
        settings(zones=[f"us-central{number}-a" for number in range(10)])
        with pytest.raises(SettingsError, match="1 to 10 zones"):
            settings(zones=[f"us-central{number}-a" for number in range(11)])

    def test_local_ssds_that_a_machine_type_cannot_take(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(machineType="e2-standard-8", localSsdCount=1)
        assert caught.value.problem == (
            "Stack mine sets pull-study:localSsdCount to 1, but e2-standard-8 takes 0 local SSDs."
        )
        assert caught.value.fix == SET + "localSsdCount 0"

    def test_preloaded_images_without_streaming(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(preloadedImage="ours")
        assert caught.value.problem == (
            "Stack mine sets pull-study:imageStreaming to false, but GKE uses the images of "
            "preloadedImage on nodes with image streaming only."
        )
        assert caught.value.fix == SET + "imageStreaming true"
        assert settings(preloadedImage="ours", imageStreaming=True).preloaded_disk == (
            "projects/a-project/global/images/ours"
        )

    def test_unpacking_in_parallel_where_nothing_would(self) -> None:
        assert settings(parallelUnpacks=9, kubernetesVersion="1.34").parallel_unpacks == 9
        nothing = "it must be 0 (containerd's own choice, one) or 2 to 16."
        old = "it needs containerd 2.2, nodes before 1.34 have an older one, and "
        streaming = "the snapshotter of image streaming does not unpack in parallel."
        for values, sentence, fix in (
            ({}, f"parallelUnpacks to 1, but {nothing}", "parallelUnpacks 2"),
            (
                {"kubernetesVersion": "1.33"},
                f"parallelUnpacks to 9, but {old}kubernetesVersion is 1.33.",
                "parallelUnpacks 0",
            ),
            (
                {"imageStreaming": True},
                f"imageStreaming to true, but {streaming}",
                "imageStreaming false",
            ),
        ):
            with pytest.raises(SettingsError) as caught:
                settings(parallelUnpacks=9 if values else 1, **values)
            assert caught.value.problem == f"Stack mine sets pull-study:{sentence}"
            assert caught.value.fix == SET + fix

    def test_an_operator_without_a_node_for_it(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(fluxOperator=FLUX_OPERATOR, monitoringPool=False)
        assert caught.value.problem == (
            "Stack mine sets pull-study:monitoringPool to false, but the pod of fluxOperator would "
            "run on a measured node, beside its pulls."
        )
        assert caught.value.fix == SET + "monitoringPool true"
        assert settings(fluxOperator=FLUX_OPERATOR).flux_operator_image == FLUX_OPERATOR

    def test_a_remote_repository_and_zones_of_two_regions(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(remoteRepository="ghcr.io", zones=["us-central1-a", "us-east1-b"])
        assert caught.value.problem == (
            "Stack mine sets pull-study:zones[1] to us-east1-b, but the images' names of "
            "remoteRepository are planned with one region, us-central1."
        )
        assert settings(remoteRepository="ghcr.io").pull_through_name == (
            "us-central1-docker.pkg.dev/a-project/pull-through-mine"
        )

    def test_parallel_pulls_before_gke_had_them(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(maxParallelImagePulls=3, kubernetesVersion="1.32")
        assert caught.value.problem == (
            "Stack mine sets pull-study:maxParallelImagePulls to 3, but GKE supports it "
            "from 1.33 on and kubernetesVersion is 1.32."
        )

    def test_more_nodes_than_pod_ranges(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(nodeCount=256, podRangePrefix=16)
        assert caught.value.problem == (
            "Stack mine sets pull-study:podRangePrefix to 16, but a /16 holds pod addresses "
            "for 256 nodes and this cluster has 258."
        )
        assert caught.value.fix == SET + "podRangePrefix 15"

    @given(st.integers(1, 1000), st.integers(9, 21), st.booleans())
    def test_fix_of_a_short_pod_range_works(self, nodes: int, prefix: int, pool: bool) -> None:
        try:
            settings(nodeCount=nodes, podRangePrefix=prefix, monitoringPool=pool)
        except SettingsError as error:
            better = int(error.fix.rpartition(" ")[2])
            assert better < prefix
            settings(nodeCount=nodes, podRangePrefix=better, monitoringPool=pool)
            with pytest.raises(SettingsError):
                settings(nodeCount=nodes, podRangePrefix=better + 1, monitoringPool=pool)

    def test_size_in_the_name_that_is_not_the_clusters(self) -> None:
        with pytest.raises(SettingsError) as caught:
            parse_settings({"nodeCount": "4"}, stack="size-64", project="a-project", now=NOW)
        assert caught.value.problem == (
            "Stack size-64 sets pull-study:nodeCount to 4, but a stack of this name must have 64 "
            "nodes: plots are labelled by the name."
        )
        assert caught.value.fix == "pulumi config set --stack size-64 pull-study:nodeCount 64"

    @pytest.mark.parametrize(
        ("key", "value", "rule"),
        [
            ("stack", "mine", "the label stack is reserved: this program finds its clusters by it"),
            (
                "Team", "a",
                ("a label's key must be 1 to 63 lower-case letters, digits, _ and -, "
                "starting with a letter and not with goog"),
            ),
            (
                "goog-x", "a",
                ("a label's key must be 1 to 63 lower-case letters, digits, _ and -, "
                "starting with a letter and not with goog"),
            ),
            ("team", "A b", "a label's value must be up to 63 lower-case letters, digits, _ and -"),
        ],
    )  # fmt: skip
    def test_labels_that_google_would_refuse(self, key: str, value: str, rule: str) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(labels={key: value})
        assert caught.value.problem == (
            f"Stack mine sets pull-study:labels.{key} to {value!r}, but {rule}."
        )
        assert caught.value.fix == f"pulumi config rm --stack mine --path pull-study:labels.{key}"

    def test_more_labels_than_google_takes(self) -> None:
        settings(labels={f"l{number}": "" for number in range(59)})
        with pytest.raises(SettingsError) as caught:
            settings(labels={f"l{number}": "" for number in range(60)})
        assert caught.value.problem == (
            "Stack mine sets pull-study:labels to 60 labels, but Google allows 64 labels a "
            "resource and 5 are reserved by this program and its provider."
        )


class TestKeys:
    def test_missing_node_count(self) -> None:
        with pytest.raises(SettingsError) as caught:
            parse_settings({}, stack="mine", project="a-project", now=NOW)
        assert caught.value.problem == (
            "Stack mine does not set pull-study:nodeCount, "
            "but it must be a whole number from 1 to 1000."
        )
        assert caught.value.fix == SET + "nodeCount 4"

    def test_unknown_one_names_the_nearest(self) -> None:
        with pytest.raises(SettingsError) as caught:
            settings(machinetype="n1-standard-16")
        assert caught.value.problem == (
            "Stack mine sets pull-study:machinetype, an unknown key "
            "(did you mean machineType?): it has no effect."
        )
        assert caught.value.fix == REMOVE + "machinetype"


class TestPlace:
    @pytest.mark.parametrize("stack", ["Size-4", "4-nodes", "a-", "a" * 24])
    def test_stack_name_that_google_could_not_use(self, stack: str) -> None:
        with pytest.raises(SettingsError, match="is not valid in Google Cloud names"):
            parse_settings({"nodeCount": "4"}, stack=stack, project="a-project", now=NOW)

    def test_no_project(self) -> None:
        with pytest.raises(SettingsError) as caught:
            parse_settings({"nodeCount": "4"}, stack="mine", project="", now=NOW)
        assert caught.value.problem == (
            "Stack mine has no Google Cloud project: "
            "neither gcp:project nor GOOGLE_CLOUD_PROJECT is set."
        )
        assert caught.value.fix == "pulumi config set --stack mine gcp:project PROJECT_ID"

    @pytest.mark.parametrize("project", ["My Project", "123456789012", "short"])
    def test_project_that_is_no_id(self, project: str) -> None:
        with pytest.raises(SettingsError, match="is not a Google Cloud project id"):
            parse_settings({"nodeCount": "4"}, stack="mine", project=project, now=NOW)


def test_wrong_setting_ends_the_program_with_its_sentence_alone(declare_stack: Declare) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        declare_stack(threadsPerCore=7)
    assert str(caught.value) == (
        "Stack size-4 sets pull-study:threadsPerCore to 7, but it must be 1 or 2.\n"
        "  Fix: pulumi config set --stack size-4 pull-study:threadsPerCore 1"
    )


def test_unknown_key_reaches_the_check(declare_stack: Declare) -> None:
    with pytest.raises(pulumi.RunError, match="did you mean nodeCount"):
        declare_stack(nodesCount=4)
