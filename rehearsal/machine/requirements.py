"""What a rehearsal needs, what of it this machine has, and how to get the rest."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from rehearsal.machine import cgroups
from rehearsal.machine.home import Home, unescape_mount
from rehearsal.machine.programs import PROVIDERS, official_plugin
from tools import packages, programs
from tools.part import Part

LARGEST_FLEET = 8
"""Real nodes that a machine runs at most, over all clusters."""

_CLUSTER_BYTES = 1_200 << 20
_NODE_BYTES = 5 << 20
"""What a rehearsal takes with no simulated node, and more with each (docs/rehearsal.md)."""
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MEMORY_USED = Path("/sys/fs/cgroup/memory.current")
_NODE_PACKAGES = ("runc", "containernetworking-plugins")
_REAL_NODES_ONLY = {
    *_NODE_PACKAGES,
    "iproute2",
    "iptables",
    "bash-static",
    "busybox-static",
    "docker-registry",
}
_NEEDED_BYTES = 5_000_000_000
"""Of disk: what a small study takes, and the 2 GiB below which kubelet evicts pods."""
_TRIAL = """set -e
mount -t tmpfs tmpfs /run
mkdir /run/lower /run/upper /run/work /run/merged
mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work overlay /run/merged
ip link add trial type veth peer name other
"""
"""What a node does in its own namespaces; all of it ends with the shell."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nodes cannot run, and the fix."""

    problem: str
    fix: str
    possible: bool = True
    """Whether the fix makes real nodes possible for this user on this machine."""


_SIMULATED = "make rehearsal NODES=simulated, or --nodes simulated with another command"


def obstacles(home: Path) -> list[Obstacle]:
    """Return everything that keeps real nodes from running here."""
    if sys.platform != "linux":
        return [Obstacle(f"Real nodes need Linux, not {sys.platform}.", _SIMULATED, possible=False)]
    if os.geteuid() != 0:
        return [
            Obstacle(f"Real nodes need root, not user {os.geteuid()}.", _SIMULATED, possible=False)
        ]
    found = (_missing_package(), _missing_right(), _missing_controller(), _unsuitable_disk(home))
    return [obstacle for obstacle in found if obstacle]


def too_many(nodes: str, count: int | None) -> Obstacle | None:
    """Return why a cluster of `count` measured nodes cannot run here; `count` None is unknown."""
    if count is None:
        return None
    if nodes == "real":
        if count <= LARGEST_FLEET:
            return None
        return Obstacle(
            f"{count} real nodes are more than the {LARGEST_FLEET} that one machine runs.",
            f"--nodes simulated, or a cluster of at most {LARGEST_FLEET}",
        )
    needed, free = simulated_bytes(count), free_memory()
    if needed <= free:
        return None
    return Obstacle(
        f"A cluster of {count} simulated nodes takes about {needed / 2**30:.1f} GiB of memory, "
        f"and {free / 2**30:.1f} GiB are free.",
        f"a cluster of at most {max(0, int((free - _CLUSTER_BYTES) / _NODE_BYTES))} nodes, or a "
        "machine with more memory",
    )


def simulated_bytes(count: int) -> int:
    """Estimate the memory of a rehearsal with simulated nodes (docs/rehearsal.md)."""
    return _CLUSTER_BYTES + count * _NODE_BYTES


def free_memory() -> int:
    """Return the bytes of memory that are free, within a container's limit."""
    free = _available_bytes()
    with suppress(OSError, ValueError):
        limit = int(_MEMORY_LIMIT.read_text("ascii"))
        free = min(free, limit - int(_MEMORY_USED.read_text("ascii")))
    return free


def _available_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plugin_folder() -> Path:
    return Path(_package("containernetworking-plugins").path()).parent


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk, as kubelet counts them."""
    disk = os.statvfs(_existing(folder))
    return disk.f_bavail * disk.f_frsize


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Return a folder's file system, for example ext4; `mounts` is mountinfo's text."""
    text = mounts or Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    path = _existing(folder).resolve()
    best = (Path("/"), "unknown")
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        point = Path(unescape_mount(left.split()[4]))
        if point in (path, *path.parents) and len(point.parts) >= len(best[0].parts):
            best = (point, right.split()[0])
    return best[1]


def cgroup_version() -> str:
    """Return the version of the kernel's cgroups, and their controllers."""
    if not cgroups.ROOT.is_dir():
        return f"none at {cgroups.ROOT}"
    number = 2 if (cgroups.ROOT / "cgroup.controllers").exists() else 1
    return f"version {number}: {' '.join(sorted(cgroups.controllers()))}"


def _package(name: str) -> packages.Package:
    return next(package for package in packages.PACKAGES if package.name == name)


def _missing_package() -> Obstacle | None:
    missing = [_package(name) for name in _NODE_PACKAGES if not _package(name).path()]
    if not missing:
        return None
    names = ", ".join(package.name for package in missing)
    return Obstacle(f"Real nodes need {names}.", packages.install_command(missing))


def _missing_right() -> Obstacle | None:
    if shutil.which("unshare") is None:
        return Obstacle("Real nodes need unshare.", "apt-get install util-linux")
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net"]
    done = subprocess.run(
        ["unshare", *namespaces, "sh", "-c", _TRIAL],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    if done.returncode == 0:
        return None
    return Obstacle(
        "This machine denies root what real nodes need (namespaces, mounts, "
        f"overlay file systems, virtual links): {' '.join(done.stderr.split())}.",
        f"run the container with --privileged; or {_SIMULATED}",
        possible=False,
    )


def _missing_controller() -> Obstacle | None:
    missing = cgroups.missing()
    if not missing:
        return None
    return Obstacle(
        f"{cgroups.ROOT} has no controller {', '.join(missing)}, and kubelet does not "
        "start without them.",
        f"mount the kernel's cgroups, or run the container with --privileged; or {_SIMULATED}",
        possible=False,
    )


def _unsuitable_disk(home: Path) -> Obstacle | None:
    kind = file_system(home)
    elsewhere = "set PULL_STUDY_REHEARSAL_HOME to a folder on "
    if kind == "overlay":
        return Obstacle(
            f"{home} is on an overlay file system, on which containerd cannot unpack images.",
            f"{elsewhere}a disk or a volume",
        )
    free = free_bytes(home)
    if free > _NEEDED_BYTES:
        return None
    return Obstacle(
        f"The disk of {home} has {free / 1e9:.1f} GB free, and with less than "
        f"{_NEEDED_BYTES / 1e9:.0f} GB kubelet soon evicts the pods that are measured.",
        f"free some space, or {elsewhere}another disk",
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the doctor's table."""

    name: str
    state: str
    """`ok`, `missing` (a rehearsal needs it) or `note`."""
    detail: str
    fix: str = ""


def examine(home: Home) -> list[Finding]:
    """What only real nodes need is a note where this user cannot run them here."""
    found = obstacles(home.folder)
    possible = all(each.possible for each in found)
    parts = [_part(part) for part in (*programs.report(), *packages.report())]
    if not possible:
        parts = [_without_real_nodes(part) for part in parts]
    plugins = [_plugin(name, package) for name, package in PROVIDERS.items()]
    return [*parts, *plugins, *_machine(home, found, possible=possible)]


def _without_real_nodes(part: Finding) -> Finding:
    if part.state != "missing" or part.name not in _REAL_NODES_ONLY:
        return part
    return replace(part, state="note", detail="not installed; only real nodes need it", fix="")


def is_ready(findings: list[Finding]) -> bool:
    return all(finding.state != "missing" for finding in findings)


def _part(part: Part) -> Finding:
    detail = " ".join(word for word in (part.version, part.origin) if word)
    return Finding(part.name, "ok" if part.found else "missing", detail, part.fix)


def _plugin(name: str, package: str) -> Finding:
    """Report a provider plugin; a fake replaces an official one, so none is missing."""
    folder = official_plugin(name)
    title = f"Pulumi's {name} provider"
    if folder:
        return Finding(title, "ok", f"{version(package)} official plugin {folder}")
    return Finding(title, "ok", f"{version(package)} fake, no official plugin installed")


def _machine(home: Home, found: list[Obstacle], *, possible: bool) -> list[Finding]:
    if found:
        state = "missing" if possible else "note"
        nodes = [Finding("real nodes", state, each.problem, each.fix) for each in found]
    else:
        free = f"{free_bytes(home.folder) / 1e9:.0f} GB free"
        kind = file_system(home.folder)
        detail = f"up to {LARGEST_FLEET}, in {home.folder} ({kind}, {free})"
        nodes = [Finding("real nodes", "ok", detail)]
    storage = programs.cache_root() / "registry"
    images = f"{_size(storage) / 1e9:.2f} GB in {storage}, kept until deleted by hand"
    return [
        *nodes,
        _simulated_nodes(),
        Finding("kernel", "note", f"{platform.system()} {platform.release()}"),
        Finding("cgroups", "note", cgroup_version()),
        Finding("images made", "note", images),
    ]


def _simulated_nodes() -> Finding:
    count = int((free_memory() - _CLUSTER_BYTES) / _NODE_BYTES)
    if count < 1:
        detail = f"{free_memory() / 2**30:.1f} GiB of memory are free"
        return Finding("simulated nodes", "missing", detail, "a machine with more memory")
    return Finding("simulated nodes", "ok", f"up to {count} in the free memory")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
