from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.machine import cgroups, requirements
from tools import packages

MOUNTS = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /home/my\040disk rw - xfs /dev/vdb rw
23 21 0:6 / /home/my\040disk/over rw - overlay overlay rw
24 21 0:7 / /homely rw - tmpfs tmpfs rw
""".strip()


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that can run real nodes, whatever this one can."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages.Package, "path", lambda self: f"/usr/bin/{self.name}")
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(cgroups, "missing", list)
    monkeypatch.setattr(requirements, "file_system", lambda _: "ext4")
    monkeypatch.setattr(requirements, "free_bytes", lambda _: 10**11)
    return monkeypatch


def problems(home: Path = Path("/h")) -> list[str]:
    found = requirements.obstacles(home)
    assert all(obstacle.fix for obstacle in found)
    return [obstacle.problem for obstacle in found]


def test_an_able_machine_has_no_obstacle(able: pytest.MonkeyPatch) -> None:
    assert problems() == []


def test_another_system_is_named(able: pytest.MonkeyPatch) -> None:
    able.setattr(sys, "platform", "darwin")
    assert problems() == ["Real nodes need Linux, and this is darwin."]


def test_a_user_is_told_of_root(able: pytest.MonkeyPatch) -> None:
    able.setattr(os, "geteuid", lambda: 1000)
    assert problems() == ["Real nodes need root, and this is a user."]


def test_missing_packages_come_with_the_command_that_gets_them(able: pytest.MonkeyPatch) -> None:
    able.setattr(packages.Package, "path", lambda self: "" if self.name == "runc" else "/bin/x")
    (obstacle,) = requirements.obstacles(Path("/h"))
    assert obstacle.problem == "Real nodes need runc."
    assert obstacle.fix.endswith("apt-get install --no-install-recommends runc")


def test_a_missing_right_shows_what_the_kernel_said(able: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "unshare: Operation not permitted\n")
    able.setattr(subprocess, "run", lambda *_, **__: refused)
    (problem,) = problems()
    assert "unshare: Operation not permitted" in problem


def test_a_missing_controller_is_named(able: pytest.MonkeyPatch) -> None:
    able.setattr(cgroups, "missing", lambda: ["memory", "pids"])
    (problem,) = problems()
    assert "no controller memory, pids" in problem


def test_a_disk_that_is_nearly_full_is_refused_with_its_figure(able: pytest.MonkeyPatch) -> None:
    able.setattr(requirements, "free_bytes", lambda _: 3_200_000_000)
    (problem,) = problems()
    assert problem.startswith("The disk of /h has 3.2 GB free, and with less than 5 GB")


def test_an_overlay_file_system_is_refused(able: pytest.MonkeyPatch) -> None:
    able.setattr(requirements, "file_system", lambda _: "overlay")
    (problem,) = problems()
    assert "overlay file system" in problem


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home/my disk", "xfs"),
        ("/home/my disk/over/there", "overlay"),
        ("/home/my disk/other", "xfs"),
        ("/homely/x", "tmpfs"),
        ("/home/else", "ext4"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(
    monkeypatch: pytest.MonkeyPatch, folder: str, kind: str
) -> None:
    monkeypatch.setattr(requirements, "_existing", lambda path: path)
    assert requirements.file_system(Path(folder), MOUNTS) == kind


def test_free_bytes_of_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    assert requirements.free_bytes(tmp_path / "a" / "b") == requirements.free_bytes(tmp_path) > 0


def test_more_real_nodes_than_a_machine_runs_are_refused_with_a_way_out() -> None:
    assert requirements.too_many("real", 8) is None
    assert requirements.too_many("real", None) is None
    obstacle = requirements.too_many("real", 16)
    assert obstacle is not None
    assert obstacle.problem == "16 real nodes are more than the 8 that one machine runs."
    assert "--nodes simulated" in obstacle.fix


def test_more_simulated_nodes_than_memory_allows_are_refused_with_the_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = requirements.simulated_bytes(256)
    monkeypatch.setattr(requirements, "free_memory", lambda: needed)
    assert requirements.too_many("simulated", 256) is None
    obstacle = requirements.too_many("simulated", 300)
    assert obstacle is not None
    assert (
        f"300 simulated nodes takes about {requirements.simulated_bytes(300) / 2**30:.1f} GiB"
        in (obstacle.problem)
    )
    assert "at most 256 nodes" in obstacle.fix


def test_a_container_s_limit_counts_as_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert requirements.free_memory() > 0
    for name, value in (("max", 3 << 30), ("current", 1 << 30)):
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(requirements, "_available_bytes", lambda: 16 << 30)
    monkeypatch.setattr(requirements, "_MEMORY_LIMIT", tmp_path / "max")
    monkeypatch.setattr(requirements, "_MEMORY_USED", tmp_path / "current")
    assert requirements.free_memory() == 2 << 30
    (tmp_path / "max").write_text("max\n")
    assert requirements.free_memory() == 16 << 30
