"""A run from start to end: preflight, provision, prepare, measure, collect, teardown.

Each phase is timed and recorded when it ends. Whatever happens after provisioning began, what was
measured is collected and judged, and the cluster is taken down; the first problem is told at the
end. Interrupting is an ordinary way to end.
"""

import time
import traceback
from collections.abc import Callable
from functools import cached_property

from experiment.errors import (
    InternalError,
    Interrupted,
    PreflightError,
    ProvisionError,
    TeardownError,
)
from experiment.google_cloud import GkeApi
from experiment.interrupts import interrupts_wait, sigterm_interrupts
from experiment.ledger import last_attempts, make_ledger, merge_events
from experiment.measurement import Measurement, now
from experiment.preflight import check_disk, check_programs
from experiment.progress import Progress
from experiment.run_folder import RunFolder
from experiment.stacks import StackFacts, StudyStack
from schema.errors import UserError
from schema.run_records import Phase, PhaseRecord, PlannedTrial, RunRecord, Status

_LATE_ENTRIES_S = 120.0
_AFTER_FAILURE_S = 5.0
_GONE_S = 60


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
        self._measurement: Measurement | None = None

    def run(self) -> None:
        """Go through the phases.

        Raises:
            UserError: the first problem, after teardown; none when everything was done, valid or
                not: the ledger says that.
        """
        with sigterm_interrupts():
            problem = self._try(Phase.PREFLIGHT, self._preflight)
            if problem is not None:
                raise problem
            try:
                problem = self._on_the_cluster()
            except KeyboardInterrupt:  # between two phases
                problem = self._interrupted("between two phases")
            with interrupts_wait(self._tell_to_wait):
                left = self._end()
        if left or problem:
            raise left or problem  # type: ignore[misc]  # one of them is not None

    def _on_the_cluster(self) -> UserError | None:
        problem = self._try(Phase.PROVISION, self._provision)
        problem = problem or self._try(Phase.PREPARE, self._prepare)
        if problem is not None:
            return problem
        problem = self._try(Phase.MEASURE, self._measure)
        patience = _AFTER_FAILURE_S if problem else _LATE_ENTRIES_S
        lost = self._try(Phase.COLLECT, lambda: self._collect(patience))
        return problem or lost

    def judge_unjudged(self) -> None:
        """Judge the trials that a killed runner recorded, from the events that it kept."""
        for attempt in range(1, self._attempt):
            self._judge(attempt, self._folder.node_names(attempt))

    def trials_to_measure(self) -> list[PlannedTrial]:
        """The planned trials without a valid cell for every node, in their order.

        A trial is measured again as a whole: pulls of N nodes at once are what is asked, and fewer
        would meet a registry less busy.
        """
        last = {record.trial: record.attempt for record in last_attempts(self._folder.trials())}
        valid = [
            cell.trial
            for cell in self._folder.cells()
            if cell.status is Status.VALID and cell.attempt == last.get(cell.trial)
        ]
        wanted = self._facts.node_count
        return [trial for trial in self._record.trials if valid.count(trial.trial) < wanted]

    def _try(self, phase: Phase, action: Callable[[], None]) -> UserError | None:
        started_at = now()
        problem: UserError | None = None
        try:
            with self._progress.phase(phase.value):
                action()
        except KeyboardInterrupt:
            problem = self._interrupted(f"in the phase {phase}")
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

    def _interrupted(self, where: str) -> Interrupted:
        return Interrupted(
            f"Interrupted {where}; what was measured is kept in {self._folder.path}.",
            f"python -m experiment run --resume {self._record.run_id}",
        )

    @cached_property
    def _api(self) -> GkeApi:
        return GkeApi(self._facts.project)

    def _preflight(self) -> None:
        check_programs()
        check_disk(self._record.trials, self._facts.disk_gb)
        stack = StudyStack(self._record.stack, self._folder.pulumi_dir, self._progress.now)
        stack.recover()
        if stack.is_up():
            self._clear_old(stack)
        found = self._api.find(self._facts.location, self._facts.cluster_name)
        if found is not None:
            raise PreflightError(
                f"There is a cluster {found.name} ({found.status}) that the stack "
                f"{self._record.stack} does not know of, and its name is needed.",
                self._delete_command(),
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
        state = self._api.find(outputs.location, outputs.cluster_name)
        if state is None or not state.sound:
            shown = f"{state.status}: {state.detail} {state.pools}" if state else "not there"
            raise ProvisionError(
                f"Pulumi calls the stack {self._record.stack} up, but the cluster "
                f"{outputs.cluster_name} is {shown}.",
                f"gcloud container operations list --project {outputs.project}",
            )

    def _prepare(self) -> None:
        record = self._record
        assert record.outputs is not None  # noqa: S101 (provisioning set it)
        self._measurement = Measurement(
            self._folder, record.run_id, record.outputs, self._attempt, self._progress
        )
        versions = record.versions | self._measurement.versions
        self._record = record.model_copy(update={"versions": versions})
        self._folder.write_run(self._record)

    def _measure(self) -> None:
        assert self._measurement is not None  # noqa: S101 (prepare connected it)
        self._measurement.measure(self.trials_to_measure(), self._record.study.command)

    def _collect(self, timeout_s: float) -> None:
        assert self._measurement is not None  # noqa: S101 (prepare connected it)
        try:
            self._measurement.collect(timeout_s)
        finally:
            self._judge(self._attempt, self._measurement.nodes)

    def _judge(self, attempt: int, nodes: list[str]) -> None:
        """Put the attempt's recorded trials into the ledger, unless they are there."""
        judged = {(cell.trial, cell.attempt) for cell in self._folder.cells()}
        trials = [
            trial
            for trial in self._folder.trials()
            if trial.attempt == attempt and (trial.trial, attempt) not in judged
        ]
        events = merge_events(self._folder.events()) if trials else []
        record = self._record
        cells = make_ledger(record.run_id, record.trials, trials, events, nodes)
        self._folder.add_cells(cells)

    def _end(self) -> UserError | None:
        if self._measurement is not None:
            self._measurement.close()
        if not self._keep:
            return self._try(Phase.TEARDOWN, self._teardown)
        self._progress.say(
            f"The cluster {self._facts.cluster_name} is kept and goes on costing money; to end it: "
            f"pulumi destroy --stack {self._record.stack}"
        )
        return None

    def _teardown(self) -> None:
        assert self._stack is not None  # noqa: S101 (preflight opened it)
        self._stack.destroy()
        end = time.monotonic() + _GONE_S
        while left := self._api.find(self._facts.location, self._facts.cluster_name):
            if time.monotonic() > end:
                raise TeardownError(
                    f"Pulumi calls the stack {self._record.stack} destroyed, but the cluster "
                    f"{left.name} is still there ({left.status}) and costs money.",
                    self._delete_command(),
                )
            time.sleep(2)

    def _tell_to_wait(self) -> None:
        self._progress.say("Still taking the cluster down, so that it costs nothing; please wait.")

    def _delete_command(self) -> str:
        facts = self._facts
        return (
            f"gcloud container clusters delete {facts.cluster_name} --location {facts.location} "
            f"--project {facts.project}"
        )
