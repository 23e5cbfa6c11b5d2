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
    found, port = control_plane._configuration(Path("/c"), Path("/tokens"), rate_limits, {})
    assert found["options"]["kubeApiserverPort"] == port
    return found


def test_everything_listens_on_loopback_and_ports_differ(located: pytest.MonkeyPatch) -> None:
    options = configuration()["options"]
    assert options["bindAddress"] == "127.0.0.1"
    ports = [value for name, value in options.items() if name.endswith("Port")]
    assert len(set(ports)) == len(ports) == 6


def test_rate_limits_are_kubernetes_own_unless_switched_off(located: pytest.MonkeyPatch) -> None:
    assert configuration()["options"]["disableQPSLimits"] is False
    assert configuration(rate_limits=False)["options"]["disableQPSLimits"] is True


def test_kwok_leaves_real_nodes_alone(located: pytest.MonkeyPatch) -> None:
    (kwok,) = (p for p in configuration()["componentsPatches"] if p["name"] == "kwok-controller")
    arguments = {each["key"]: each["value"] for each in kwok["extraArgs"]}
    assert arguments == {
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "disregard-status-with-label-selector": "batch.kubernetes.io/job-name",
    }


def test_programs_are_those_that_tools_located(located: pytest.MonkeyPatch) -> None:
    assert configuration()["options"]["kubeApiserverBinary"] == "/programs/kube-apiserver"


def test_a_missing_program_is_said_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(name: str) -> Located:
        raise MissingProgram(f"{name} is not on this machine.", "make setup")

    monkeypatch.setattr(control_plane, "locate", locate)
    with pytest.raises(FleetError, match=r"etcd is not on this machine\.\n.*make setup"):
        control_plane.start(tmp_path, tokens=tmp_path / "tokens")
