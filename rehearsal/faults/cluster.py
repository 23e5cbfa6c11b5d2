"""The faults of one cluster: at moments of its trials, between it and the runner, at its end.

A cluster without faults has none of this: no proxy before its API server, no watch of its pods, and
lines of the log go straight to Cloud Logging. Faults of simulated nodes are in
rehearsal.faults.nodes.
"""

import math
import os
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import yaml

from rehearsal.cluster import control_plane
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.exporter import NAME as EXPORTER
from rehearsal.cluster.fleet import FleetError, LogLine, WriteLog, json_object
from rehearsal.cluster.flux_operator import NAME as FLUX_OPERATOR
from rehearsal.cluster.kubernetes import ClusterError, NotThereError, Object
from rehearsal.cluster.native_events import WriteEvent
from rehearsal.cluster.pod_host import PodHost
from rehearsal.faults import api_server
from rehearsal.faults.api_server import ApiRules
from rehearsal.faults.events import DelayQueue, EventFaults, faulty_events, faulty_log
from rehearsal.faults.faults import Fault, Faults, node_number
from rehearsal.faults.proxy import FaultProxy
from rehearsal.faults.registry import RegistryRules
from rehearsal.faults.trials import Moment, StudyPods
from rehearsal.machine import processes
from rehearsal.machine.home import Home, read_json
from schema.names import JOB_NAMESPACE, MEASURED_LABEL

_AT_RELEASE = (
    "api-away", "exporter", "operator-down", "watch", "node-deleted", "process-killed",
)  # fmt: skip
_LONGEST_STALL_S = 300.0
"""A scheduler that waits for a release that never happens continues after this long."""
_DEFAULTED = ("maxEventAgeSeconds", "kubeQPS", "kubeBurst", "omitLookup")


@dataclass(frozen=True, slots=True)
class FaultSite:
    """The cluster."""

    home: Home
    plane: LocalControlPlane
    admin: ClusterAdmin
    write_log: WriteLog
    write_event: WriteEvent
    say: Callable[[str], None]


class ClusterFaults:
    """The faults of one cluster; `start` once it has a host of the system's pods.

    `write_log` is what these print to, `write_event` GKE's own log of events, `public` what
    the GKE API returns of the control plane.
    """

    def __init__(self, faults: Faults, site: FaultSite) -> None:
        self._faults = faults
        self._site = site
        self._delays = DelayQueue(site.say)
        self._proxies: list[FaultProxy] = []
        self._hosted: PodHost | None = None
        self._stalled: int | None = None
        self._defaults = any(f.values["trial"] == 0 for f in faults.of("exporter", how="defaults"))
        self._started: set[tuple[str, int]] = set()
        self._printed: set[str] = set()
        self._study = StudyPods(site.admin, self._on_moment, site.say)
        events = EventFaults(faults, self._study.place)
        self.write_log = faulty_log(self._count, events, self._delays) if faults else site.write_log
        self.write_event = (
            faulty_events(site.write_event, events, self._delays) if faults else site.write_event
        )
        self._rules = ApiRules(faults, self._study, events, self._delays)
        self.public = site.plane.public
        watched = any(fault.word("source") in {"both", "watch"} for fault in faults.of("event"))
        if watched or faults.of(*api_server.KINDS):
            self.public = replace(self.public, endpoint=self._proxy_api_server())

    def start(self, hosted: PodHost) -> None:
        if self._faults:
            self._hosted = hosted
            self._study.start()

    def stop(self) -> None:
        """Inject nothing more; called before the cluster ends."""
        self._record_losses()
        self._study.stop()
        self._delays.stop()
        self._continue_scheduler()
        for proxy in self._proxies:
            proxy.stop()

    def registry(self, node: str, address: str) -> str:
        """Return host:port from which a real node is to pull what the registry at `address` has."""
        if not self._faults.of("pull", "view-missing"):
            return address
        host, _, port = address.partition(":")
        rules = RegistryRules(self._faults, node, self._study.trial_of_image)
        self._proxies.append(FaultProxy(host, int(port), rules))
        return self._proxies[-1].address

    def exporter_configuration(self, text: str) -> str:
        """Return the exporter's configuration as it is to be read."""
        if not self._defaults:
            return text
        self._faults.record(self._faults.of("exporter", how="defaults")[0])
        settings = yaml.safe_load(text)
        return yaml.safe_dump({k: v for k, v in settings.items() if k not in _DEFAULTED})

    def _count(self, line: LogLine) -> None:
        self._site.write_log(line)
        event = json_object(line.text) if line.stream == "stdout" else None
        if event and "involvedObject" in event:
            self._printed.add(str(event["metadata"]["uid"]))

    def _record_losses(self) -> None:
        """Record what an exporter with its defaults really lost of the trials' pods' events."""
        for fault in self._faults.of("exporter", how="defaults"):
            try:
                events = self._site.admin.events(JOB_NAMESPACE)
            except ClusterError as error:
                self._site.say(f"the loss by {fault.text} is not known: {error}")
                return
            pods = {e["metadata"]["uid"] for e in events if e["involvedObject"]["kind"] == "Pod"}
            lost = len(pods - self._printed)
            self._faults.record(fault, events=str(len(pods)), lost=str(lost))

    def _proxy_api_server(self) -> str:
        plane = self._site.plane
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # the API server itself has this one: it is valid for loopback
        tls.load_cert_chain(plane.admin_certificate, plane.admin_key)
        upstream = ssl.create_default_context(cafile=str(plane.authority))
        proxy = FaultProxy("127.0.0.1", plane.port, self._rules, tls=tls, upstream_tls=upstream)
        self._proxies.append(proxy)
        return proxy.address

    def _on_moment(self, moment: Moment, trial: int) -> None:
        """Inject what is due at this moment of a trial, without keeping the watch waiting."""
        for fault in self._faults.of("scheduler-stalled"):
            if fault.matches(trial=trial):
                self._attempt(fault, partial(self._stall, moment, fault, trial))
        if moment is not Moment.RELEASED:
            self._take_settings(trial)
            return
        for fault in self._faults.of(*_AT_RELEASE):
            # once: a resumed run releases a trial again
            concerned = fault.values["trial"] in {0, trial} and fault.how != "defaults"
            if concerned and (fault.text, trial) not in self._started:
                self._started.add((fault.text, trial))
                inject = partial(self._inject, fault, trial)
                self._delays.put(fault.number("after"), partial(self._attempt, fault, inject))

    def _take_settings(self, trial: int) -> None:
        """Take the exporters' settings from them, if requested from this trial on."""
        requested = self._faults.of("exporter", how="defaults")
        if self._hosted and any(fault.values["trial"] == trial for fault in requested):
            self._defaults = True
            self._delays.put(0, partial(self._hosted.renew, EXPORTER))

    def _attempt(self, fault: Fault, inject: Callable[[], None]) -> None:
        try:
            inject()
        except (FleetError, OSError) as error:
            self._site.say(f"fault {fault.text} was not injected: {error}")

    def _inject(self, fault: Fault, trial: int) -> None:
        if fault.name == "exporter" and self._hosted:
            self._record(fault, trial, processes=str(self._hosted.kill(EXPORTER)))
        elif fault.name == "operator-down" and self._hosted:
            down_s = fault.number("s") or math.inf
            killed = self._hosted.kill(FLUX_OPERATOR, down_s)
            self._record(fault, trial, processes=str(killed))
        elif fault.name == "watch":
            self._record(fault, trial, watches=str(self._rules.end_watches(fault)))
        elif fault.name == "api-away":
            watches = self._rules.go_away(fault.number("s"))
            self._record(fault, trial, watches=str(watches))
        elif fault.name == "node-deleted":
            self._delete_node(fault, trial)
        elif fault.name == "process-killed":
            self._kill_process(fault, trial)

    def _record(self, fault: Fault, trial: int, node: str = "", **details: str) -> None:
        self._site.say(f"fault {fault.text} injected in trial {trial}")
        self._faults.record(fault, trial=trial, node=node, **details)

    def _delete_node(self, fault: Fault, trial: int) -> None:
        node = self._measured_node(fault)
        name = node["metadata"]["name"]
        self._record(fault, trial, name)
        self._site.admin.remove_node(name)
        if not fault.number("replaced"):
            return
        kept = {key: node["metadata"].get(key, {}) for key in ("labels", "annotations")}
        taints = [
            taint
            for taint in node["spec"].get("taints", ())
            if not taint["key"].startswith("node.kubernetes.io/")
        ]
        status = {key: node["status"][key] for key in ("capacity", "allocatable", "nodeInfo")}
        self._site.admin.add_node(
            {"metadata": {"name": name, **kept}, "spec": {"taints": taints}, "status": status}
        )

    def _measured_node(self, fault: Fault) -> Object:
        for node in self._site.admin.nodes(f"{MEASURED_LABEL}=true"):
            if node_number(node["metadata"]["name"]) == fault.number("node"):
                return node
        raise NotThereError("there is no measured node of this number")

    def _kill_process(self, fault: Fault, trial: int) -> None:
        name = fault.word("process")
        if name != "runner":
            pid = control_plane.pid_of(self._site.plane, name)
            self._record(fault, trial, process=name)
            processes.send(pid, self._site.plane.folder, signal.SIGKILL)
            return
        owner = read_json(self._site.home.owner_file) or {}
        pid = int(owner.get("pid", 0))
        if pid and processes.started(pid) == owner.get("started"):
            self._record(fault, trial, process=name)
            os.kill(pid, signal.SIGKILL)

    def _stall(self, moment: Moment, fault: Fault, trial: int) -> None:
        plane = self._site.plane
        if moment is Moment.STAGED:
            # before the release: a scheduler needs a millisecond
            self._stalled = control_plane.pid_of(plane, "kube-scheduler")
            processes.send(self._stalled, plane.folder, signal.SIGSTOP)
            self._delays.put(_LONGEST_STALL_S, self._continue_scheduler)
        elif self._stalled is not None:
            self._record(fault, trial)
            self._delays.put(fault.number("s"), self._continue_scheduler)

    def _continue_scheduler(self) -> None:
        if self._stalled is not None:
            processes.send(self._stalled, self._site.plane.folder, signal.SIGCONT)
            self._stalled = None
