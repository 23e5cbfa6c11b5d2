"""What strikes one cluster as a whole: at moments of its trials, on the ways out of it, at its end.

A cluster without faults has none of this: no front before its API server, nobody who follows its
pods, and lines of the log go straight there. Simulated nodes' own faults are their emitter's
(rehearsal.faults.nodes).
"""

import os
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import yaml

from rehearsal.cloud_logging.entries import json_object
from rehearsal.cluster import control_plane
from rehearsal.cluster.admin import ClusterAdmin, ClusterError, NotThereError, Object
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.exporter import ExporterHost
from rehearsal.cluster.fleet import LogLine, WriteLog
from rehearsal.faults import api_server, registry
from rehearsal.faults.api_server import ApiRules
from rehearsal.faults.events import EventFaults, Later, disturbed_log
from rehearsal.faults.faults import Fault, Faults, node_number
from rehearsal.faults.proxy import Front
from rehearsal.faults.registry import RegistryRules
from rehearsal.faults.trials import Moment, StudyPods
from rehearsal.machine import processes
from rehearsal.machine.home import Home, read_json
from schema.names import JOB_NAMESPACE, MEASURED_LABEL

_EVENT_KINDS = ("event-lost", "event-duplicated", "event-late", "event-out-of-order")
_AT_RELEASE = (
    "exporter-restarted",
    "watch-closed",
    "watch-expired",
    "node-deleted",
    "node-replaced",
    "process-killed",
)
_STALL_AT_MOST_S = 300.0
"""A scheduler that waits for a release that never comes goes on after this long."""
_DEFAULTED = ("maxEventAgeSeconds", "kubeQPS", "kubeBurst", "omitLookup")


@dataclass(frozen=True, slots=True)
class FaultSite:
    """The cluster that is struck."""

    home: Home
    plane: LocalControlPlane
    admin: ClusterAdmin
    write_log: WriteLog
    say: Callable[[str], None]


class ClusterFaults:
    """The faults of one cluster; `start` once its exporters are known.

    Args:
        faults: that were asked for.
        site: the cluster.

    Attributes:
        study: which trial is on, and which pod is whose.
        write_log: what the exporters are to print to.
        public: what the GKE API is to say of the control plane.
    """

    def __init__(self, faults: Faults, site: FaultSite) -> None:
        self._faults = faults
        self._site = site
        self._later = Later()
        self._fronts: list[Front] = []
        self._exporters: ExporterHost | None = None
        self._stalled: int | None = None
        self._defaults = False
        self._begun: set[tuple[str, int]] = set()
        self.study = StudyPods(site.admin, self._tell)
        events = EventFaults(faults, self.study.place)
        self._printed: set[str] = set()
        self.write_log = site.write_log
        if faults:
            self.write_log = disturbed_log(self._count, events, self._later)
        self._rules = ApiRules(faults, self.study, events, self._later)
        self.public = site.plane.public
        if self._needs_front():
            self.public = replace(self.public, endpoint=self._make_front().address)

    def start(self, exporters: ExporterHost) -> None:
        """Begin to strike."""
        if self._faults:
            self._exporters = exporters
            self.study.start()

    def stop(self) -> None:
        """Strike no more; before the cluster ends."""
        self._note_losses()
        self.study.stop()
        self._later.stop()
        self._resume_scheduler()
        for front in self._fronts:
            front.stop()

    def registry(self, node: str, address: str) -> str:
        """host:port from which a real node is to pull what the registry at `address` has."""
        if not self._faults.of(*registry.KINDS):
            return address
        host, _, port = address.partition(":")
        rules = RegistryRules(self._faults, node, self.study.trial_of_image)
        front = Front(host, int(port), rules)
        self._fronts.append(front)
        return front.address

    def exporter_configuration(self, text: str) -> str:
        """The exporter's configuration as it is to be read."""
        asked = self._faults.of("exporter-defaults")
        if not self._defaults and not any(fault.values["trial"] == 0 for fault in asked):
            return text
        self._faults.note(asked[0])
        settings = yaml.safe_load(text)
        return yaml.safe_dump({k: v for k, v in settings.items() if k not in _DEFAULTED})

    def _count(self, line: LogLine) -> None:
        self._site.write_log(line)
        event = json_object(line.text) if line.stream == "stdout" else None
        if event and "involvedObject" in event:
            self._printed.add(str(event["metadata"]["uid"]))

    def _note_losses(self) -> None:
        """Write down what an exporter with its defaults truly lost of the trials' pods' events."""
        for fault in self._faults.of("exporter-defaults"):
            try:
                events = self._site.admin.events(JOB_NAMESPACE)
            except ClusterError as error:
                self._site.say(f"what {fault.name} lost is not known: {error}")
                return
            pods = {e["metadata"]["uid"] for e in events if e["involvedObject"]["kind"] == "Pod"}
            lost = len(pods - self._printed)
            self._faults.note(fault, events=str(len(pods)), lost=str(lost))

    def _needs_front(self) -> bool:
        both = {"watch", "both"}
        watched = any(fault.word("source") in both for fault in self._faults.of(*_EVENT_KINDS))
        return watched or bool(self._faults.of(*api_server.KINDS))

    def _make_front(self) -> Front:
        plane = self._site.plane
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # the API server itself has this one: it is valid for loopback
        tls.load_cert_chain(plane.admin_certificate, plane.admin_key)
        upstream = ssl.create_default_context(cafile=str(plane.authority))
        front = Front("127.0.0.1", plane.port, self._rules, tls=tls, upstream_tls=upstream)
        self._fronts.append(front)
        return front

    def _tell(self, moment: Moment, trial: int) -> None:
        """Do what is to be done at a moment of a trial, without keeping the follower waiting."""
        for fault in self._faults.of("scheduler-stalled"):
            if fault.values["trial"] in {0, trial}:
                self._stall(moment, fault, trial)
        if moment is not Moment.RELEASED:
            self._take_settings(trial)
            return
        for fault in self._faults.of(*_AT_RELEASE):
            # once: a resumed run releases a trial again
            if fault.values["trial"] in {0, trial} and (fault.text, trial) not in self._begun:
                self._begun.add((fault.text, trial))
                self._later.put(fault.number("after"), partial(self._strike, fault, trial))

    def _take_settings(self, trial: int) -> None:
        """Take the exporters' settings from them, where that was to be done from this trial on."""
        asked = self._faults.of("exporter-defaults")
        if self._exporters and any(fault.values["trial"] == trial for fault in asked):
            self._defaults = True
            self._later.put(0, self._exporters.renew)

    def _strike(self, fault: Fault, trial: int) -> None:
        strikes = {
            "exporter-restarted": self._kill_exporters,
            "watch-closed": self._close_watches,
            "watch-expired": self._close_watches,
            "node-deleted": self._delete_node,
            "node-replaced": self._replace_node,
            "process-killed": self._kill_process,
        }
        try:
            strikes[fault.name](fault, trial)
        except ClusterError as error:
            self._site.say(f"fault {fault.text} did not strike: {error}")

    def _note(self, fault: Fault, trial: int, node: str = "", **hit: str) -> None:
        self._site.say(f"fault {fault.text} strikes trial {trial}")
        self._faults.note(fault, trial=trial, node=node, **hit)

    def _kill_exporters(self, fault: Fault, trial: int) -> None:
        if self._exporters:
            self._note(fault, trial, processes=str(self._exporters.kill()))

    def _close_watches(self, fault: Fault, trial: int) -> None:
        self._note(fault, trial, watches=str(self._rules.close_watches(fault)))

    def _delete_node(self, fault: Fault, trial: int) -> None:
        node = self._measured_node(fault)
        self._note(fault, trial, node["metadata"]["name"])
        self._site.admin.remove_node(node["metadata"]["name"])

    def _replace_node(self, fault: Fault, trial: int) -> None:
        node = self._measured_node(fault)
        self._delete_node(fault, trial)
        kept = {key: node["metadata"].get(key, {}) for key in ("labels", "annotations")}
        taints = [
            taint
            for taint in node["spec"].get("taints", ())
            if not taint["key"].startswith("node.kubernetes.io/")
        ]
        status = {key: node["status"][key] for key in ("capacity", "allocatable", "nodeInfo")}
        self._site.admin.add_node(
            {
                "metadata": {"name": node["metadata"]["name"], **kept},
                "spec": {"taints": taints},
                "status": status,
            }
        )

    def _measured_node(self, fault: Fault) -> Object:
        """The node that a fault names.

        Raises:
            NotThereError: it is not there.
        """
        for node in self._site.admin.nodes(f"{MEASURED_LABEL}=true"):
            if node_number(node["metadata"]["name"]) == fault.number("node"):
                return node
        raise NotThereError(f"there is no measured node of this number: {fault.text}")

    def _kill_process(self, fault: Fault, trial: int) -> None:
        name = fault.word("process")
        if name != "runner":
            self._note(fault, trial, process=name)
            pid = control_plane.pid_of(self._site.plane, name)
            processes.send(pid, self._site.plane.folder, signal.SIGKILL)
            return
        owner = read_json(self._site.home.owner_file) or {}
        pid = int(owner.get("pid", 0))
        if pid and processes.started(pid) == owner.get("started"):
            self._note(fault, trial, process=name)
            os.kill(pid, signal.SIGKILL)

    def _stall(self, moment: Moment, fault: Fault, trial: int) -> None:
        plane = self._site.plane
        if moment is Moment.STAGED:
            # before it is released: a scheduler needs a millisecond
            self._stalled = control_plane.pid_of(plane, "kube-scheduler")
            processes.send(self._stalled, plane.folder, signal.SIGSTOP)
            self._later.put(_STALL_AT_MOST_S, self._resume_scheduler)
        elif self._stalled is not None:
            self._note(fault, trial)
            self._later.put(fault.number("s"), self._resume_scheduler)

    def _resume_scheduler(self) -> None:
        if self._stalled is not None:
            processes.send(self._stalled, self._site.plane.folder, signal.SIGCONT)
            self._stalled = None
