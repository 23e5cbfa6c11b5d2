"""The runner's own watches of a cluster: events, pods, nodes, Jobs, and the exporter's pod.

What they bring goes into the run's folder as it comes and, for pods and nodes, onto the boards that
a trial waits on. A stretch without a watch, and a restart of the exporter, are kept as gaps.
"""

from collections.abc import Callable
from datetime import datetime

from experiment.kube import Kube, Obj
from experiment.measure.nodes import NodeBoard
from experiment.measure.pods import PodBoard
from experiment.measure.reflector import Followed, Follower
from experiment.run_folder import RunFolder
from schema.names import JOB_NAMESPACE
from schema.run_records import EventRecord, GapRecord, JobRecord, Source

_JOB_ENDS = ("Complete", "Failed")
"""Conditions of a Job that the controller is done with."""


class Watches:
    """Open watches of one cluster.

    Args:
        kube: the cluster.
        folder: of the run.
        selector: of the measured nodes' labels.
        exporter_namespace: of the exporter's pod; empty where there is none.
        pods: kept up to date.
        nodes: kept up to date.
        now: the runner's clock.
    """

    def __init__(
        self,
        kube: Kube,
        folder: RunFolder,
        *,
        selector: str,
        exporter_namespace: str,
        pods: PodBoard,
        nodes: NodeBoard,
        now: Callable[[], datetime],
    ) -> None:
        self._folder = folder
        self._now = now
        self._exporters: dict[str, tuple[int, datetime]] = {}
        self.ended_jobs: set[str] = set()
        """Names of Jobs that the job controller is done with."""
        ours = f"/api/v1/namespaces/{JOB_NAMESPACE}"
        about_nodes = {"fieldSelector": "involvedObject.kind=Node"}
        followed = [
            (Followed("events", f"{ours}/events", vanishing=False), self._keep_event),
            (
                Followed("nodes' events", "/api/v1/events", about_nodes, vanishing=False),
                self._keep_event,
            ),
            (Followed("pods", f"{ours}/pods"), pods.handle),
            (Followed("nodes", "/api/v1/nodes", {"labelSelector": selector}), nodes.handle),
            (Followed("Jobs", f"/apis/batch/v1/namespaces/{JOB_NAMESPACE}/jobs"), self._see_job),
        ]
        if exporter_namespace:
            path = f"/api/v1/namespaces/{exporter_namespace}/pods"
            followed.append((Followed("the exporter", path), self._see_exporter))
        self._followers = [
            Follower(kube, what, handle, self._on_gap, now) for what, handle in followed
        ]
        pods.break_when(self.failure)

    def failure(self) -> Exception | None:
        """Why one of the watches has ended for good; None while all go on."""
        failures = (follower.failure for follower in self._followers)
        return next((failure for failure in failures if failure), None)

    def close(self) -> None:
        """Stop watching."""
        for follower in self._followers:
            follower.close()

    def _keep_event(self, change: str, event: Obj) -> None:
        if change == "DELETED":
            return  # it was kept when it came; the API server forgets events after an hour
        record = EventRecord(source=Source.WATCH, received_at=self._now(), event=event)
        self._folder.add_watched([record])

    def _see_job(self, _change: str, job: Obj) -> None:
        conditions = job.get("status", {}).get("conditions") or []
        ends = [each["type"] for each in conditions if each.get("status") == "True"]
        name = str(job["metadata"]["name"])
        if name in self.ended_jobs or not set(ends) & set(_JOB_ENDS):
            return
        uid, complete = str(job["metadata"]["uid"]), "Complete" in ends
        self._folder.add_job(JobRecord(job=name, uid=uid, at=self._now(), complete=complete))
        self.ended_jobs.add(name)

    def _see_exporter(self, change: str, pod: Obj) -> None:
        """Keep a gap when the exporter begins anew: what it held is lost, and it tells old news."""
        containers = pod.get("status", {}).get("containerStatuses") or []
        restarts = sum(int(container.get("restartCount") or 0) for container in containers)
        uid, now = str(pod["metadata"]["uid"]), self._now()
        before = self._exporters.get(uid)
        self._exporters[uid] = (restarts, now)
        if change == "DELETED":
            self._on_exporter(before[1] if before else now, "the exporter's pod was deleted")
        elif before and restarts > before[0]:
            self._on_exporter(before[1], "the exporter was restarted")

    def _on_exporter(self, since: datetime, why: str) -> None:
        gap = GapRecord(source=Source.EXPORTER, since=since, until=self._now(), reason=why)
        self._folder.add_gaps([gap])

    def _on_gap(self, since: datetime, until: datetime, why: str, recovered: bool) -> None:
        self._folder.log(f"{why}; {'recovered' if recovered else 'listed anew'}", until)
        gap = GapRecord(
            source=Source.WATCH, since=since, until=until, reason=why, recovered=recovered
        )
        self._folder.add_gaps([gap])
