"""The cgroup that holds all containers of a node; cgroups v1 and v2.

kubelet requires that the cgroup named by its cgroupRoot exists before it starts. The cgroups of a
home have its own name, so what is found below it belongs to that home and may be ended.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rehearsal.machine.processes import poll

ROOT = Path("/sys/fs/cgroup")

_NEEDED = ("cpu", "cpuset", "memory", "pids")
_GONE_S = 5.0


class ControlGroupError(Exception):
    """This process cannot create or remove a cgroup."""


def make(group: str, root: Path = ROOT) -> None:
    """Create a cgroup, for example `pull-study-1a2b3c4d/node-1`, in every hierarchy."""
    try:
        if _is_unified(root):
            _make_unified(group, root)
        else:
            _make_each(group, root)
    except OSError as error:
        raise ControlGroupError(
            f"cgroups cannot be created below {root}: {error.strerror} ({error.filename})"
        ) from error


def remove(group: str, root: Path = ROOT) -> None:
    """Remove a cgroup and all below it, and kill what runs in it. Idempotent."""
    folders: list[Path] = []

    def are_removed() -> bool:
        nonlocal folders
        folders = [folder for top in _tops(root) for folder in _deepest_first(top / group)]
        for folder in folders:
            with suppress(OSError):  # still in use: its members are killed below
                folder.rmdir()
        _kill_members(folders)
        return not folders

    if not poll(are_removed, _GONE_S, 0.02):
        raise ControlGroupError(f"the cgroup {folders[-1]} is still in use")


def controllers(root: Path = ROOT) -> set[str]:
    if _is_unified(root):
        return set((root / "cgroup.controllers").read_text(encoding="utf-8").split())
    return {name for top in _tops(root) for name in top.name.split(",")}


def missing(root: Path = ROOT) -> list[str]:
    """Return the controllers that kubelet needs and this machine does not have."""
    return sorted(set(_NEEDED) - controllers(root)) if root.is_dir() else list(_NEEDED)


def _is_unified(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _tops(root: Path) -> list[Path]:
    if _is_unified(root):
        return [root]
    return [top for top in sorted(root.iterdir()) if top.is_dir() and not top.is_symlink()]


def _make_each(group: str, root: Path) -> None:
    for top in _tops(root):
        (top / group).mkdir(parents=True, exist_ok=True)
        if "cpuset" in top.name.split(","):  # a new group has none, and so takes no process
            for part in reversed([Path(group), *Path(group).parents[:-1]]):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    inherited = ((top / part).parent / name).read_text(encoding="utf-8")
                    (top / part / name).write_text(inherited, encoding="utf-8")


def _make_unified(group: str, root: Path) -> None:
    (root / group).mkdir(parents=True, exist_ok=True)
    available = (root / "cgroup.controllers").read_text(encoding="utf-8").split()
    enable = " ".join(f"+{name}" for name in available)
    for part in reversed([Path(group), *Path(group).parents]):  # the root first
        (root / part / "cgroup.subtree_control").write_text(enable, encoding="utf-8")


def _deepest_first(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def _kill_members(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text(encoding="utf-8").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
