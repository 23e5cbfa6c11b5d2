"""The kubernetes stand-in under a real Pulumi engine, against a real control plane."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest
from kubernetes import client, config
from pulumi import automation
from pulumi_kubernetes import Provider, apps, core, meta, rbac

from rehearsal.cluster import control_plane
from rehearsal.cluster.control_plane import VIRTUAL_NODE, LocalControlPlane
from rehearsal.machine import processes
from tests.live.pulumi_engine import (
    changed,
    collect_failed_outputs,
    engine_variables,
    open_stack,
    stand_ins,
)

pytestmark = [pytest.mark.live, pytest.mark.full]


@dataclass
class Settings:
    """What a test changes between two runs of the program."""

    labels: dict[str, str] = field(default_factory=dict)
    configuration: str = "a: 1"
    image: str = "registry.invalid/exporter:1"
    misspelt: dict[str, Any] = field(default_factory=dict)
    wait: str = "60s"


class Program:
    """What the event exporter consists of."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.settings = Settings()

    def __call__(self) -> None:
        settings = self.settings
        cluster = Provider("cluster", kubeconfig=self.kubeconfig)
        own = pulumi.ResourceOptions(provider=cluster)
        namespace = core.v1.Namespace(
            "namespace",
            core.v1.NamespaceInitArgs(
                metadata=meta.v1.ObjectMetaArgs(name="monitoring", labels=settings.labels)
            ),
            opts=own,
        )
        inside = meta.v1.ObjectMetaArgs(name="exporter", namespace=namespace.metadata.name)
        account = core.v1.ServiceAccount(
            "account", core.v1.ServiceAccountInitArgs(metadata=inside), opts=own
        )
        configuration = core.v1.ConfigMap(
            "configuration",
            core.v1.ConfigMapInitArgs(metadata=inside, data={"config": settings.configuration}),
            opts=own,
        )
        self._rights(inside, own)
        deployment = apps.v1.Deployment(
            "deployment",
            apps.v1.DeploymentInitArgs(metadata=inside, spec=_deployment(settings)),
            opts=pulumi.ResourceOptions(
                provider=cluster,
                depends_on=[account, configuration],
                custom_timeouts=pulumi.CustomTimeouts(create=settings.wait, update=settings.wait),
            ),
        )
        pulumi.export("available", deployment.status.available_replicas)

    def _rights(self, inside: meta.v1.ObjectMetaArgs, own: pulumi.ResourceOptions) -> None:
        everywhere = meta.v1.ObjectMetaArgs(name="exporter")
        rule = rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["list"])
        role = rbac.v1.ClusterRole(
            "role", rbac.v1.ClusterRoleInitArgs(metadata=everywhere, rules=[rule]), opts=own
        )
        rbac.v1.ClusterRoleBinding(
            "binding",
            rbac.v1.ClusterRoleBindingInitArgs(
                metadata=everywhere,
                role_ref=rbac.v1.RoleRefArgs(
                    api_group="rbac.authorization.k8s.io",
                    kind="ClusterRole",
                    name=role.metadata.name,
                ),
                subjects=[
                    rbac.v1.SubjectArgs(
                        kind="ServiceAccount", name="exporter", namespace=inside.namespace
                    )
                ],
            ),
            opts=own,
        )


def _deployment(settings: Settings) -> apps.v1.DeploymentSpecArgs:
    container = {
        "name": "exporter",
        "image": settings.image,
        # The API server writes this amount as 500m.
        "resources": {"requests": {"cpu": "0.5"}},
        **settings.misspelt,
    }
    labels = {"app": "exporter"}
    return apps.v1.DeploymentSpecArgs(
        replicas=1,
        selector=meta.v1.LabelSelectorArgs(match_labels=labels),
        template=core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(labels=labels),
            # A dict, in which a misspelt key gets past the SDK and the type checker.
            spec=core.v1.PodSpecArgs(
                service_account_name="exporter", containers=cast("Any", [container])
            ),
        ),
    )


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalControlPlane]:
    folder = tmp_path_factory.mktemp("plane")
    tokens = folder / "tokens.csv"
    tokens.write_text("unused,nobody,nobody\n")
    try:
        yield control_plane.start(folder / "cluster", tokens=tokens)
    finally:
        processes.stop(folder)


@pytest.fixture(scope="module")
def api(plane: LocalControlPlane) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(plane.kubeconfig)))


@pytest.fixture(scope="module")
def program(plane: LocalControlPlane) -> Program:
    return Program(plane.kubeconfig.read_text())


@pytest.fixture(scope="module")
def stack(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[automation.Stack]:
    folder = tmp_path_factory.mktemp("engine")
    with (
        pytest.MonkeyPatch.context() as environment,
        stand_ins({}, "--only", "kubernetes") as ports,
    ):
        for name, value in engine_variables(folder, ports).items():
            environment.setenv(name, value)
        yield open_stack(program)


@pytest.fixture(autouse=True)
def _as_usual(program: Program) -> Iterator[None]:
    program.settings = Settings()
    yield
    collect_failed_outputs()


@pytest.fixture
def _node(api: Any) -> None:
    """A node that runs pods, in name."""
    key, value = VIRTUAL_NODE
    if api.list_node().items:
        return
    room = {"cpu": "8", "memory": "8Gi", "pods": "10"}
    api.create_node(
        {
            "metadata": {"name": "node-0", "annotations": {key: value}},
            "status": {"capacity": room, "allocatable": room},
        }
    )


def test_a_misspelt_property_is_refused_before_anything_is_made(
    stack: automation.Stack, program: Program, api: Any
) -> None:
    program.settings.misspelt = {"imagePullPolice": "Always"}
    with pytest.raises(automation.CommandError) as refusal:
        stack.preview()
    said = (
        "Deployment 'deployment' has no property spec.template.spec.containers[0].imagePullPolice"
    )
    assert said in str(refusal.value)
    assert "did you mean imagePullPolicy?" in str(refusal.value)
    assert all(each.metadata.name != "monitoring" for each in api.list_namespace().items)


def test_a_deployment_that_cannot_start_fails_with_its_pods_reasons(
    stack: automation.Stack, program: Program
) -> None:
    program.settings.wait = "3s"
    with pytest.raises(automation.CommandError) as failure:
        stack.up()
    assert "Deployment exporter: 0 of 1 replicas are available" in str(failure.value)
    assert "no nodes available to schedule pods" in str(failure.value)


@pytest.mark.usefixtures("_node")
def test_it_comes_up_once_there_is_a_node_and_is_the_same_again(stack: automation.Stack) -> None:
    up = stack.up()
    assert up.outputs["available"].value == 1
    assert changed(stack.up()) == {}
    stack.refresh()
    assert changed(stack.up()) == {}


@pytest.mark.usefixtures("_node")
def test_a_label_changes_in_place_and_goes_again(
    stack: automation.Stack, program: Program, api: Any
) -> None:
    program.settings.labels = {"team": "a"}
    stack.up()
    assert api.read_namespace("monitoring").metadata.labels["team"] == "a"
    program.settings.labels = {}
    assert changed(stack.up()) == {"update": 1}
    assert "team" not in api.read_namespace("monitoring").metadata.labels


@pytest.mark.usefixtures("_node")
def test_a_new_image_is_waited_for(stack: automation.Stack, program: Program, api: Any) -> None:
    stack.up()
    program.settings.image = "registry.invalid/exporter:2"
    assert changed(stack.up()) == {"update": 1}
    pods = api.list_namespaced_pod("monitoring", field_selector="status.phase=Running").items
    assert "registry.invalid/exporter:2" in {pod.spec.containers[0].image for pod in pods}


@pytest.mark.usefixtures("_node")
def test_configuration_is_replaced_because_it_cannot_change(
    stack: automation.Stack, program: Program, api: Any
) -> None:
    stack.up()
    before = api.read_namespaced_config_map("exporter", "monitoring").metadata.uid
    program.settings.configuration = "a: 2"
    assert changed(stack.up()) == {"replace": 1}
    after = api.read_namespaced_config_map("exporter", "monitoring")
    assert after.metadata.uid != before
    assert after.data == {"config": "a: 2"}


@pytest.mark.usefixtures("_node")
def test_what_was_deleted_behind_its_back_is_made_again_after_a_refresh(
    stack: automation.Stack, api: Any
) -> None:
    stack.up()
    api.delete_namespaced_service_account("exporter", "monitoring")
    stack.refresh()
    assert changed(stack.up())["create"] == 1


@pytest.mark.usefixtures("_node")
def test_destroy_waits_until_the_namespace_is_gone(stack: automation.Stack, api: Any) -> None:
    stack.up()
    assert changed(stack.destroy()) == {"delete": 8}
    assert all(each.metadata.name != "monitoring" for each in api.list_namespace().items)


def test_an_unreachable_cluster_is_told_in_a_sentence(
    stack: automation.Stack, program: Program, plane: LocalControlPlane, tmp_path: Path
) -> None:
    usual = program.kubeconfig
    program.kubeconfig = usual.replace(str(plane.port), str(processes.free_ports(1)[0]))
    begun = time.monotonic()
    with pytest.raises(automation.CommandError, match="Kubernetes cluster is unreachable"):
        stack.up()
    assert time.monotonic() - begun < 30
    program.kubeconfig = usual
    stack.destroy()
