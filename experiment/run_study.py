"""A run from start to end: preflight, provision, prepare, measure, collect, teardown.

Each phase is timed and recorded when it ends. Whatever happens after provisioning started, what was
measured is collected and judged, and the cluster is taken down; the first problem is raised at the
end. An interrupt is an ordinary way to end.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from experiment.collect.cloud_logging import LATE_ENTRIES_S
from experiment.collect.judge import judge
from experiment.collect.span_file import collect_spans
from experiment.errors import (
    FolderError,
    InternalError,
    Interrupted,
    OwnershipError,
    TeardownError,
    print_error,
)
from experiment.interrupts import interrupts_wait, signals_interrupt
from experiment.measure.prepare import connect
from experiment.measure.run_trials import Measurement
from experiment.plan.cost import unrecorded_time
from experiment.plan.registry import resolve_remover
from experiment.provision.cluster import Cluster
from experiment.provision.stack_settings import exported_deadline
from experiment.run_folder import RunFolder, Steps
from experiment.terminal.progress import Progress
from experiment.waiting import now
from schema.errors import UserError
from schema.run_records import Phase, PhaseRecord, PlannedTrial, RunRecord

_AFTER_FAILURE_S = 5.0


class StudyRun:
    """One run of a study on a cluster.

    Args:
        folder: of the run.
        record: the plan.
        cluster: where to measure; it is taken down however the run ends.
        attempt: 1, or a later one for a resumed run.
        progress: shows it to the user.
        preflight: the checks before anything costs; raises UserError.
        may_begin: called before each trial's release, so it must be quick; raises UserError to end
            measuring there.
        keep_cluster: leave the cluster up at the end.
        spans: file with the spans of the nodes' containerds (experiment.collect.span_file).
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        cluster: Cluster,
        attempt: int,
        progress: Progress,
        *,
        preflight: Callable[[], None],
        may_begin: Callable[[PlannedTrial], None] = lambda _planned: None,
        keep_cluster: bool = False,
        spans: Path | None = None,
    ) -> None:
        self._spans = spans
        self._folder = folder
        self._record = record
        self._cluster = cluster
        self._attempt = attempt
        self._progress = progress
        self._checks = preflight
        self._may_begin = may_begin
        self._keep = keep_cluster
        self._steps = Steps()
        self._measurement: Measurement | None = None

    def run(self) -> None:
        """Execute the phases.

        Raises:
            UserError: the first problem, after teardown. Cells that are not valid are none: they
                are in the ledger.
        """
        problem: UserError | None = None
        left: UserError | None = None
        with interrupts_wait(self._say_wait):
            try:
                with signals_interrupt():
                    problem = self._try(Phase.PREFLIGHT, self._preflight) or self._on_the_cluster()
            except KeyboardInterrupt:  # between two phases
                problem = self._interrupted("between two phases")
            finally:
                left = self._end()
        if problem and isinstance(left, TeardownError):
            left.add_note(f"The run had failed before: {problem.problem}")
            raise left from problem
        if problem and left:
            problem.add_note(f"The teardown failed too: {left.problem} Fix: {left.fix}")
        if problem or left:
            raise problem or left  # type: ignore[misc]  # one of them is not None

    def _on_the_cluster(self) -> UserError | None:
        problem = self._try(Phase.PROVISION, self._provision)
        problem = problem or self._try(Phase.PREPARE, self._prepare)
        if isinstance(problem, OwnershipError):
            self._cluster.exists = False  # another run measures on it, and takes it down
        if problem is not None:
            return problem
        problem = self._try(Phase.MEASURE, self._measure)
        patience = _AFTER_FAILURE_S if problem else LATE_ENTRIES_S
        lost = self._try(Phase.COLLECT, lambda: self._collect(patience))
        return problem or lost

    def end_leftovers(self) -> None:
        """Take down what a killed runner left, for a run with nothing left to measure.

        Raises:
            UserError: something may be left.
        """
        last = self._folder.phases()[-1:]
        if last and last[0].phase is Phase.TEARDOWN and last[0].error is None:
            return
        with interrupts_wait(self._say_wait):
            problem = self._try(Phase.PREFLIGHT, lambda: self._cluster.recover(resumed=True))
            problem = problem or self._end()
        if problem:
            raise problem

    def judge_unjudged(self) -> None:
        """Judge the trials that a killed runner recorded, from the events that it kept.

        Raises:
            FolderError: the ledger cannot be written.
        """
        judged = {(cell.trial, cell.attempt) for cell in self._folder.cells()}
        recorded = {(trial.trial, trial.attempt) for trial in self._folder.trials()}
        for attempt in sorted({attempt for _, attempt in recorded - judged}):
            judge(self._folder, self._record, attempt, complete=False)

    def trials_to_measure(self) -> list[PlannedTrial]:
        """Return the planned trials without a valid cell for every node, in their order.

        A trial is measured again as a whole: fewer nodes would find the registry less busy.
        """
        cells = self._folder.last_cells()
        valid = Counter(cell.trial for cell in cells if cell.status.intended)
        nodes = self._cluster.node_count
        return [trial for trial in self._record.trials if valid[trial.trial] < nodes]

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
        except MemoryError as error:
            error.__traceback__ = None  # frees what its frames hold, so that the rest can go on
            problem = InternalError(
                f"There is not enough memory for the phase {phase}.",
                f"free -m; ulimit -v; then: pull-study run --resume {self._record.run_id}",
            )
        except Exception as error:  # noqa: BLE001 (the cluster must come down whatever happened)
            self._folder.log(traceback.format_exc())
            problem = InternalError(
                f"Internal error in phase {phase}: {error!r}.",
                f"report it with {self._folder.path / 'run.log'}",
            )
        record = PhaseRecord(
            phase=phase,
            started_at=started_at,
            ended_at=now(),
            error=problem.problem if problem else None,
            attempt=self._attempt,
            steps=self._steps.take(),
        )
        try:
            if phase is Phase.PREFLIGHT and self._attempt > 1:
                record = self._with_unrecorded_time(record)
            self._folder.add(record)
        except FolderError as error:
            print_error(f"{error.problem} The record is: {record.model_dump_json()}")
            problem = problem or error
        return problem

    def _with_unrecorded_time(self, record: PhaseRecord) -> PhaseRecord:
        """Add for how long the cluster of an earlier attempt was up."""
        times = unrecorded_time(
            self._folder.phases(),
            self._cluster,
            record.ended_at,
            expires_at=exported_deadline(self._record.outputs),
            deadline_hours=self._record.deadline_hours,
        )
        since, until = times or (None, None)
        return record.model_copy(update={"cluster_since": since, "cluster_until": until})

    def _interrupted(self, where: str) -> Interrupted:
        return Interrupted(
            f"Interrupted {where}; what was measured is kept in {self._folder.path}.",
            f"pull-study run --resume {self._record.run_id}",
        )

    def _preflight(self) -> None:
        resumed = self._attempt > 1
        if resumed:  # first, so that a cluster that is up is taken down whatever check fails
            self._cluster.recover(resumed=True)
        self._checks()
        if not resumed:
            self._cluster.recover(resumed=False)
        self._resolve_remover()

    def _resolve_remover(self) -> None:
        """Resolve the image of pods that work on nodes, if images are removed or roofs measured."""
        digests = [trial.image.digest for trial in self.trials_to_measure()]
        repeated = len(set(digests)) < len(digests)
        needed = not self._cluster.fresh or repeated or self._record.study.roofs
        if needed and self._record.remover is None:
            remover = resolve_remover()
            self._record = self._record.model_copy(update={"remover": remover})
            self._folder.write_run(self._record)

    def _provision(self) -> None:
        before = self._record.zone_attempts
        try:
            outputs = self._cluster.provision()
            self._record = self._record.model_copy(update={"outputs": outputs})
        finally:
            attempts = {"zone_attempts": (*before, *self._cluster.zone_attempts)}
            self._record = self._record.model_copy(update=attempts)
            self._folder.write_run(self._record)

    def _prepare(self) -> None:
        record = self._record
        assert record.outputs is not None  # noqa: S101 (provisioning set it)
        self._measurement = connect(
            self._folder,
            record,
            record.outputs,
            attempt=self._attempt,
            progress=self._progress,
            steps=self._steps,
            fresh=self._cluster.fresh,
        )
        versions = record.versions | self._measurement.versions
        warnings = tuple(dict.fromkeys([*record.warnings, *self._measurement.warnings]))
        roofs = {each.node: each for each in (*record.roofs, *self._measurement.roofs)}
        self._record = record.model_copy(
            update={"versions": versions, "warnings": warnings, "roofs": tuple(roofs.values())}
        )
        self._folder.write_run(self._record)

    def _measure(self) -> None:
        assert self._measurement is not None  # noqa: S101 (prepare connected it)
        self._measurement.measure(self.trials_to_measure(), self._may_begin)

    def _collect(self, timeout_s: float) -> None:
        assert self._measurement is not None  # noqa: S101 (prepare connected it)
        complete, started = False, time.monotonic()
        try:
            complete = self._measurement.collect(timeout_s)
            if not complete:
                self._progress.say(
                    f"Cloud Logging did not hold every event after {timeout_s:.0f} s; to add later "
                    f"ones: pull-study collect {self._record.run_id}"
                )
        finally:
            waited = time.monotonic() - started
            self._read_spans(patient=complete)
            for earlier in range(1, self._attempt):  # whose entries may have arrived by now
                judge(self._folder, self._record, earlier, complete=False)
            cells = judge(
                self._folder, self._record, self._attempt, complete=complete, waited_s=waited
            )
            self._progress.judged(cells, self._measurement.nodes)

    def _read_spans(self, *, patient: bool) -> None:
        if self._spans is None:
            return
        warning = collect_spans(self._spans, self._folder, self._attempt, patient=patient)
        if warning:
            self._progress.say(f"Warning: {warning}")

    def _end(self) -> UserError | None:
        """Close what is open and take the cluster down, whatever fails; return what failed."""
        if self._measurement is not None:
            try:
                self._measurement.close()
            except Exception:  # noqa: BLE001 (the cluster must come down whatever happened)
                self._folder.log(traceback.format_exc())
        if not self._cluster.exists:
            return None
        if self._keep:
            self._progress.say(self._cluster.kept())
            return None
        problem = self._try(Phase.TEARDOWN, self._teardown)
        if problem is None or isinstance(problem, TeardownError) or not self._cluster.exists:
            return problem
        return TeardownError(
            f"The cluster {self._cluster.name} may be up: {problem.problem}",
            "pull-study list shows what is up; pull-study destroy --stack "
            f"{self._record.stack} deletes it",
        )

    def _teardown(self) -> None:
        try:
            self._cluster.teardown()
        except UserError:
            raise
        except MemoryError:
            pass
        except Exception:  # noqa: BLE001 (the cluster must come down whatever happened)
            self._folder.log(traceback.format_exc())
        else:
            return
        self._cluster.teardown()  # memory, threads or descriptors of the first try are free now

    def _say_wait(self) -> None:
        self._progress.say(f"Still {self._cluster.taking_down}; please wait.")
