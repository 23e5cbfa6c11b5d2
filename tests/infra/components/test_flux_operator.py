from typing import Any

import pytest

from infra.components.event_exporter import NAMESPACE
from infra.settings import FLUX_OPERATOR as IMAGE
from schema.names import FLUX_OPERATOR, MINICLUSTERS
from schema.stack_outputs import StackOutputs
from tests.infra.conftest import Declare, Declared

GROUP, VERSION, PLURAL = MINICLUSTERS


@pytest.fixture
def operated(declare_stack: Declare) -> Declared:
    return declare_stack(fluxOperator=IMAGE)


def pod_of(declared: Declared) -> Any:
    return declared.only("apps/v1:Deployment", "operator-deployment").inputs["spec"]["template"][
        "spec"
    ]


def test_a_stack_has_none_unless_its_file_says_so(declared: Declared) -> None:
    assert not [each for each in declared.resources if each.name.startswith("operator-")]
    assert StackOutputs.model_validate(declared.exports).flux_operator == ""


def test_it_is_the_image_that_is_set_and_is_exported(operated: Declared) -> None:
    (container,) = pod_of(operated)["containers"]
    assert container["image"] == IMAGE
    assert StackOutputs.model_validate(operated.exports).flux_operator == IMAGE


def test_the_definition_accepts_any_field_of_a_minicluster(operated: Declared) -> None:
    definition = operated.only("CustomResourceDefinition").inputs
    assert definition["metadata"]["name"] == f"{PLURAL}.{GROUP}"
    (version,) = definition["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == (VERSION, True, True)
    assert version["schema"]["openAPIV3Schema"] == {
        "type": "object",
        "x_kubernetes_preserve_unknown_fields": True,
    }
    assert version["subresources"] == {"status": {}}


def test_it_may_create_what_a_minicluster_has_and_delete_nothing(operated: Declared) -> None:
    rules = operated.only("v1:ClusterRole", "operator-role").inputs["rules"]
    verbs = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    assert {name for name, allowed in verbs.items() if "create" in allowed} == {
        "configmaps", "jobs", "services",
    }  # fmt: skip
    assert "patch" in verbs["pods"]
    assert all("delete" not in allowed and "*" not in allowed for allowed in verbs.values())


def test_it_starts_after_its_definition_and_its_rights(operated: Declared) -> None:
    before = operated.only("apps/v1:Deployment", "operator-deployment").request.dependencies
    assert operated.only("CustomResourceDefinition").urn in before
    assert operated.only("v1:ClusterRoleBinding", "operator-binding").urn in before


def test_it_runs_off_the_measured_nodes_without_privileges(operated: Declared) -> None:
    pod = pod_of(operated)
    assert pod["nodeSelector"] == {"cloud.google.com/gke-nodepool": "monitoring"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "volumes" not in pod
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "512Mi"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_account_is_in_its_own_namespace(operated: Declared) -> None:
    account = operated.only("v1:ServiceAccount", "operator-account").inputs["metadata"]
    assert (account["namespace"], account["name"]) == (FLUX_OPERATOR, FLUX_OPERATOR)
    assert NAMESPACE != FLUX_OPERATOR
