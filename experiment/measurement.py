"""What happens on a cluster that is up: prepare, the trials, collecting what they left.

It keeps what it sees in the run's folder as it sees it. When its steps are taken, and what follows
a failure, is decided in experiment.run_study.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from experiment.collect import LogReader
from experiment.errors import MeasureError, ProvisionError
from experiment.job_manifest import canary_event
from experiment.kube import Follower, Kube, Obj
from experiment.pod_board import PodBoard, PodState
from experiment.progress import Progress
from experiment.run_folder import RunFolder
from experiment.trial import Released, Staged, TrialRunner
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.run_records import EventRecord, PlannedTrial, Source, TrialRecord
from schema.stack_outputs import StackOutputs

_READY_S = 300
_CANARY_S = 120
_COMPLETE_S = 10
_NOT_ITS_TURN = "the run ended before its turn"
_JOB_ENDS = ("Completed", "FailedIndexes", "BackoffLimitExceeded", "MaxFailedIndexesExceeded")
_MEASURED = f"{MEASURED_LABEL}=true"


def now() -> datetime:
    """The runner's clock."""
    return datetime.now(UTC)


class Measurement:
    """One attempt at a run's trials on a cluster that is up.

    Connecting waits for the nodes, keeps them in the folder, proves that events arrive in Cloud
    Logging, and opens the watches.

    Args:
        folder: of the run.
        run_id: names what is created.
        outputs: of the stack.
        attempt: which one this is.
        progress: tells the user.

    Raises:
        ProvisionError: the nodes are not all Ready in time.
        MeasureError: the API server or Cloud Logging fails, or events do not arrive.
    """

    def __init__(
        self,
        folder: RunFolder,
        run_id: str,
        outputs: StackOutputs,
        attempt: int,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._run_id = run_id
        self._outputs = outputs
        self._attempt = attempt
        self._progress = progress
        self._since = now()
        self._complete_jobs: set[str] = set()
        self._kube = Kube(outputs.kubeconfig)
        ready = self._ready_nodes()
        folder.write_nodes(ready, attempt)
        self.nodes = [str(node["metadata"]["name"]) for node in ready]
        """Names of the measured nodes, in the order of their pods' indexes."""
        self.versions = _versions(self._kube, ready)
        """What runs there."""
        self._kube.ensure_namespace(JOB_NAMESPACE)
        self._reader = LogReader(outputs, self._since)
        self._await_canary()
        self._board = PodBoard(now)
        self._followers: list[Follower] = [
            self._kube.follow_events(self._keep_event),
            self._kube.follow_pods(JOB_NAMESPACE, self._board.handle),
        ]

    def measure(
        self,
        waiting: Sequence[PlannedTrial],
        command: tuple[str, ...],
        *,
        staging: bool,
        may_begin: Callable[[PlannedTrial], None],
    ) -> None:
        """Run trials in this order. However it ends, each has a record in the folder afterwards.

        Args:
            waiting: the trials.
            command: what each pod runs once its image is there.
            staging: make each trial's Job while the one before it pulls.
            may_begin: asked before each release; what it raises ends measuring.
        """
        runner = TrialRunner(
            kube=self._kube,
            board=self._board,
            nodes=self.nodes,
            run_id=self._run_id,
            command=command,
            now=now,
        )
        ended: list[Staged] = []
        following: Staged | None = None
        for number, planned in enumerate(waiting, start=1):
            current, following = following, None
            released: Released | None = None
            try:
                may_begin(planned)
                current = current or runner.stage(planned, self._attempt)
                released = runner.release(current)
                if staging and number < len(waiting):
                    following = runner.stage(waiting[number], self._attempt)
                if len(ended) > 1:  # the one before may not be complete yet
                    runner.remove(ended.pop(0))
                label = f"{number}/{len(waiting)} {planned.image.tag}"
                trial = runner.finish(released, partial(self._show, label))
            except BaseException as error:
                self._folder.add_trial(self._cut_short(runner, planned, current, released, error))
                for left in waiting[number:]:
                    self._folder.add_trial(_never_begun(left, self._attempt, _NOT_ITS_TURN))
                raise
            self._folder.add_trial(trial)
            ended.append(current)
        self._await_complete({staged.job for staged in ended})

    def _cut_short(
        self,
        runner: TrialRunner,
        planned: PlannedTrial,
        staged: Staged | None,
        released: Released | None,
        error: BaseException,
    ) -> TrialRecord:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).split("\n")[0]
        if staged is None:
            return _never_begun(planned, self._attempt, why)
        return runner.abandon(staged, released.released_at if released else None, why)

    def collect(self, timeout_s: float) -> None:
        """Read Cloud Logging until it holds what the watch saw, or the time is over."""
        expected = _study_events(self._folder.events(), self._since)
        logged = self._reader.read_all(
            expected,
            timeout_s,
            lambda found, wanted: self._progress.now(f"{found} of {wanted} events in the log"),
        )
        self._folder.add_logged(logged)

    def close(self) -> None:
        """Close the watches and the connection to Cloud Logging."""
        self._reader.close()
        for follower in self._followers:
            follower.close()
            for cut in follower.cuts:
                self._folder.log(f"a watch was cut and listed anew: {cut}", now())

    def _ready_nodes(self) -> list[Obj]:
        count = self._outputs.node_count
        end = time.monotonic() + _READY_S
        while True:
            nodes = [node for node in self._kube.nodes(_MEASURED) if _ready(node)]
            self._progress.now(f"{len(nodes)} of {count} nodes are Ready")
            if len(nodes) == count:
                return nodes
            if time.monotonic() > end:
                raise ProvisionError(
                    f"{len(nodes)} of {count} measured nodes are Ready after {_READY_S} s, and a "
                    "study on other than its nodes would be another study.",
                    f"kubectl get nodes -l {_MEASURED}",
                )
            time.sleep(1)

    def _await_canary(self) -> None:
        self._progress.now("waiting for a first event to arrive in Cloud Logging")
        name = f"canary-{uuid.uuid4().hex[:12]}"
        at = now().isoformat(timespec="seconds").replace("+00:00", "Z")
        self._kube.create_event(canary_event(self._run_id, name, at))
        if not self._reader.await_event(name, _CANARY_S):
            raise MeasureError(
                f"An event created on the cluster did not arrive in Cloud Logging within "
                f"{_CANARY_S} s, so the pulls' events would be lost too.",
                f"kubectl -n {self._outputs.exporter_namespace} logs "
                f"deployment/{self._outputs.exporter_deployment}",
            )

    def _await_complete(self, jobs: set[str]) -> None:
        """Give the job controller time to say that the last Jobs are complete."""
        end = time.monotonic() + _COMPLETE_S
        while not jobs <= self._complete_jobs and time.monotonic() < end:
            time.sleep(0.1)

    def _keep_event(self, _change: str, event: Obj) -> None:
        if event.get("reason") in _JOB_ENDS and event["involvedObject"].get("kind") == "Job":
            self._complete_jobs.add(event["involvedObject"]["name"])
        record = EventRecord(source=Source.WATCH, received_at=now(), event=event)
        self._folder.add_watched([record])

    def _show(self, label: str, pods: list[PodState]) -> None:
        over = sum(pod.over for pod in pods)
        self._progress.now(f"{label}: {over} of {len(pods)} nodes done")


def _never_begun(planned: PlannedTrial, attempt: int, why: str) -> TrialRecord:
    return TrialRecord(
        trial=planned.trial,
        repetition=planned.repetition,
        attempt=attempt,
        reference=planned.image.reference,
        job="",
        namespace=JOB_NAMESPACE,
        pods=(),
        staged_at=None,
        released_at=None,
        first_bound_at=None,
        all_bound_at=None,
        last_finished_at=None,
        error=why,
    )


def _ready(node: Obj) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _versions(kube: Kube, nodes: list[Obj]) -> dict[str, str]:
    info = nodes[0]["status"]["nodeInfo"]
    return {
        "kubernetes": kube.server_version(),
        "kubelet": info["kubeletVersion"],
        "container_runtime": info["containerRuntimeVersion"],
        "node_os": info["osImage"],
        "node_kernel": info["kernelVersion"],
    }


def _study_events(records: list[EventRecord], since: datetime) -> set[str]:
    """Uids of the events about the trials' pods that were seen since this attempt began."""
    return {
        record.event["metadata"]["uid"]
        for record in records
        if record.received_at >= since
        and record.event.get("involvedObject", {}).get("namespace") == JOB_NAMESPACE
        and record.event["involvedObject"].get("kind") == "Pod"
    }
