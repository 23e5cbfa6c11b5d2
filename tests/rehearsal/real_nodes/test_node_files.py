from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rehearsal.cluster.certificates import make_authority
from rehearsal.cluster.fleet import Mirror
from rehearsal.real_nodes.node_files import NodeSpec, node_environment, write_files

SPEC = NodeSpec(
    name="gke-c-p-0001",
    labels={
        "cloud.google.com/gke-nodepool": "p",
        "node.kubernetes.io/instance-type": "n1-standard-16",
        "kubernetes.io/hostname": "gke-c-p-0001",
        "example.kubernetes.io/own": "1",
        "plain": "yes",
    },
    taints=(("pull-study/measured", "true", "NoSchedule"),),
    number=3,
    kubelet_port=20001,
    control_group="home/gke-c-p-0001",
    registry="127.0.0.1:5000",
    registry_login="Basic cmVo",
    pause_image="127.0.0.1:5000/pause:1",
    server="https://127.0.0.1:6443",
    plugins="/usr/lib/cni",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(SPEC, tmp_path, make_authority())
    return tmp_path


def test_labels_that_a_kubelet_may_not_set_are_left_to_the_administrator() -> None:
    assert set(SPEC.labels) - set(SPEC.own_labels) == {"example.kubernetes.io/own"}
    assert "plain=yes" in node_environment(SPEC)["NODE_LABELS"].split(",")


def test_a_nodes_containerd_sends_spans_only_where_something_takes_them() -> None:
    assert not any(name.startswith("OTEL") for name in node_environment(SPEC))
    traced = node_environment(replace(SPEC, traces="http://127.0.0.1:1/v1/traces"))
    assert traced["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:1/v1/traces"
    assert traced["OTEL_RESOURCE_ATTRIBUTES"] == "host.name=gke-c-p-0001"


def test_containerd_has_its_defaults_but_for_what_this_machine_demands(folder: Path) -> None:
    config = tomllib.loads((folder / "containerd.toml").read_text())
    assert config["version"] == 3
    images = config["plugins"]["io.containerd.cri.v1.images"]
    assert images == {
        "pinned_images": {"sandbox": SPEC.pause_image},
        "registry": {"config_path": "/var/lib/node/hosts"},
    }
    assert "io.containerd.transfer.v1.local" not in config["plugins"]


@pytest.mark.parametrize(
    ("label", "own"),
    [
        ("pull-study/measured", True),
        ("notkubernetes.io/x", True),
        ("kubernetes.io/x", False),
        ("a.k8s.io/x", False),
        ("a.node.kubernetes.io/x", True),
        ("kubelet.kubernetes.io/x", True),
        ("xnode.kubernetes.io/x", False),
        ("topology.kubernetes.io/zone", True),
        ("topology.kubernetes.io/rack", False),
    ],
)
def test_kubelet_s_rule_for_labels(label: str, own: bool) -> None:
    assert (label in replace(SPEC, labels={label: "v"}).own_labels) is own


def test_kubelet_reports_events_and_pulls_as_by_default(folder: Path) -> None:
    config = yaml.safe_load((folder / "kubelet.yaml").read_text())
    assert config["registerWithTaints"] == [
        {"key": "pull-study/measured", "value": "true", "effect": "NoSchedule"}
    ]
    left_alone = {"eventRecordQPS", "eventBurst", "registryPullQPS", "serializeImagePulls"}
    assert left_alone.isdisjoint(config)
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert (config["address"], config["readOnlyPort"]) == ("127.0.0.1", 0)
    assert config["cgroupRoot"] == "/home/gke-c-p-0001"


def test_a_registrys_mirrors_are_asked_in_their_order_and_then_the_registry(tmp_path: Path) -> None:
    mirrors = (
        Mirror("ghcr.io", "https://b.example/v2/proxy", root=True),
        Mirror("ghcr.io", "http://a.example:5000"),
    )
    write_files(replace(SPEC, mirrors=mirrors), tmp_path, make_authority())
    hosts = tomllib.loads((tmp_path / "hosts/ghcr.io/hosts.toml").read_text())
    assert hosts["server"] == "http://127.0.0.1:5000"
    assert [(url, host["override_path"]) for url, host in hosts["host"].items()] == [
        ("https://b.example/v2/proxy", True),
        ("http://a.example:5000", False),
        ("http://127.0.0.1:5000", False),
    ]
    *mirrors_, own = hosts["host"].values()
    assert "header" in own
    assert not any("header" in each for each in mirrors_)  # the login is for nobody else
    others = tomllib.loads((tmp_path / "hosts/_default/hosts.toml").read_text())
    assert list(others["host"]) == ["http://127.0.0.1:5000"]


def test_containerd_shows_the_registry_its_login_whichever_of_its_hosts_it_asks(
    folder: Path,
) -> None:
    hosts = tomllib.loads((folder / "hosts/_default/hosts.toml").read_text())
    (host,) = hosts["host"].values()
    assert hosts["header"] == host["header"] == {"Authorization": SPEC.registry_login}
