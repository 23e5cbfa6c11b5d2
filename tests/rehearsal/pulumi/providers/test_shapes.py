from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN
from pulumi_gcp.container import ClusterArgs, NodePoolArgs
from pulumi_kubernetes.apps.v1 import DeploymentInitArgs

from rehearsal.pulumi.providers.shapes import refusals

_SPEC = {"selector": {}, "template": {"spec": {"containers": [{"name": "c"}]}}}


def _reasons(args: type, value: dict[str, Any]) -> list[str]:
    return [failure.reason for failure in refusals(args, value, "It")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"locatoin": "x"}, "It has no property locatoin; did you mean location?"),
        (
            {"nodeConfig": {"machineTyp": "x"}},
            "It has no property nodeConfig.machineTyp; did you mean machineType?",
        ),
        (
            {"nodeConfig": {"taints": [{"key": "k", "value": "v", "efect": "NO_SCHEDULE"}]}},
            "It has no property nodeConfig.taints[0].efect; did you mean effect?",
        ),
        ({"nodeConfig": {"qqqqqq": 1}}, "It has no property nodeConfig.qqqqqq."),
        ({"initialNodeCount": "4"}, "It: initialNodeCount must be a whole number, not '4'."),
        ({"initialNodeCount": 4.5}, "It: initialNodeCount must be a whole number, not 4.5."),
        ({"initialNodeCount": True}, "It: initialNodeCount must be a whole number, not True."),
        ({"deletionProtection": "false"}, "It: deletionProtection must be true or false, not 'fal"),
        ({"nodeLocations": "us-central1-b"}, "It: nodeLocations must be a list, not 'us-central1"),
        ({"nodeLocations": [1]}, "It: nodeLocations[0] must be a string, not 1."),
        ({"releaseChannel": "REGULAR"}, "It: releaseChannel must be an object, not 'REGULAR'."),
        ({"resourceLabels": {"a": 1}}, 'It: resourceLabels["a"] must be a string, not 1.'),
        (
            {"nodeConfig": {"advancedMachineFeatures": {}}},
            "It needs the property nodeConfig.advancedMachineFeatures.threadsPerCore, which is",
        ),
    ],
)
def test_what_the_sdk_has_no_place_for_is_refused(value: dict[str, Any], reason: str) -> None:
    assert any(said.startswith(reason) for said in _reasons(ClusterArgs, value)), value


@pytest.mark.parametrize(
    "value",
    [
        {"location": "us-central1-a", "initialNodeCount": 4},
        {"location": UNKNOWN, "initialNodeCount": UNKNOWN, "nodeConfig": UNKNOWN},
        {"nodeConfig": {"oauthScopes": [UNKNOWN], "labels": {"a/b": "c"}}},
        {"__defaults": ["name"]},
    ],
)
def test_what_is_right_or_not_known_yet_passes(value: dict[str, Any]) -> None:
    assert _reasons(ClusterArgs, value) == []


def test_a_property_that_must_be_there_is_missed() -> None:
    assert _reasons(NodePoolArgs, {}) == ["It needs the property cluster, which is missing."]


@pytest.mark.parametrize("surge", [1, "25%"])
def test_either_of_two_types_passes(surge: Any) -> None:
    strategy = {"strategy": {"rollingUpdate": {"maxSurge": surge}}}
    assert _reasons(DeploymentInitArgs, {"spec": {**_SPEC, **strategy}}) == []


def test_a_kubernetes_object_is_read_in_depth() -> None:
    spec = {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "imge": "x"}]}}}
    assert _reasons(DeploymentInitArgs, {"kind": "Deployment", "spec": spec}) == [
        "It has no property spec.template.spec.containers[0].imge; did you mean image?"
    ]
    wrong = {"kind": "Deploiment", "spec": _SPEC}
    assert _reasons(DeploymentInitArgs, wrong) == [
        "It: kind must be 'Deployment', not 'Deploiment'."
    ]
