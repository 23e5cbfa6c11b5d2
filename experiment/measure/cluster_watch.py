"""The runner's watch of a cluster: events, pods, nodes, Jobs, and the exporter's pod.

What it brings goes into the run's folder as it comes and, for pods and nodes, into the states that
a trial waits on. A period without a watch, and a restart of the exporter, are kept as gaps.
"""

import time
from datetime import datetime

from experiment.errors import MeasureError
from experiment.kube import Kube, Obj
from experiment.measure.job_manifest import is_of_run
from experiment.measure.nodes import NodeStates
from experiment.measure.pods import PodStates
from experiment.measure.reflector import Handler, ListWatch, Reflector
from experiment.outage import PATIENCE_S
from experiment.run_folder import RunFolder
from experiment.waiting import now
from schema.names import JOB_NAMESPACE, RUN_LABEL
from schema.run_records import EventRecord, GapRecord, JobRecord, Source

_FIRST_LIST_S = 60
_JOB_ENDS = {"Complete", "Failed"}
"""Conditions of a Job that the controller is done with."""
_OF_RUNS = {"Job", "Pod"}
"""Kinds in JOB_NAMESPACE that belong to one run."""


class ClusterWatch:
    """Open watches of one cluster.

    Args:
        kube: the cluster.
        folder: of the run.
        run_id: of the run; Jobs, pods and their events of other runs are not kept.
        selector: of the measured nodes' labels.
        exporter_namespace: of the exporter's pod; empty where there is none.
        pods: kept up to date.
        nodes: kept up to date.
    """

    def __init__(
        self,
        kube: Kube,
        folder: RunFolder,
        *,
        run_id: str,
        selector: str,
        exporter_namespace: str,
        pods: PodStates,
        nodes: NodeStates,
    ) -> None:
        self._folder = folder
        self._run_id = run_id
        self._exporters: dict[str, tuple[int, datetime]] = {}
        self.ended_jobs: set[str] = set()
        """Names of Jobs that the job controller is done with."""
        ours = f"/api/v1/namespaces/{JOB_NAMESPACE}"
        of_run = {"labelSelector": f"{RUN_LABEL}={run_id}"}
        about_nodes = {"fieldSelector": "involvedObject.kind=Node"}
        watched: list[tuple[ListWatch, Handler]] = [
            (ListWatch("events", f"{ours}/events", events=True), self._keep_event),
            (
                ListWatch("nodes' events", "/api/v1/events", about_nodes, events=True),
                self._keep_event,
            ),
            (ListWatch("pods", f"{ours}/pods", of_run), pods.handle),
            (ListWatch("nodes", "/api/v1/nodes", {"labelSelector": selector}), nodes.handle),
            (
                ListWatch("Jobs", f"/apis/batch/v1/namespaces/{JOB_NAMESPACE}/jobs", of_run),
                self._see_job,
            ),
        ]
        if exporter_namespace:
            path = f"/api/v1/namespaces/{exporter_namespace}/pods"
            watched.append((ListWatch("the exporter", path), self._see_exporter))
        self._reflectors = [Reflector(kube, what, handle, self._on_gap) for what, handle in watched]
        pods.break_when(self.failure, self._pods_away_s)

    def await_lists(self, timeout_s: float = _FIRST_LIST_S) -> None:
        """Wait until each kind was listed once, so that nothing is missed from now on.

        Raises:
            Exception: why a watch has ended.
            MeasureError: a kind was not listed in time.
        """
        end = time.monotonic() + timeout_s
        for reflector in self._reflectors:
            listed = reflector.listed.wait(max(0.0, end - time.monotonic()))
            if failure := self.failure():
                raise failure
            if not listed:
                raise MeasureError(
                    f"The API server did not list {reflector.name} within {timeout_s:.0f} s"
                    f"{reflector.trouble}, so events would be missed.",
                    "kubectl get events -A",
                )

    def failure(self) -> Exception | None:
        """Return why one of the watches has ended or found no API server for too long."""
        for reflector in self._reflectors:
            if reflector.failure:
                return reflector.failure
            if reflector.away_s > PATIENCE_S:
                return MeasureError(
                    f"The cluster's API server has been away for {reflector.away_s:.0f} s"
                    f"{reflector.trouble}, so no trial can be watched.",
                    "kubectl get nodes",
                )
        return None

    def close(self) -> None:
        """Stop watching."""
        for reflector in self._reflectors:
            reflector.close()

    def _pods_away_s(self) -> float:
        """For how long in all no change of a pod could be seen."""
        return max(each.all_away_s for each in self._reflectors if each.name == "pods")

    def _keep_event(self, change: str, event: Obj) -> None:
        if change == "DELETED":
            return  # it was kept when it came; the API server forgets events after an hour
        about = event.get("involvedObject") or {}
        if about.get("kind") in _OF_RUNS and not is_of_run(about.get("name", ""), self._run_id):
            return
        listed = change == "LISTED"
        self._folder.add(
            EventRecord(source=Source.WATCH, received_at=now(), listed=listed, event=event)
        )

    def _see_job(self, _change: str, job: Obj) -> None:
        conditions = job.get("status", {}).get("conditions") or []
        ends = {each["type"] for each in conditions if each.get("status") == "True"}
        name = str(job["metadata"]["name"])
        if name in self.ended_jobs or not ends & _JOB_ENDS:
            return
        uid, complete = str(job["metadata"]["uid"]), "Complete" in ends
        self._folder.add(JobRecord(job=name, uid=uid, at=now(), complete=complete))
        self.ended_jobs.add(name)

    def _see_exporter(self, change: str, pod: Obj) -> None:
        """Keep a gap when the exporter restarts: what it held is lost."""
        containers = pod.get("status", {}).get("containerStatuses") or []
        restarts = sum(int(container.get("restartCount") or 0) for container in containers)
        uid, at = str(pod["metadata"]["uid"]), now()
        before = self._exporters.get(uid)
        self._exporters[uid] = (restarts, at)
        if change == "DELETED":
            self._keep_gap(before[1] if before else at, at, "the exporter's pod was deleted")
        elif before and restarts > before[0]:
            self._keep_gap(before[1], at, "the exporter was restarted")

    def _keep_gap(self, since: datetime, until: datetime, why: str) -> None:
        self._folder.add(GapRecord(source=Source.EXPORTER, since=since, until=until, reason=why))

    def _on_gap(self, since: datetime, until: datetime, why: str, recovered: bool) -> None:
        self._folder.log(f"{why}; {'recovered' if recovered else 'listed again'}")
        gap = GapRecord(
            source=Source.WATCH, since=since, until=until, reason=why, recovered=recovered
        )
        self._folder.add(gap)
