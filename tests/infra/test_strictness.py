"""A mistake anywhere in what the program sends is refused by the fake providers."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.settings import FLUX_OPERATOR
from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.properties import from_struct, to_struct
from rehearsal.pulumi.providers.protocol import Resource, Session
from tests.infra.conftest import Declare, Registration
from tests.infra.stack_files import values_of

KUBECONFIG = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n"
FREE = ("labels", "resourceLabels", "metadata", "annotations", "data", "matchLabels", "requests")
FREE_KEYS = (*FREE, "limits", "nodeSelector")
"""Mappings whose keys are free."""
SETTINGS: dict[str, object] = {
    "fluxOperator": FLUX_OPERATOR,
    "imageStreaming": True,
    "localSsdCount": 1,
    "maxParallelImagePulls": 5,
    "minCpuPlatform": "Intel Skylake",
    "preloadedImage": "projects/a-project/global/images/ours",
    "remoteRepository": "ghcr.io",
    "registryHosts": {"ghcr.io": ["https://m.example"]},
    "kubernetesVersion": "1.34",
    "privateNodes": True,
    "workloadMetadata": "GKE_METADATA",
    "labels": {"team": "systems"},
}
"""With these the program sends everything that it can on nodes that stream images."""

Path = tuple[str | int, ...]


def sessions() -> dict[str, Session]:
    return {
        "gcp": GcpProvider().configure({}),
        "kubernetes": KubernetesProvider().configure({"kubeconfig": KUBECONFIG}),
    }


@pytest.fixture(scope="module")
def checkers() -> dict[str, Session]:
    return sessions()


@pytest.fixture
def sent(declare_stack: Declare) -> list[Registration]:
    streaming = declare_stack("size-16-streaming", **(values_of("size-16-streaming") | SETTINGS))
    others = declare_stack("size-16-parallel-unpack", **values_of("size-16-parallel-unpack"))
    init = [each for each in others.custom if "node-init" in each.name or each.name == "measured"]
    return [*streaming.custom, *(replace(each, name=f"unpack-{each.name}") for each in init)]


def failures(checkers: Mapping[str, Session], resource: Registration, inputs: Any) -> list[str]:
    checker = checkers[resource.type.partition(":")[0]]
    arrived = from_struct(to_struct(inputs))
    checked = checker.check(Resource(resource.type, resource.name), {}, arrived, b"seed")
    return [failure.path for failure in checked.failures]


def keys(value: Any, at: Path = ()) -> Iterator[Path]:
    """Paths of all keys of objects, at any depth, except in mappings with the user's own keys."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from keys(item, (*at, index))
    if isinstance(value, dict) and not (
        at and at[-1] in FREE_KEYS and not _is_kubernetes_meta(value)
    ):
        for key, item in value.items():
            yield (*at, key)
            yield from keys(item, (*at, key))


def _is_kubernetes_meta(value: Mapping[str, Any]) -> bool:
    return "name" in value or ("labels" in value and isinstance(value["labels"], dict))


def parent(inputs: Any, path: Path) -> Any:
    for step in path[:-1]:
        inputs = inputs[step]
    return inputs


def test_everything_as_sent_is_accepted(
    checkers: dict[str, Session], sent: list[Registration]
) -> None:
    for resource in sent:
        assert failures(checkers, resource, resource.inputs) == [], resource.urn


def test_a_misspelt_key_is_refused_wherever_it_is(
    checkers: dict[str, Session], sent: list[Registration]
) -> None:
    tried = 0
    for resource in sent:
        for path in keys(resource.inputs):
            wrong = copy.deepcopy(resource.inputs)
            place = parent(wrong, path)
            place[f"{path[-1]}Misspelt"] = place.pop(path[-1])
            found = failures(checkers, resource, wrong)
            assert any(f"{path[-1]}Misspelt" in each for each in found), (resource.urn, path, found)
            tried += 1
    assert tried > 200


def test_a_value_of_another_type_is_refused_wherever_it_is(
    checkers: dict[str, Session], sent: list[Registration]
) -> None:
    tried = 0
    for resource in sent:
        for path in keys(resource.inputs):
            wrong = copy.deepcopy(resource.inputs)
            place = parent(wrong, path)
            if path[-1] == "status":
                continue  # of a definition's subresources: the SDK's type is Any
            was = place[path[-1]]
            place[path[-1]] = (
                "text" if isinstance(was, (bool, int, list, dict)) else {"an": "object"}
            )
            assert failures(checkers, resource, wrong), (resource.urn, path)
            tried += 1
    assert tried > 200


REQUIRED: list[tuple[str, Path]] = [
    ("cluster", ("releaseChannel", "channel")),
    ("deadline", ("httpTarget", "uri")),
    ("deadline", ("httpTarget", "oauthToken", "serviceAccountEmail")),
    ("cluster", ("maintenancePolicy", "maintenanceExclusions", 0, "startTime")),
    ("expiry-deletes-clusters", ("condition", "expression")),
    ("expiry-deletes-clusters", ("member",)),
    ("image-streaming", ("service",)),
    ("measured", ("cluster",)),
    ("measured", ("nodeConfig", "advancedMachineFeatures", "threadsPerCore")),
    ("measured", ("nodeConfig", "ephemeralStorageLocalSsdConfig", "localSsdCount")),
    ("measured", ("nodeConfig", "gcfsConfig", "enabled")),
    ("measured", ("nodeConfig", "gvnic", "enabled")),
    ("measured", ("nodeConfig", "taints", 0, "effect")),
    ("measured", ("nodeConfig", "workloadMetadataConfig", "mode")),
    ("miniclusters", ("spec", "versions", 0, "storage")),
    ("pull-through", ("remoteRepositoryConfig",)),
    ("sink", ("destination",)),
    ("writer", ("bucket",)),
]


@pytest.mark.parametrize(("name", "path"), REQUIRED, ids=str)
def test_a_missing_property_is_refused(
    checkers: dict[str, Session], sent: list[Registration], name: str, path: Path
) -> None:
    (resource,) = (each for each in sent if each.name == name)
    wrong = copy.deepcopy(resource.inputs)
    del parent(wrong, path)[path[-1]]
    found = failures(checkers, resource, wrong)
    assert len(found) == 1
    assert found[0].endswith(str(path[-1]))


ILLEGAL: list[tuple[str, Path, object]] = [
    ("cluster", ("name",), "Pull_Study"),
    ("cluster", ("releaseChannel", "channel"), "FAST"),
    (
        "cluster",
        ("maintenancePolicy", "maintenanceExclusions", 0, "exclusionOptions", "scope"),
        "NONE",
    ),
    ("expiry", ("accountId",), "a"),
    ("measured", ("nodeConfig", "diskSizeGb"), 9),
    ("measured", ("nodeConfig", "taints", 0, "effect"), "NoSchedule"),
    ("measured", ("nodeConfig", "workloadMetadataConfig", "mode"), "NONE"),
    ("writer", ("member",), "somebody"),
    ("measured", ("nodeCount",), -1),
]


@pytest.mark.parametrize(("name", "path", "value"), ILLEGAL, ids=str)
def test_what_the_types_do_not_show_is_refused(
    checkers: dict[str, Session],
    sent: list[Registration],
    name: str,
    path: Path,
    value: object,
) -> None:
    (resource,) = (each for each in sent if each.name == name)
    wrong = copy.deepcopy(resource.inputs)
    parent(wrong, path)[path[-1]] = value
    assert failures(checkers, resource, wrong)
