"""Simulated nodes as the fleet sees them: objects in the API, and one process that acts for all.

kwok keeps the nodes Ready. The process (rehearsal.simulated_nodes.process), one a cluster, does
what their kubelets would do for pods of Jobs; no byte is pulled. A node is marked as simulated by a
label and by its operating system's name.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rehearsal.cluster.control_plane import VIRTUAL_NODE, LocalControlPlane
from rehearsal.cluster.fleet import FleetError, PoolSpec
from rehearsal.machine import processes
from rehearsal.machine.options import Options
from rehearsal.simulated_nodes.clock import Report, read_report, report_file, write_report
from schema.names import MEASURED_LABEL

SIMULATED_LABEL = "rehearsal.pull-study/simulated"
"""Label of nodes, annotation of events: 'true' for what a model made."""
PARALLEL_ANNOTATION = "rehearsal.pull-study/parallel-pulls"
PRELOADED_ANNOTATION = "rehearsal.pull-study/preloaded"
UNPACKS_ANNOTATION = "rehearsal.pull-study/parallel-unpacks"
"""Annotations of a node: images that its kubelet pulls at once, whether all are preloaded, layers
of an image that are unpacked at once."""

_MACHINE = {"cpu": "16", "memory": "61727200Ki", "pods": "110"}
"""Of an n1-standard-16, as the study's recorded nodes report it."""
_DISK_SHARE = 0.9425
"""Of a boot disk's GiB, what GKE's nodes offer as ephemeral storage: 98831908Ki of 100."""


@dataclass(frozen=True, slots=True)
class KubeletsConfig:
    """What the process reads, as JSON in a file."""

    server: str
    """https URL of the API server."""
    authority: str
    certificate: str
    key: str
    """Paths of PEM files: the API server's authority, the administrator's certificate and key."""
    mirror: str
    """host:port of what serves every registry, plain http."""
    speed: float
    """How many times faster than the clock the nodes work."""
    faults: tuple[str, ...]
    home: str
    """Folder of the rehearsal, for the record of injected faults."""
    report: str
    """Path of the report (rehearsal.simulated_nodes.clock)."""


@dataclass(frozen=True, slots=True)
class KubeletsProcess:
    """The process that acts for the simulated nodes of one cluster."""

    process: "subprocess.Popen[bytes]"
    log: Path
    ending: threading.Event = field(default_factory=threading.Event)
    """Set before the process is killed on purpose."""

    def check(self) -> None:
        """Raise FleetError with the end of the log if it has exited."""
        if self.process.poll() is not None:
            raise FleetError(f"The simulated kubelets' process exited: {self._reason()}.")

    def watch(self, report: Path, on_exit: Callable[[str], None]) -> None:
        """Call back, from a thread, if the process exits by itself; note it in the report."""

        def wait() -> None:
            self.process.wait()
            if not self.ending.is_set():
                found = read_report(report) or Report(speed=1)
                write_report(report, found.model_copy(update={"exit": self._reason()}))
                on_exit(self._reason())

        threading.Thread(target=wait, name="simulated-kubelets", daemon=True).start()

    def _reason(self) -> str:
        return f"code {self.process.returncode}, {processes.log_tail(self.log)}"


def start_kubelets(
    plane: LocalControlPlane,
    *,
    mirror: str,
    options: Options,
    home: Path,
    on_exit: Callable[[str], None],
) -> KubeletsProcess:
    """Start the process of a cluster; it ends with the cluster's folder.

    If it exits by itself, `on_exit` is called with the reason.
    """
    report = report_file(home, plane.folder.name)
    config = KubeletsConfig(
        server=f"https://{plane.public.endpoint}",
        authority=str(plane.authority),
        certificate=str(plane.admin_certificate),
        key=str(plane.admin_key),
        mirror=mirror,
        speed=options.speed,
        faults=options.faults,
        home=str(home),
        report=str(report),
    )
    path, log = plane.folder / "kubelets.json", plane.folder / "kubelets.log"
    path.write_text(json.dumps(asdict(config)), encoding="utf-8")
    process = processes.start(
        [sys.executable, "-m", "rehearsal.simulated_nodes.process", path], plane.folder, log=log
    )
    started = KubeletsProcess(process, log)
    started.watch(report, on_exit)
    return started


def node_object(name: str, pool: PoolSpec) -> dict[str, Any]:
    """Return a node of a pool that kwok keeps, as the API accepts it."""
    measured = pool.labels.get(MEASURED_LABEL) == "true"
    disk = f"{round(pool.disk_gb * _DISK_SHARE * 2**20)}Ki"
    capacity = {**_MACHINE, "ephemeral-storage": disk}
    own = {SIMULATED_LABEL: "true"} if measured else {}
    key, value = VIRTUAL_NODE
    return {
        "metadata": {
            "name": name,
            "labels": {**pool.labels, **own, "kubernetes.io/hostname": name},
            "annotations": {
                key: value,
                PARALLEL_ANNOTATION: str(pool.parallel_pulls),
                PRELOADED_ANNOTATION: str(pool.preloaded).lower(),
                UNPACKS_ANNOTATION: _unpacks_of(pool.init_script),
            },
        },
        "spec": {"taints": [{"key": k, "value": v, "effect": e} for k, v, e in pool.taints]},
        "status": {
            "allocatable": capacity,
            "capacity": capacity,
            # an API server refuses kubelets at a loopback address; this one is reserved (RFC 5737),
            # and rehearsal.cluster.tunnel connects to this machine instead
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "osImage": "simulated",
                # of which a simulated node behaves as if it had it
                "containerRuntimeVersion": "containerd://2.4.2+simulated",
            },
        },
    }


def _unpacks_of(init_script: str) -> str:
    """Return what a script, which is not run here, sets as the layers to unpack at once."""
    found = re.search(r"^unpacks=(\d+)$", init_script, re.MULTILINE)
    return found[1] if found else "1"
