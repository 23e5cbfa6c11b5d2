from collections.abc import Mapping
from typing import Any

import pytest

from experiment.errors import MeasureError, ProvisionError
from experiment.measure.on_nodes.parallel_unpacks import MARKER, check_unpacks
from schema.names import UNPACKS_LABEL


class Kubelets:
    """Serve the marker of the nodes that have one."""

    def __init__(self, markers: Mapping[str, str]) -> None:
        self._markers = markers

    def node_log(self, node: str, name: str) -> str:
        assert name == MARKER
        if node not in self._markers:
            raise MeasureError("404")
        return self._markers[node]


def nodes(*runtimes: str) -> list[dict[str, Any]]:
    return [
        {
            "metadata": {"name": f"node-{number}"},
            "status": {"nodeInfo": {"containerRuntimeVersion": runtime}},
        }
        for number, runtime in enumerate(runtimes)
    ]


def check(found: list[dict[str, Any]], unpacks: int = 9, **markers: str) -> str:
    kubelets = Kubelets({f"node-{name.removeprefix('n')}": text for name, text in markers.items()})
    return check_unpacks(kubelets, found, unpacks)  # type: ignore[arg-type]


def test_nodes_that_show_the_number_are_labelled_with_it() -> None:
    found = nodes("containerd://2.2.0", "containerd://2.10.1-gke.1")
    assert check(found, n0="9\n", n1="9\n") == ""
    assert {node["metadata"]["labels"][UNPACKS_LABEL] for node in found} == {"9"}


def test_of_a_stack_that_declares_nothing_nothing_is_asked() -> None:
    found = nodes("containerd://1.6.20")
    assert check(found, 0) == ""
    assert "labels" not in found[0]["metadata"]


@pytest.mark.parametrize("runtime", ["containerd://2.1.9", "containerd://1.7.22", "cri-o://2.3.0"])
def test_a_runtime_that_cannot_is_refused(runtime: str) -> None:
    with pytest.raises(ProvisionError) as error:
        check(nodes("containerd://2.2.1", runtime), n0="9", n1="9")
    assert error.value.problem == (
        "1 of 2 measured nodes cannot unpack 9 layers at once, which needs containerd 2.2: "
        f"node-1 has {runtime}."
    )
    assert "kubernetesVersion or releaseChannel" in error.value.fix


def test_a_node_that_was_configured_for_another_number_is_refused() -> None:
    with pytest.raises(ProvisionError, match="node-1 made its containerd unpack 4 layers at once"):
        check(nodes("containerd://2.4.2", "containerd://2.4.2"), n0="9\n", n1="4\n")


def test_nodes_that_show_nothing_are_warned_of() -> None:
    warning = check(nodes("containerd://2.4.2", "containerd://2.4.2"), n0="9\n")
    assert warning.startswith("1 of 2 measured nodes do not show that their init script ran")
    assert "node-1" in warning
