"""What a rehearsal could leave on a machine: to be the same before and after."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from rehearsal.machine import processes
from rehearsal.machine.home import Home

_PLACES = (
    "/etc/cni",
    "/run",
    "/run/containerd",
    "/run/netns",
    "/usr/libexec",
    "/var/lib",
    "/var/log",
)
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
"""One line for each thing that is there."""


def footprint(home: Path) -> Footprint:
    """The machine as far as a rehearsal in this home may touch it, without the home itself."""
    files = (file for place in _PLACES if Path(place).is_dir() for file in Path(place).iterdir())
    groups = Path("/sys/fs/cgroup").glob(f"**/{Home(home).control_group}")
    return frozenset(
        [
            *(f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()),
            *(f"link {name}" for name in _links(home)),
            *(f"group {group}" for group in groups),
            *(f"file {file}" for file in files if file.name != "pull-study"),
            *(f"setting {name} {Path('/proc/sys', name).read_text()}" for name in _SETTINGS),
        ]
    )


def _links(home: Path) -> list[str]:
    """Names of links; those of pods cannot be told apart while another rehearsal has pods too."""
    done = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    others = set(processes.running(Path("/"))) - set(processes.running(home))
    return [name for name in names if not (others and name.startswith("veth"))]


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


def expect_same(before: Footprint, home: Path, timeout_s: float = 3.0) -> None:
    """Nothing is there that was not; the kernel removes links of a namespace a moment later."""
    deadline = time.monotonic() + timeout_s
    while footprint(home) - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(footprint(home) - before) == []
