"""What a test does to the parts of its own rehearsal: kill, stop, restart, fill the disk.

Processes are found by the folder that they work for, so nothing else is ever touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from rehearsal.machine import processes
from rehearsal.machine.home import Home
from tools import packages
from tools.programs import locate

_CONTAINERD = "/var/lib/node/bin/containerd"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own, so that it can be filled; in a sparse file beside the folder."""
    image = folder.with_suffix(".img")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        image.unlink()


def fill(folder: Path, leave: int) -> Path:
    """Allocate a file that leaves this many bytes free; it is written nowhere."""
    status = os.statvfs(folder)
    path = folder / "fill"
    length = status.f_bavail * status.f_frsize - leave
    subprocess.run(["fallocate", "--length", str(length), str(path)], check=True)
    return path


def send(number: signal.Signals, part: Path, program: str) -> int:
    """Send a signal to the one process of this name that works for the folder; its id."""
    (pid,) = [pid for pid in processes.running(part) if _name(pid) == program]
    os.kill(pid, number)
    return pid


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path("/proc", str(pid), "comm").read_text("ascii").strip()
    return ""


class Nodes:
    """The real nodes of the one cluster of a home."""

    def __init__(self, home: Home) -> None:
        (self.cluster,) = home.clusters.iterdir()

    def folder(self, node: str) -> Path:
        """That the node's processes work for."""
        return self.cluster / "nodes" / node

    def restart_containerd(self, node: str) -> None:
        """Start it again in the node's namespaces, as systemd would."""
        (first,) = [pid for pid in processes.running(self.folder(node)) if _name(pid) == "sh"]
        inside = ["nsenter", "--target", str(first), "--mount", "--pid", "--"]
        processes.start(
            [*inside, _CONTAINERD, "--config", "/var/lib/node/containerd.toml"],
            self.folder(node),
            log=self.folder(node) / "log" / "containerd.log",
        )

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """As the cluster's administrator; what it prints."""
        config = self.cluster / "admin.kubeconfig"
        done = subprocess.run(
            [locate("kubectl").path, "--kubeconfig", config, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def under_pressure(self) -> set[str]:
        """Nodes that report that their disk is short."""
        condition = "?(@.type=='DiskPressure')"
        form = f"{{range .items[*]}}{{.metadata.name}} {{.status.conditions[{condition}].status}}\n"
        printed = self.kubectl("get", "nodes", "-o", f"jsonpath={form}{{end}}")
        words = (line.split() for line in printed.splitlines())
        return {line[0] for line in words if line[1:] == ["True"]}

    def pull_beforehand(self, node: str, reference: str) -> None:
        """Run a pod with this image on the node, as something else on the cluster would."""
        name = f"before-{node.rpartition('-')[2]}-{abs(hash(reference)) % 10**6}"
        spec = {
            "nodeName": node,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": reference, "command": ["true"]}],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump(pod))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}")
        self.kubectl("delete", "pod", name, "--wait=false")


@contextmanager
def hidden(storage: Path, repository: str, digest: str) -> Iterator[None]:
    """Without this image's manifest the registry answers as if the image had been deleted."""
    revisions = storage / "docker/registry/v2/repositories" / repository / "_manifests/revisions"
    link = revisions / digest.replace(":", "/") / "link"
    away = link.with_name("hidden")
    link.rename(away)
    try:
        yield
    finally:
        away.rename(link)


def restart_registry(home: Home) -> None:
    """Start the local registry again, where it was."""
    program = next(each for each in packages.PACKAGES if each.name == "docker-registry").path()
    assert program
    processes.start(
        [program, "serve", home.folder / "registry.yaml"],
        home.folder,
        log=home.folder / "registry.log",
    )
