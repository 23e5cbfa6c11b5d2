from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.machine import cgroups
from rehearsal.machine.cgroups import ControlGroupError


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    for name in ("cpu,cpuacct", "cpuset", "memory", "pids", "systemd"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    return tmp_path


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").touch()
    return tmp_path


def test_version_1_has_a_group_in_every_hierarchy_with_processors(version_1: Path) -> None:
    cgroups.make("home/node", version_1)
    tops = ("cpu,cpuacct", "cpuset", "memory", "pids", "systemd")
    assert all((version_1 / top / "home" / "node").is_dir() for top in tops)
    assert (version_1 / "cpuset/home/cpuset.cpus").read_text() == "0-1\n"
    assert (version_1 / "cpuset/home/node/cpuset.mems").read_text() == "0\n"
    cgroups.make("home/other", version_1)


def test_version_2_enables_every_controller_down_to_the_group(version_2: Path) -> None:
    cgroups.make("home/node", version_2)
    for folder in (version_2, version_2 / "home", version_2 / "home/node"):
        enabled = (folder / "cgroup.subtree_control").read_text()
        assert enabled == "+cpuset +cpu +io +memory +pids"


def test_missing_controllers_are_named(version_1: Path) -> None:
    assert cgroups.missing(version_1) == []
    (version_1 / "memory").rmdir()
    assert cgroups.missing(version_1) == ["memory"]
    assert cgroups.missing(version_1 / "nowhere") == ["cpu", "cpuset", "memory", "pids"]


def test_a_group_that_cannot_be_created_is_reported_with_its_path(version_1: Path) -> None:
    (version_1 / "pids" / "home").touch()
    with pytest.raises(ControlGroupError, match=r"File exists|Not a directory"):
        cgroups.make("home/node", version_1)


def test_a_group_is_removed_with_all_below_it_and_no_other(tmp_path: Path) -> None:
    for group in ("home/node/pod", "home/other", "homely"):
        (tmp_path / "memory" / group).mkdir(parents=True)
    cgroups.remove("home", tmp_path)
    cgroups.remove("home", tmp_path)
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["homely"]


def test_a_group_that_stays_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_GONE_S", 0.1)
    (tmp_path / "memory" / "home").mkdir(parents=True)
    (tmp_path / "memory" / "home" / "file").touch()  # rmdir refuses, as for a group in use
    with pytest.raises(ControlGroupError, match="memory/home is still in use"):
        cgroups.remove("home", tmp_path)
