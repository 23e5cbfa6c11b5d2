"""The requests that bring nodes to a new configuration, as the official provider words them."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.differences import changes
from rehearsal.pulumi.providers.gcp_kind import Update
from rehearsal.pulumi.providers.gcp_node_config import disk_failures, update_nodes
from rehearsal.pulumi.providers.gcp_node_pool import NodePool
from rehearsal.pulumi.providers.gke import Gke

Props = dict[str, Any]
POOL = "projects/p/locations/l/clusters/c/nodePools/measured"


class Recorder:
    """Notes what would be asked of GKE."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []

    def change(self, method: str, path: str, body: Mapping[str, Any], words: str) -> None:
        self.asked.append((method, path, body))

    def update(self, desired: Mapping[str, Any], words: str) -> None:
        self.asked.append(("PUT", "cluster", desired))


def _asked(old: Props, new: Props) -> list[tuple[str, str, Mapping[str, Any]]]:
    before, after = {"nodeConfig": old}, {"nodeConfig": new}
    found = changes(NodePool.rules, before, before, after)
    recorder = Recorder()
    update_nodes(cast("Gke", recorder), POOL, Update(before, before, after, found))
    return recorder.asked


@pytest.mark.parametrize(
    ("old", "new", "body"),
    [
        (
            {"machineType": "n1-standard-16", "diskSizeGb": 100, "diskType": "pd-balanced"},
            {"machineType": "n1-standard-16", "diskSizeGb": 200, "diskType": "pd-balanced"},
            {"name": "measured", "machineType": "n1-standard-16", "diskSizeGb": "200",
             "diskType": "pd-balanced"},
        ),
        (
            {"labels": {"a": "1"}}, {"labels": {"a": "2"}},
            {"name": "measured", "labels": {"labels": {"a": "2"}}},
        ),
        (
            {"resourceLabels": {"a": "1"}}, {},
            {"name": "measured", "resourceLabels": {"labels": {}}},
        ),
        (
            {"taints": [{"key": "a", "value": "b", "effect": "NO_SCHEDULE"}]}, {"taints": []},
            {"name": "measured", "taints": {"taints": []}},
        ),
        ({"tags": ["a"]}, {}, {"name": "measured", "tags": {"tags": []}}),
        (
            {"gvnic": {"enabled": True}}, {"gvnic": {"enabled": False}},
            {"nodePoolId": "measured", "gvnic": {"enabled": False}},
        ),
        (
            {}, {"kubeletConfig": {"maxParallelImagePulls": 3, "podPidsLimit": 1024}},
            {"nodePoolId": "measured",
             "kubeletConfig": {"maxParallelImagePulls": 3, "podPidsLimit": "1024"}},
        ),
        (
            {"loggingVariant": "DEFAULT"}, {"loggingVariant": "MAX_THROUGHPUT"},
            {"name": "measured",
             "loggingConfig": {"variantConfig": {"variant": "MAX_THROUGHPUT"}}},
        ),
    ],
)  # fmt: skip
def test_a_change_is_one_put_of_the_pool(old: Props, new: Props, body: Props) -> None:
    assert _asked(old, new) == [("PUT", POOL, body)]


def test_another_image_is_asked_of_the_cluster() -> None:
    asked = _asked({"imageType": "COS_CONTAINERD"}, {"imageType": "UBUNTU_CONTAINERD"})
    desired = {"desiredNodePoolId": "measured", "desiredImageType": "UBUNTU_CONTAINERD"}
    assert asked == [("PUT", "cluster", desired)]


def test_two_changes_are_two_calls() -> None:
    asked = _asked({"machineType": "a", "labels": {}}, {"machineType": "b", "labels": {"x": "y"}})
    assert [[*body] for _, _, body in asked] == [["name", "machineType"], ["name", "labels"]]


def test_what_cannot_be_changed_is_refused_before_anything_is() -> None:
    new = {"machineType": "b", "confidentialNodes": {"enabled": True}}
    with pytest.raises(ProviderError, match=r"cannot change nodeConfig\.confidentialNodes of proj"):
        _asked({"machineType": "a"}, new)


@pytest.mark.parametrize(("size", "refused"), [(9, True), (10, False), (None, False)])
def test_smallest_disk(size: int | None, refused: bool) -> None:
    nodes = {} if size is None else {"diskSizeGb": size}
    assert bool(disk_failures({"nodeConfig": nodes})) is refused
