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


Change = tuple[object, str, object]
REFUSED = subprocess.CompletedProcess([], 1, "", "unshare: Operation not permitted\n")


def without_runc(package: packages.Package) -> str:
    return "" if package.name == "runc" else "/bin/x"


@pytest.mark.parametrize(
    ("change", "problem", "fix"),
    [
        ((sys, "platform", "darwin"), "Real nodes need Linux, not darwin.", "simulated"),
        (
            (os, "geteuid", lambda: 1000),
            "Real nodes need root, not user 1000.",
            "make rehearsal NODES=",
        ),
        ((packages.Package, "path", without_runc), "Real nodes need runc.", "apt-get install"),
        (
            (subprocess, "run", lambda *_, **__: REFUSED),
            "unshare: Operation not permitted",
            "--privileged",
        ),
        ((cgroups, "missing", lambda: ["memory", "pids"]), "no controller memory, pids", "mount"),
        (
            (requirements, "free_bytes", lambda _: 3_200_000_000),
            "The disk of /h has 3.2 GB free, and with less than 5 GB",
            "free some space",
        ),
        ((requirements, "file_system", lambda _: "overlay"), "overlay file system", "a volume"),
    ],
)
def test_what_keeps_real_nodes_from_running_is_reported_with_its_fix(
    able: pytest.MonkeyPatch, change: Change, problem: str, fix: str
) -> None:
    assert requirements.obstacles(Path("/h")) == []
    able.setattr(*change)
    (obstacle,) = requirements.obstacles(Path("/h"))
    assert problem in obstacle.problem
    assert fix in obstacle.fix


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


@pytest.mark.parametrize(
    ("nodes", "count", "problem", "fix"),
    [
        ("real", 8, "", ""),
        ("real", None, "", ""),
        (
            "real",
            16,
            "16 real nodes are more than the 8 that one machine runs.",
            "--nodes simulated",
        ),
        ("simulated", 256, "", ""),
        ("simulated", 300, "300 simulated nodes takes about", "at most 256 nodes"),
    ],
)
def test_more_nodes_than_the_machine_can_run_are_refused_with_an_alternative(
    monkeypatch: pytest.MonkeyPatch, nodes: str, count: int | None, problem: str, fix: str
) -> None:
    monkeypatch.setattr(requirements, "free_memory", lambda: requirements.simulated_bytes(256))
    obstacle = requirements.too_many(nodes, count)
    assert (obstacle is None) is not bool(problem)
    if obstacle:
        assert problem in obstacle.problem
        assert fix in obstacle.fix


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
