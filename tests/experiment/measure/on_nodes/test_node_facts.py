from typing import Any

import pytest

from experiment.errors import RunError
from experiment.measure.on_nodes.node_facts import add_cpu_platforms, await_system_pods
from schema.names import CPU_PLATFORM_LABEL
from tests.experiment.fake_kube import FakeKube
from tests.experiment.fakes import FakeClock

ZONE = "topology.kubernetes.io/zone"


class Compute:
    """Lists instances, one a page."""

    project = "p"

    def __init__(self, *instances: tuple[str, str, str], denied: bool = False) -> None:
        self._instances = instances
        self._denied = denied

    def get(self, api: str, path: str, **params: str) -> dict[str, Any]:
        if self._denied:
            raise RunError("compute.instances.list is denied.")
        assert api == "COMPUTE"
        own = [each for each in self._instances if path == f"projects/p/zones/{each[0]}/instances"]
        at = int(params.get("pageToken", "0"))
        items = [{"name": name, "cpuPlatform": platform} for _, name, platform in own[at : at + 1]]
        more = {"nextPageToken": str(at + 1)} if at + 1 < len(own) else {}
        return {"items": items, **more}


def nodes(*zones: str) -> list[dict[str, Any]]:
    return [
        {"metadata": {"name": f"node-{number}", "labels": {ZONE: zone}}}
        for number, zone in enumerate(zones)
    ]


def test_each_node_gets_the_platform_of_its_machine_in_any_zone_and_page() -> None:
    found = nodes("a", "a", "b")
    api = Compute(("a", "node-0", "X"), ("a", "node-1", "X"), ("b", "node-2", "X"))
    assert add_cpu_platforms(found, api) == ""  # type: ignore[arg-type]
    assert {node["metadata"]["labels"][CPU_PLATFORM_LABEL] for node in found} == {"X"}


@pytest.mark.parametrize(
    ("api", "warning"),
    [
        (Compute(("a", "node-0", "X"), ("a", "node-1", "Y")), "1 x X, 1 x Y"),
        (Compute(("a", "node-0", "X")), "1 x X, 1 x unknown"),
        (Compute(denied=True), "not known: compute.instances.list is denied"),
    ],
)
def test_platforms_that_differ_or_are_not_known_are_warned_of(api: Compute, warning: str) -> None:
    assert warning in add_cpu_platforms(nodes("a", "a"), api)  # type: ignore[arg-type]


def system_pod(name: str, node: str, phase: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"nodeName": node},
        "status": {"phase": phase},
    }


def test_system_pods_of_the_measured_nodes_are_waited_for_and_warned_of_if_they_stay() -> None:
    kube, clock, said = FakeKube(), FakeClock(), list[str]()
    path = "/api/v1/namespaces/kube-system/pods"
    for name, node, phase in [
        ("a", "n", "Running"),
        ("b", "other", "Pending"),
        ("c", "n", "Pending"),
    ]:
        kube.emit(path, "ADDED", system_pod(name, node, phase))
    warning = await_system_pods(kube, ["n"], said.append, clock)  # type: ignore[arg-type]
    assert "1 pods of kube-system" in warning
    assert "such as c" in warning
    assert clock.now == 180
    assert said[0] == "waiting for 1 pods of kube-system on the measured nodes"
    clock.on_sleep = lambda: kube.emit(path, "MODIFIED", system_pod("c", "n", "Running"))
    assert await_system_pods(kube, ["n"], said.append, clock) == ""  # type: ignore[arg-type]
