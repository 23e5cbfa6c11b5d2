"""A real node on this machine: containerd and kubelet in their own namespaces.

A node is one process tree in a mount and a process namespace. What it mounts, and the sockets and
folders that it makes in /run, /var/lib and /var/log, exist only for itself and vanish with it;
killing the first process ends all others, containers included. What remains is the node's folder
and its control group, and both have names that nothing else has. The node shares the machine's
network, on which it reaches the API server and the registry; its pods have a network namespace
each. Kernel settings are not changed (rehearsal.real_nodes.node_files).
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.fleet import FleetError, Mirror
from rehearsal.machine import cgroups, processes, requirements
from rehearsal.real_nodes.node_files import PROGRAMS, NodeSpec, node_environment, write_files
from tools.programs import locate

_LOGS = ("kubelet", "pause", "containerd", "node-init")
"""In the reverse order of their beginning."""
_STOP_S = 5.0


class NodeNumber:
    """One of this machine's numbers for real nodes, reserved until released or the process ends."""

    def __init__(self, number: int, holder: socket.socket) -> None:
        self.number = number
        self._holder = holder

    def release(self) -> None:
        self._holder.close()


@contextmanager
def take_numbers(count: int) -> Iterator[list[NodeNumber]]:
    """Reserve numbers for nodes, all or none; those still in the list at the end are released."""
    taken: list[NodeNumber] = []
    try:
        for number in range(1, requirements.LARGEST_FLEET + 1):
            if len(taken) < count and (holder := processes.hold(f"pull-study-node-{number}")):
                taken.append(NodeNumber(number, holder))
        if len(taken) < count:
            raise FleetError(
                f"This machine runs {requirements.LARGEST_FLEET} real nodes at most, {len(taken)} "
                f"more than now, so {count} cannot be started; "
                "larger clusters need simulated nodes."
            )
        taken.reverse()  # so that pop gives the lowest
        yield taken
    finally:
        for each in taken:
            each.release()


@dataclass(frozen=True, slots=True)
class RealNode:
    """A node that was started."""

    spec: NodeSpec
    folder: Path
    number: NodeNumber
    process: "subprocess.Popen[bytes]"

    def check(self) -> None:
        """Raise FleetError with the end of its log if the node has ended."""
        if self.process.poll() is not None:
            raise FleetError(
                f"The node {self.spec.name} ended while it started: {self._log_tail()}."
            )

    def stop(self) -> None:
        """End the node and remove all of it. Idempotent."""
        try:
            processes.stop(self.folder)
            with suppress(subprocess.TimeoutExpired):  # it is killed, and not reaped yet
                self.process.wait(_STOP_S)
            cgroups.remove(self.spec.control_group)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.number.release()

    def _log_tail(self) -> str:
        logs = (self.folder / "log" / f"{name}.log" for name in _LOGS)
        log = next((log for log in logs if log.exists()), self.folder / "start.log")
        return f"{log.name} ends with: {processes.log_tail(log)}"


def start(
    name: str,
    folder: Path,
    plane: LocalControlPlane,
    *,
    number: NodeNumber,
    labels: dict[str, str],
    taints: tuple[tuple[str, str, str], ...],
    mirrors: tuple[Mirror, ...],
    init_script: str,
    traces: str,
    registry: str,
    registry_login: str,
    pause_image: str,
    control_group: str,
) -> RealNode:
    """Start a node; it joins the cluster by itself soon after."""
    (port,) = processes.free_ports(1)
    spec = NodeSpec(
        name=name,
        labels=labels,
        taints=taints,
        mirrors=mirrors,
        init_script=init_script,
        traces=traces,
        number=number.number,
        kubelet_port=port,
        control_group=f"{control_group}/{name}",
        registry=registry,
        registry_login=registry_login,
        pause_image=pause_image,
        server=f"https://{plane.public.endpoint}",
        plugins=str(requirements.plugin_folder()),
    )
    for each in ("lib", "log"):
        (folder / each).mkdir(parents=True)
    write_files(spec, folder / "lib" / "node", plane.signer)
    try:
        cgroups.make(spec.control_group)
    except cgroups.ControlGroupError as error:
        raise FleetError(f"The node {name} cannot be started, since {error}.") from error
    return RealNode(spec, folder, number, _run(spec, folder))


def _run(spec: NodeSpec, folder: Path) -> "subprocess.Popen[bytes]":
    namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
    programs = {
        "NODE": str(folder),
        "PROGRAMS": os.pathsep.join(str(locate(name).path) for name in PROGRAMS),
    }
    return processes.start(
        ["unshare", *namespaces, "--kill-child", "sh", folder / "lib/node/start.sh"],
        folder,
        log=folder / "start.log",
        environment={**os.environ, **node_environment(spec), **programs},
    )
