"""What a rehearsal could leave on a machine, as far as it differs from another's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from rehearsal.machine.home import Home

_FILES = (
    "etc/cni", "run/cni", "run/containerd", "run/containerd/*", "run/netns/*",
    "usr/libexec/kubernetes", "var/lib/cni", "var/lib/kubelet", "var/lib/node",
    "var/log/containers", "var/log/pods",
)  # fmt: skip
_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)

Footprint = frozenset[str]
"""One line for each thing."""


def footprint(home: Path) -> Footprint:
    """What is there now: mounts and cgroups of this home, pod routes without a node, files."""
    group = Home(home).control_group
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return frozenset(
        [
            *(f"mount {line}" for line in mounts if str(home) in line or group in line),
            *(f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{group}")),
            *(f"route {line}" for line in _routes_without_node()),
            *(f"file {path}" for pattern in _FILES for path in Path("/").glob(pattern)),
            *(f"setting {name} {Path('/proc/sys', name).read_text()}" for name in _SETTINGS),
        ]
    )


def _routes_without_node() -> list[str]:
    """Pod routes whose node number (rehearsal.real_nodes.node) no process holds."""
    done = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True)
    held = re.findall(r"@pull-study-node-(\d+)", Path("/proc/net/unix").read_text())
    routes = ((re.match(r"10\.213\.(\d+)\.", line), line) for line in done.stdout.splitlines())
    return [line for number, line in routes if number and number[1] not in held]


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes that know the home, by their arguments or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            known = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(home).encode() in known and b"pytest" not in known.split(b"\0PATH=")[0][:200]:
            found.append(known.partition(b"\0\0")[0].replace(b"\0", b" ").decode(errors="replace"))
    return found
