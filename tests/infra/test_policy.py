import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.components.expiry import ROLE
from infra.policy import Limits, Planned, load_limits, violations
from tests.infra.conftest import Declare, Declared
from tests.infra.stack_files import stacks, values_of

GENEROUS = Limits(usd_per_hour=1000, nodes=1000)


def planned(declared: Declared) -> list[Planned]:
    return [
        Planned(found.type, found.name, copy.deepcopy(found.inputs)) for found in declared.custom
    ]


def change(resources: list[Planned], name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    """Break one resource's inputs."""
    (inputs,) = (each.inputs for each in resources if each.name == name)
    assert isinstance(inputs, dict)
    edit(inputs)


@pytest.mark.parametrize("stack", stacks())
def test_every_committed_stack_passes(declare_stack: Declare, stack: str) -> None:
    declared = declare_stack(stack, **values_of(stack))
    price = declared.exports["usd_per_hour"]
    assert violations(planned(declared), price, load_limits()) == []


BUCKET = "a-project-pull-study-size-4"
SCOPES = "https://www.googleapis.com/auth/"
BREAKS: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    (
        "cluster",
        lambda inputs: inputs.update(deletionProtection=True),
        "cluster: deletionProtection is not false, so `pulumi destroy` would fail",
    ),
    (
        "cluster",
        lambda inputs: inputs.pop("deletionProtection"),
        "cluster: deletionProtection is not false, so `pulumi destroy` would fail",
    ),
    (
        BUCKET,
        lambda inputs: inputs.update(publicAccessPrevention="inherited"),
        f"{BUCKET}: publicAccessPrevention is not enforced",
    ),
    (
        BUCKET,
        lambda inputs: inputs.pop("uniformBucketLevelAccess"),
        f"{BUCKET}: objects could have their own access rules",
    ),
    (
        "writer",
        lambda inputs: inputs.update(member="allUsers"),
        "writer: gives roles/storage.objectCreator to allUsers",
    ),
    (
        "nodes-reader",
        lambda inputs: inputs.update(role="roles/editor"),
        "nodes-reader: gives roles/editor, which covers the whole project",
    ),
    (
        "expiry-deletes-clusters",
        lambda inputs: inputs.pop("condition"),
        f"expiry-deletes-clusters: gives {ROLE} on every cluster of the project",
    ),
    (
        "measured",
        lambda inputs: inputs["nodeConfig"]["oauthScopes"].append(f"{SCOPES}cloud-platform"),
        f"measured: the scope {SCOPES}cloud-platform is wider than a node needs",
    ),
    (
        "monitoring",
        lambda inputs: inputs["nodeConfig"].pop("oauthScopes"),
        "monitoring: has no oauthScopes, so the provider would choose them",
    ),
    (
        "deployment",
        lambda inputs: inputs["spec"]["template"]["spec"]["containers"][0].update(image="e:latest"),
        "deployment: the image e:latest is not pinned by its digest",
    ),
]


@pytest.mark.parametrize(("name", "edit", "sentence"), BREAKS, ids=[item[2] for item in BREAKS])
def test_broken_resource_is_caught(
    declared: Declared, name: str, edit: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    resources = planned(declared)
    assert violations(resources, 1.0, GENEROUS) == []
    change(resources, name, edit)
    assert violations(resources, 1.0, GENEROUS) == [sentence]


def test_price_above_the_limit_is_caught(declared: Declared) -> None:
    limits = Limits(usd_per_hour=3.33, nodes=1000)
    assert violations(planned(declared), 3.34, limits) == [
        "costs 3.34 USD an hour, above the limit of 3.33"
    ]


def test_nodes_above_the_limit_are_caught(declared: Declared) -> None:
    limits = Limits(usd_per_hour=1000, nodes=4)
    assert violations(planned(declared), 1.0, limits) == ["has 5 nodes, above the limit of 4"]


def test_nodes_that_an_autoscaler_could_add_are_counted(declared: Declared) -> None:
    resources = planned(declared)
    change(resources, "measured", lambda inputs: inputs.update(autoscaling={"maxNodeCount": 500}))
    limits = Limits(usd_per_hour=1000, nodes=300)
    assert violations(resources, 1.0, limits) == ["has 501 nodes, above the limit of 300"]
