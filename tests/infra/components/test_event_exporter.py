import hashlib
from typing import Any

import pytest
import yaml

from infra.components import event_exporter
from tests.infra.conftest import Declared

Pod = dict[str, Any]


@pytest.fixture
def pod(declared: Declared) -> Pod:
    spec: Pod = declared.only("apps/v1:Deployment").inputs["spec"]["template"]["spec"]
    return spec


class TestConfiguration:
    def test_drops_no_event_and_looks_nothing_up(self, declared: Declared) -> None:
        text = declared.only("core/v1:ConfigMap").inputs["data"]["config.yaml"]
        configuration = yaml.safe_load(text)
        assert configuration["maxEventAgeSeconds"] == 1200
        assert (configuration["kubeQPS"], configuration["kubeBurst"]) == (100, 500)
        assert configuration["omitLookup"] is True
        assert configuration["leaderElection"] == {"enabled": False}

    def test_writes_events_to_stdout_and_its_own_log_elsewhere(self) -> None:
        configuration = yaml.safe_load(event_exporter.CONFIGURATION)
        (receiver,) = configuration["receivers"]
        assert "stdout" in receiver
        assert configuration["route"]["routes"] == [{"match": [{"receiver": receiver["name"]}]}]
        assert configuration["logFormat"] == "json"

    def test_has_nothing_that_the_exporter_would_expand(self) -> None:
        assert "$" not in event_exporter.CONFIGURATION

    def test_change_rolls_the_deployment(self, declared: Declared) -> None:
        metadata = declared.only("apps/v1:Deployment").inputs["spec"]["template"]["metadata"]
        text = declared.only("core/v1:ConfigMap").inputs["data"]["config.yaml"]
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert metadata["annotations"] == {"pull-study/configuration": digest}


class TestRights:
    def test_are_to_read_events_alone(self, declared: Declared) -> None:
        assert declared.only("v1:ClusterRole").inputs["rules"] == [
            {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]}
        ]

    def test_belong_to_its_own_account(self, declared: Declared, pod: Pod) -> None:
        binding = declared.only("v1:ClusterRoleBinding").inputs
        account = declared.only("v1:ServiceAccount").inputs["metadata"]
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]
        assert (
            binding["roleRef"]["name"] == declared.only("v1:ClusterRole").inputs["metadata"]["name"]
        )
        assert pod["serviceAccountName"] == account["name"]

    def test_are_created_before_it_starts(self, declared: Declared) -> None:
        before = declared.only("apps/v1:Deployment").request.dependencies
        for kind in ("v1:ClusterRoleBinding", "v1:ServiceAccount", "v1:ConfigMap"):
            assert declared.only(kind).urn in before


class TestPod:
    def test_is_one_at_any_time(self, declared: Declared) -> None:
        spec = declared.only("apps/v1:Deployment").inputs["spec"]
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}

    def test_image_is_pinned_by_digest(self, pod: Pod) -> None:
        image = pod["containers"][0]["image"]
        repository, digest = image.split("@")
        assert repository == "ghcr.io/resmoio/kubernetes-event-exporter"
        assert len(digest.removeprefix("sha256:")) == 64

    def test_can_change_nothing(self, pod: Pod) -> None:
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all(mount["readOnly"] for mount in container["volumeMounts"])

    def test_has_probes_and_resources(self, pod: Pod) -> None:
        (container,) = pod["containers"]
        assert container["readinessProbe"] == {"httpGet": {"path": "/-/ready", "port": 2112}}
        assert set(container["resources"]) == {"requests", "limits"}

    def test_reads_the_configuration_that_is_mounted(self, pod: Pod) -> None:
        (container,) = pod["containers"]
        (volume,) = pod["volumes"]
        (mount,) = container["volumeMounts"]
        assert volume["configMap"]["name"] == event_exporter.NAME
        assert container["args"] == [f"-conf={mount['mountPath']}/config.yaml"]
