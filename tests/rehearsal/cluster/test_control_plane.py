from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster import control_plane
from rehearsal.cluster.fleet import FleetError
from tools.programs import Located, MissingProgram


@pytest.fixture
def located(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def locate(name: str) -> Located:
        return Located(name, Path("/programs") / name, "1", "cache")

    monkeypatch.setattr(control_plane, "locate", locate)
    return monkeypatch


def configuration(*, rate_limits: bool = True) -> dict[str, Any]:
    found, port = control_plane._configuration(Path("/c"), rate_limits, {})
    assert found["options"]["kubeApiserverPort"] == port
    return found


def test_the_configuration_of_a_control_plane(located: pytest.MonkeyPatch) -> None:
    found = configuration()
    options = found["options"]
    assert options["bindAddress"] == "127.0.0.1"
    ports = [value for name, value in options.items() if name.endswith("Port")]
    assert len(set(ports)) == len(ports) == 6
    assert options["disableQPSLimits"] is False
    assert configuration(rate_limits=False)["options"]["disableQPSLimits"] is True
    assert options["kubeApiserverBinary"] == "/programs/kube-apiserver"
    (kwok,) = (p for p in found["componentsPatches"] if p["name"] == "kwok-controller")
    assert {each["key"]: each["value"] for each in kwok["extraArgs"]} == {
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "disregard-status-with-label-selector": "batch.kubernetes.io/job-name",
        "server-address": "",
        "node-port": "0",
    }


def test_a_control_plane_is_open_to_nobody_without_a_certificate(
    located: pytest.MonkeyPatch,
) -> None:
    patches = {each["name"]: each["extraArgs"] for each in configuration()["componentsPatches"]}
    settings = {
        name: {each["key"]: each["value"] for each in arguments}
        for name, arguments in patches.items()
    }
    etcd, server = settings["etcd"], settings["kube-apiserver"]
    assert {etcd["client-cert-auth"], etcd["peer-client-cert-auth"]} == {"true"}
    assert etcd["trusted-ca-file"] == etcd["peer-trusted-ca-file"] == server["etcd-cafile"]
    assert not etcd["trusted-ca-file"].endswith("/ca.crt")  # a node's certificate opens no etcd
    urls = [value for key, value in etcd.items() if "urls" in key]
    assert len(urls) == 4
    assert all(url.startswith("https://127.0.0.1:") for url in urls)
    # kwokctl has set them already, to plain HTTP, and an etcd server would be added to its own
    replaced = {each["key"] for each in patches["kube-apiserver"] if each.get("override")}
    assert replaced == {"etcd-servers"}
    assert server["etcd-servers"] == etcd["listen-client-urls"]
    assert server["anonymous-auth"] == "false"
    for name in ("kube-controller-manager", "kube-scheduler"):
        assert settings[name]["secure-port"] == "0"


def test_a_missing_program_is_reported_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(name: str) -> Located:
        raise MissingProgram(f"{name} is not on this machine.", "make setup")

    monkeypatch.setattr(control_plane, "locate", locate)
    with pytest.raises(FleetError, match=r"etcd is not on this machine\.\n.*make setup"):
        control_plane.start(tmp_path, reviewer="http://127.0.0.1:1/")
