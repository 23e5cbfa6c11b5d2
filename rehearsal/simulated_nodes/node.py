"""Simulated nodes as the fleet sees them: objects in the API, and one emitter that acts for all.

kwok keeps the nodes Ready. The emitter (rehearsal.simulated_nodes.process), a process a cluster,
does what their kubelets would do for pods of Jobs; no byte is pulled. A node says of itself that it
is simulated, by a label and by its operating system's name.
"""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rehearsal.cluster.control_plane import VIRTUAL_NODE, LocalControlPlane
from rehearsal.cluster.fleet import FleetError, PoolSpec
from rehearsal.machine import processes
from rehearsal.machine.options import Options
from schema.names import MEASURED_LABEL

SIMULATED_LABEL = "rehearsal.pull-study/simulated"
"""Label of nodes, annotation of events: 'true' for what a model made."""
PARALLEL_ANNOTATION = "rehearsal.pull-study/parallel-pulls"
"""Annotation of a node: images that its kubelet pulls at once."""

_MACHINE = {"cpu": "16", "memory": "61727200Ki", "pods": "110"}
"""Of an n1-standard-16, as the study's recorded nodes tell it."""
_DISK_SHARE = 0.9425
"""Of a boot disk's GiB, what GKE's nodes offer as ephemeral storage: 98831908Ki of 100."""


@dataclass(frozen=True, slots=True)
class EmitterConfig:
    """What an emitter is told, as JSON in a file.

    Attributes:
        server: https URL of the API server.
        authority: path of its authority's certificate, PEM.
        certificate: path of the administrator's, PEM.
        key: path of its key, PEM.
        mirror: host:port of what stands for every registry, plain http.
        speed: how many times faster than the clock the nodes work.
        faults: things to go wrong, `NAME[:ARGS]` each.
        home: folder of the rehearsal.
        folder: of the emitter's own files.
    """

    server: str
    authority: str
    certificate: str
    key: str
    mirror: str
    speed: float
    faults: tuple[str, ...]
    home: str
    folder: str


@dataclass(frozen=True, slots=True)
class Emitter:
    """The process that acts for the simulated nodes of one cluster."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Make sure that it still runs."""
        if self.process.poll() is not None:
            raise FleetError(
                f"What acts for the simulated nodes ended: {processes.log_tail(self.log)}."
            )


def start_emitter(
    plane: LocalControlPlane,
    *,
    mirror: str,
    options: Options,
    home: Path,
    say: Callable[[str], None],
) -> Emitter:
    """Start the emitter of a cluster; it ends with the cluster's folder."""
    folder = plane.folder / "emitter"
    folder.mkdir()
    config = EmitterConfig(
        server=f"https://{plane.public.endpoint}",
        authority=str(plane.authority),
        certificate=str(plane.admin_certificate),
        key=str(plane.admin_key),
        mirror=mirror,
        speed=options.speed,
        faults=options.faults,
        home=str(home),
        folder=str(folder),
    )
    path = folder / "config.json"
    path.write_text(json.dumps(asdict(config)), encoding="utf-8")
    log = folder / "emitter.log"
    process = processes.start(
        [sys.executable, "-m", "rehearsal.simulated_nodes.process", path], plane.folder, log=log
    )
    emitter = Emitter(process, log)
    threading.Thread(target=_await_end, args=(emitter, say), daemon=True).start()
    return emitter


def _await_end(emitter: Emitter, say: Callable[[str], None]) -> None:
    if emitter.process.wait() != -signal.SIGKILL:  # which is how a cluster's end ends it
        say(f"what acts for the simulated nodes ended: {processes.log_tail(emitter.log)}")


def node_object(name: str, labels: dict[str, str], pool: PoolSpec) -> dict[str, Any]:
    """A node of a pool that kwok keeps, as the API takes it."""
    measured = pool.labels.get(MEASURED_LABEL) == "true"
    disk = f"{round(pool.disk_gb * _DISK_SHARE * 2**20)}Ki"
    capacity = {**_MACHINE, "ephemeral-storage": disk}
    own = {SIMULATED_LABEL: "true"} if measured else {}
    key, value = VIRTUAL_NODE
    return {
        "metadata": {
            "name": name,
            "labels": {**labels, **own, "kubernetes.io/hostname": name},
            "annotations": {key: value, PARALLEL_ANNOTATION: str(pool.parallel_pulls)},
        },
        "spec": {"taints": [{"key": k, "value": v, "effect": e} for k, v, e in pool.taints]},
        "status": {
            "allocatable": capacity,
            "capacity": capacity,
            # an API server asks no kubelet at a loopback address; this one is nobody's (RFC 5737),
            # and rehearsal.simulated_nodes.tunnel leads to this machine
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {"osImage": "simulated", "containerRuntimeVersion": "simulated://1.0"},
        },
    }
