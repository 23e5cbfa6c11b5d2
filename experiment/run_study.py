"""A run from start to end: preflight, provision, prepare, measure, collect, teardown.

Each phase is timed and recorded when it ends. Whatever happens after provisioning began, what was
measured is collected and judged, and the cluster is taken down; the first problem is told at the
end. Interrupting is an ordinary way to end.
"""

import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

from experiment.collect import LogReader
from experiment.errors import (
    Interrupted,
    MeasureError,
    PreflightError,
    ProvisionError,
    TeardownError,
)
from experiment.google_cloud import GkeApi
from experiment.job_manifest import canary_event
from experiment.kube import Follower, Kube, Obj
from experiment.ledger import last_attempts, make_ledger, merge_events
from experiment.pod_board import PodBoard, PodState
from experiment.preflight import check_disk, check_programs
from experiment.progress import Progress
from experiment.run_folder import RunFolder
from experiment.stacks import StackFacts, StudyStack
from experiment.trial import Released, Staged, TrialRunner
from schema.errors import ExitCode, UserError
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.run_records import (
    CellRecord,
    EventRecord,
    Phase,
    PhaseRecord,
    PlannedTrial,
    RunRecord,
    Source,
    Status,
    TrialRecord,
)
from schema.stack_outputs import StackOutputs

_READY_S = 300
_CANARY_S = 120
_LATE_ENTRIES_S = 120
_COMPLETE_S = 10
_JOB_ENDS = ("Completed", "FailedIndexes", "BackoffLimitExceeded", "MaxFailedIndexesExceeded")
_GONE_S = 60
_MEASURED = f"{MEASURED_LABEL}=true"


class InternalError(UserError):
    """A mistake of ours."""

    exit_code = ExitCode.INTERNAL


@dataclass(slots=True)
class _Cluster:
    """What is connected to a cluster that is up."""

    kube: Kube
    board: PodBoard
    reader: LogReader
    nodes: list[str]
    since: datetime
    followers: list[Follower] = field(default_factory=list)


def now() -> datetime:
    """The runner's clock."""
    return datetime.now(UTC)


class StudyRun:
    """One run of a study on a stack.

    Args:
        folder: of the run; its Pulumi files are in place.
        record: the plan.
        facts: what the stack's settings say, known before it is up.
        attempt: 1, or a later one for a resumed run.
        progress: tells the user.
        keep_cluster: leave the cluster up at the end.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        facts: StackFacts,
        attempt: int,
        progress: Progress,
        *,
        keep_cluster: bool,
    ) -> None:
        self._folder = folder
        self._record = record
        self._facts = facts
        self._attempt = attempt
        self._progress = progress
        self._keep = keep_cluster
        self._stack: StudyStack | None = None
        self._cluster: _Cluster | None = None
        self._complete_jobs: set[str] = set()

    def run(self) -> None:
        """Go through the phases.

        Raises:
            UserError: the first problem, after teardown; none when everything was done, valid or
                not: the ledger says that.
        """
        with _sigterm_as_interrupt():
            problem = self._try(Phase.PREFLIGHT, self._preflight)
            if problem is not None:
                raise problem
            problem = self._try(Phase.PROVISION, self._provision) or self._try(
                Phase.PREPARE, self._prepare
            )
            if self._cluster is not None and problem is None:
                problem = self._try(Phase.MEASURE, self._measure)
                problem = problem or self._try(Phase.COLLECT, self._collect)
                if problem is not None and problem.exit_code is not ExitCode.INTERNAL:
                    self._judge_once_more()
            self._close()
            with _interrupts_wait(self._progress):
                left = None if self._keep else self._try(Phase.TEARDOWN, self._teardown)
        if self._keep:
            self._progress.say(
                f"The cluster {self._facts.cluster_name} is kept and goes on costing money; to end "
                f"it: pulumi destroy --stack {self._record.stack}"
            )
        if left or problem:
            raise left or problem  # type: ignore[misc]  # one of them is not None

    def judge_unjudged(self) -> None:
        """Judge the trials that a killed runner recorded, from the events that it kept."""
        judged = {(cell.trial, cell.attempt) for cell in self._folder.cells()}
        for attempt in range(1, self._attempt):
            trials = [
                trial
                for trial in self._folder.trials()
                if trial.attempt == attempt and (trial.trial, attempt) not in judged
            ]
            self._folder.add_cells(self._judged(trials, self._folder.node_names(attempt)))

    def trials_to_measure(self) -> list[PlannedTrial]:
        """The planned trials without a valid cell for every node, in their order.

        A trial is measured again as a whole: pulls of N nodes at once are what is asked, and fewer
        would meet a registry less busy.
        """
        trials = {record.trial: record for record in last_attempts(self._folder.trials())}
        valid: dict[int, int] = {}
        for cell in self._folder.cells():
            record = trials.get(cell.trial)
            if record and cell.attempt == record.attempt and cell.status is Status.VALID:
                valid[cell.trial] = valid.get(cell.trial, 0) + 1
        return [
            trial
            for trial in self._record.trials
            if valid.get(trial.trial, 0) < self._facts.node_count
        ]

    def _try(self, phase: Phase, action: Callable[[], None]) -> UserError | None:
        started_at = now()
        problem: UserError | None = None
        try:
            with self._progress.phase(phase.value):
                action()
        except KeyboardInterrupt:
            problem = Interrupted(
                f"Interrupted in the phase {phase}; what was measured is kept in "
                f"{self._folder.path}.",
                f"python -m experiment run --resume {self._record.run_id}",
            )
        except UserError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 (the cluster must come down whatever happened)
            self._folder.log(traceback.format_exc(), now())
            problem = InternalError(
                f"A mistake of this program ended the phase {phase}: {error!r}.",
                f"report it with {self._folder.path / 'run.log'}",
            )
        record = PhaseRecord(
            phase=phase,
            started_at=started_at,
            ended_at=now(),
            error=problem.problem if problem else None,
        )
        self._folder.add_phase(record)
        return problem

    def _preflight(self) -> None:
        check_programs()
        check_disk(self._record.trials, self._facts.disk_gb)
        stack = StudyStack(self._record.stack, self._folder.pulumi_dir, self._progress.now)
        stack.recover()
        if stack.is_up():
            self._clear_old(stack)
        api = GkeApi(self._facts.project)
        found = api.find(self._facts.location, self._facts.cluster_name)
        if found is not None:
            raise PreflightError(
                f"There is a cluster {found.name} ({found.status}) that the stack "
                f"{self._record.stack} does not know of, and its name is needed.",
                f"gcloud container clusters delete {found.name} --location {found.location} "
                f"--project {self._facts.project}",
            )
        self._stack = stack

    def _clear_old(self, stack: StudyStack) -> None:
        if self._attempt == 1:  # a resumed run has a later one
            raise PreflightError(
                f"The stack {self._record.stack} is up already, so its nodes may hold images and "
                "a pull on them would not be cold.",
                f"pulumi destroy --stack {self._record.stack}",
            )
        self._progress.now("removing the cluster that the interrupted run left")
        stack.destroy()

    def _provision(self) -> None:
        assert self._stack is not None  # noqa: S101 (preflight opened it)
        outputs = self._stack.up()
        self._record = self._record.model_copy(update={"outputs": outputs})
        self._folder.write_run(self._record)
        state = GkeApi(outputs.project).find(outputs.location, outputs.cluster_name)
        if state is None or not state.sound:
            shown = f"{state.status}: {state.detail} {state.pools}" if state else "not there"
            raise ProvisionError(
                f"Pulumi calls the stack {self._record.stack} up, but the cluster "
                f"{outputs.cluster_name} is {shown}.",
                f"gcloud container operations list --project {outputs.project}",
            )

    def _prepare(self) -> None:
        outputs = self._outputs()
        since = now()
        kube = Kube(outputs.kubeconfig)
        nodes = self._ready_nodes(kube, outputs.node_count)
        self._folder.write_nodes(nodes, self._attempt)
        kube.ensure_namespace(JOB_NAMESPACE)
        names = [str(node["metadata"]["name"]) for node in nodes]
        self._cluster = _Cluster(kube, PodBoard(now), LogReader(outputs, since), names, since)
        versions = self._record.versions | _versions(kube, nodes)
        self._record = self._record.model_copy(update={"versions": versions})
        self._folder.write_run(self._record)
        self._await_canary(self._cluster)
        self._cluster.followers = [
            kube.follow_events(self._keep_event),
            kube.follow_pods(JOB_NAMESPACE, self._cluster.board.handle),
        ]

    def _ready_nodes(self, kube: Kube, count: int) -> list[Obj]:
        end = time.monotonic() + _READY_S
        while True:
            nodes = [node for node in kube.nodes(_MEASURED) if _ready(node)]
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

    def _await_canary(self, cluster: _Cluster) -> None:
        self._progress.now("waiting for a first event to arrive in Cloud Logging")
        name = f"canary-{uuid.uuid4().hex[:12]}"
        at = now().isoformat(timespec="seconds").replace("+00:00", "Z")
        cluster.kube.create_event(canary_event(self._record.run_id, name, at))
        if not cluster.reader.await_event(name, _CANARY_S):
            raise MeasureError(
                f"An event created on the cluster did not arrive in Cloud Logging within "
                f"{_CANARY_S} s, so the pulls' events would be lost too.",
                f"kubectl -n {self._outputs().exporter_namespace} logs "
                f"deployment/{self._outputs().exporter_deployment}",
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

    def _measure(self) -> None:
        cluster = self._connected()
        runner = TrialRunner(
            kube=cluster.kube,
            board=cluster.board,
            nodes=cluster.nodes,
            run_id=self._record.run_id,
            command=self._record.study.command,
            now=now,
        )
        waiting = self.trials_to_measure()
        ended: list[Staged] = []
        staged = runner.stage(waiting[0], self._attempt) if waiting else None
        for number, _ in enumerate(waiting, start=1):  # `staged` is the trial of this number
            assert staged is not None  # noqa: S101 (as many are staged as are waiting)
            current, released = staged, None
            try:
                released = runner.release(current)
                staged = None
                if number < len(waiting):
                    staged = runner.stage(waiting[number], self._attempt)
                if len(ended) > 1:  # the one before may not be complete yet
                    runner.remove(ended.pop(0))
                label = f"{number}/{len(waiting)} {current.planned.image.tag}"
                trial = runner.finish(released, partial(self._show, label))
            except BaseException as error:
                self._folder.add_trial(_abandoned(runner, current, released, error))
                for planned in waiting[number:]:
                    self._folder.add_trial(_never_begun(planned, self._attempt))
                raise
            self._folder.add_trial(trial)
            ended.append(current)
        self._await_complete({staged.job for staged in ended})

    def _show(self, label: str, pods: list[PodState]) -> None:
        over = sum(pod.over for pod in pods)
        self._progress.now(f"{label}: {over} of {len(pods)} nodes done")

    def _collect(self) -> None:
        self._collect_within(_LATE_ENTRIES_S)

    def _judge_once_more(self) -> None:
        """After a failure: keep what there is, without waiting for what may never come."""
        if self._folder.trials():
            self._try(Phase.COLLECT, lambda: self._collect_within(5.0))

    def _collect_within(self, timeout_s: float) -> None:
        cluster = self._connected()
        expected = _study_events(self._folder.events(), cluster.since)
        logged = cluster.reader.read_all(
            expected,
            timeout_s,
            lambda found, wanted: self._progress.now(f"{found} of {wanted} events in the log"),
        )
        self._folder.add_logged(logged)
        trials = [trial for trial in self._folder.trials() if trial.attempt == self._attempt]
        self._folder.add_cells(self._judged(trials, cluster.nodes))

    def _judged(self, trials: list[TrialRecord], nodes: list[str]) -> list[CellRecord]:
        events = merge_events(self._folder.events())
        return make_ledger(self._record.run_id, self._record.trials, trials, events, nodes)

    def _close(self) -> None:
        if self._cluster is None:
            return
        self._cluster.reader.close()
        for follower in self._cluster.followers:
            follower.close()
            for cut in follower.cuts:
                self._folder.log(f"a watch was cut and listed anew: {cut}", now())

    def _teardown(self) -> None:
        assert self._stack is not None  # noqa: S101 (preflight opened it)
        self._stack.destroy()
        api = GkeApi(self._facts.project)
        end = time.monotonic() + _GONE_S
        while (left := api.find(self._facts.location, self._facts.cluster_name)) is not None:
            if time.monotonic() > end:
                raise TeardownError(
                    f"Pulumi calls the stack {self._record.stack} destroyed, but the cluster "
                    f"{left.name} is still there ({left.status}) and costs money.",
                    f"gcloud container clusters delete {left.name} --location {left.location} "
                    f"--project {self._facts.project}",
                )
            time.sleep(2)

    def _outputs(self) -> StackOutputs:
        assert self._record.outputs is not None  # noqa: S101 (provisioning sets it)
        return self._record.outputs

    def _connected(self) -> _Cluster:
        assert self._cluster is not None  # noqa: S101 (prepare connects)
        return self._cluster


def _abandoned(
    runner: TrialRunner, staged: Staged, released: Released | None, error: BaseException
) -> TrialRecord:
    why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).splitlines()[0]
    return runner.abandon(staged, released.released_at if released else None, why)


def _never_begun(planned: PlannedTrial, attempt: int) -> TrialRecord:
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
        error="the run ended before its turn",
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


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handlers({signal.SIGTERM: interrupt}):
        yield


@contextmanager
def _interrupts_wait(progress: Progress) -> Iterator[None]:
    """Keep Ctrl-C from leaving a cluster behind."""

    def wait(_signal: int, _frame: FrameType | None) -> None:
        progress.say("Still taking the cluster down, so that it costs nothing; please wait.")

    with _handlers({signal.SIGINT: wait, signal.SIGTERM: wait}):
        yield


@contextmanager
def _handlers(handlers: dict[int, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
