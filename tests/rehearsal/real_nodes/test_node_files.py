from __future__ import annotations

import json
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rehearsal.cluster.certificates import make_authority
from rehearsal.real_nodes.node_files import KERNEL_SETTINGS, NodeSpec, node_environment, write_files

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


def test_containerd_uses_only_the_local_registry(folder: Path) -> None:
    hosts = tomllib.loads((folder / "hosts/_default/hosts.toml").read_text())
    assert hosts["server"] == "http://127.0.0.1:5000"
    assert list(hosts["host"]) == ["http://127.0.0.1:5000"]
    config = tomllib.loads((folder / "containerd.toml").read_text())
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "127.0.0.1:5000/pause:1"
    assert cri["registry"]["config_path"] == "/var/lib/node/hosts"


def test_pods_of_each_node_have_a_network_of_their_own(folder: Path) -> None:
    (plugin,) = json.loads((folder / "cni/10-ptp.conflist").read_text())["plugins"]
    assert plugin["ipMasq"] is False
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.213.3.0/24"}]]


def test_the_start_script_mounts_kernel_settings_as_kubelet_would_write_them(folder: Path) -> None:
    script = folder / "start.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    for name, value in KERNEL_SETTINGS.items():
        assert (folder / "kernel" / name).read_text() == f"{value}\n"
        assert name in script.read_text()


def test_the_node_authenticates_by_a_certificate_of_its_own(folder: Path) -> None:
    (user,) = yaml.safe_load((folder / "kubeconfig").read_text())["users"]
    assert user["user"]["client-certificate"] == "/var/lib/node/node.crt"
    assert {"node.crt", "node.key", "ca.crt"} <= {file.name for file in folder.iterdir()}
