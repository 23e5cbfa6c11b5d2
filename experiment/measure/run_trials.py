"""What happens on a cluster that is up: prepare, the trials, collecting what they left.

It keeps what it sees in the run's folder as it sees it. When its steps are taken, and what follows
a failure, is decided in experiment.run_study.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.kube import Kube
from experiment.measure.cluster_watch import Watches
from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.image_removal import Remover
from experiment.measure.node_stats import NodeStats
from experiment.measure.nodes import NodeBoard
from experiment.measure.pods import PodBoard, PodState
from experiment.measure.prepare import (
    MEASURED,
    await_canary,
    clear_leftovers,
    ready_nodes,
    versions_of,
)
from experiment.measure.trial import Staged, TrialRunner
from experiment.run_folder import RunFolder
from experiment.steps import Steps
from experiment.terminal.progress import Progress
from schema.names import JOB_NAMESPACE
from schema.run_records import PlannedImage, PlannedTrial, RunRecord, TrialRecord
from schema.stack_outputs import StackOutputs

_COMPLETE_S = 10
_NOT_ITS_TURN = "the run ended before its turn"


def now() -> datetime:
    """The runner's clock."""
    return datetime.now(UTC)


class Measurement:
    """One attempt at a run's trials on a cluster that is up.

    Connecting waits for the nodes, keeps them in the folder, proves that events arrive in Cloud
    Logging, and opens the watches.

    Args:
        folder: of the run.
        record: of the run; its outputs are known.
        attempt: which one this is.
        progress: tells the user.
        steps: told what is waited for.
        fresh: no image can be on the nodes but those that they came with; else each image of the
            run is removed from every node, and its absence proved, before its turn.

    Raises:
        ProvisionError: the nodes are not all Ready in time.
        MeasureError: the API server or Cloud Logging fails, or events do not arrive.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        outputs: StackOutputs,
        *,
        attempt: int,
        progress: Progress,
        steps: Steps,
        fresh: bool,
    ) -> None:
        self._folder = folder
        self._record = record
        self._attempt = attempt
        self._progress = progress
        self._steps = steps
        self._fresh = fresh
        self._since = now()
        self._kube = Kube(record.existing or outputs.kubeconfig)
        with steps.step("nodes ready"):
            ready = ready_nodes(self._kube, outputs.node_count, progress.ready)
        folder.write_nodes(ready, attempt)
        self.nodes = [str(node["metadata"]["name"]) for node in ready]
        """Names of the measured nodes, in the order of their pods' indexes."""
        self.versions = versions_of(self._kube, ready)
        """What runs there."""
        self._cluster = self._kube.cluster_uid()
        self._kube.ensure_namespace(JOB_NAMESPACE)
        if not fresh:
            with steps.step("leftovers"):
                clear_leftovers(self._kube, progress.now)
        self._reader = LogReader(outputs, record.started_at) if outputs.log_filter else None
        if self._reader:
            progress.now("waiting for a first event to arrive in Cloud Logging")
            with steps.step("first event in Cloud Logging"):
                await_canary(self._kube, self._reader, record.run_id, outputs)
        pods = PodBoard(now)
        digests = {trial.image.digest for trial in record.trials}
        nodes = NodeBoard(ready, digests, attempt, folder.add_node, now)
        with steps.step("watches"):
            self._watches = Watches(
                self._kube,
                folder,
                selector=MEASURED,
                exporter_namespace=outputs.exporter_namespace,
                pods=pods,
                nodes=nodes,
                now=now,
            )
        self._jobs = GatedJobs(self._kube, pods, self.nodes, nodes.lost)
        self._stats = NodeStats(self._kube, self.nodes, attempt, folder.add_node_stats, now)
        self._present: dict[str, PlannedImage] = {}

    def measure(
        self, waiting: Sequence[PlannedTrial], may_begin: Callable[[PlannedTrial], None]
    ) -> None:
        """Run trials in this order. However it ends, each has a record in the folder afterwards.

        Args:
            waiting: the trials.
            may_begin: asked before each release; what it raises ends measuring.
        """
        runner = TrialRunner(
            self._jobs,
            run_id=self._record.run_id,
            attempt=self._attempt,
            command=self._record.study.command,
            now=now,
        )
        with self._steps.step("node statistics"):
            self._stats.before_first(waiting[0].trial)
        ended: list[Staged] = []
        following: Staged | None = None
        ask_nodes: Callable[[], None] | None = None
        for number, planned in enumerate(waiting, start=1):
            current, following = following, None
            removal: tuple[datetime, datetime] | None = None
            later = waiting[number] if number < len(waiting) else None
            try:
                may_begin(planned)
                removal = self._make_cold(planned)
                current = current or runner.stage(planned)
                self._present[planned.image.digest] = planned.image
                released = runner.release(current)
                if ask_nodes:
                    ask_nodes()  # of the trial before; not until this one's pods are bound
                if self._record.staging and later:
                    following = runner.stage(later)
                ended = self._remove_complete(runner, ended)
                show = partial(self._progress.pods, number, len(waiting), planned)
                trial = runner.finish(released, show)
            except BaseException as error:
                trial = self._cut_short(runner, planned, current, error)
                self._keep(trial, removal)
                for left in waiting[number:]:
                    self._keep(self._never_begun(left, _NOT_ITS_TURN), None)
                raise
            self._keep(trial, removal)
            ask_nodes = partial(
                self._stats.after, planned.trial, later.trial if later else None, now()
            )
            if not runner.remove_if_busy(current):
                ended.append(current)
        if ask_nodes:
            ask_nodes()
        with self._steps.step("Jobs complete"):
            self._await_complete({staged.job for staged in ended})

    def collect(self, timeout_s: float) -> bool:
        """Read Cloud Logging until it holds what the watch saw, or the time is over.

        Returns:
            Whether it holds all; True where there is no Cloud Logging.
        """
        with self._steps.step("node statistics"):
            self._stats.close()
        if self._reader is None:
            return True
        with self._steps.step("late entries"):
            collection = Collection(self._folder, self._reader, self._since)
            return collection.run(timeout_s, self._progress.collected)

    def close(self) -> None:
        """Close the watches and all connections."""
        if self._reader:
            self._reader.close()
        self._stats.close()
        self._watches.close()
        self._jobs.close()
        if repeated := self._kube.repeated:
            counts = ", ".join(f"{status}: {count}" for status, count in sorted(repeated.items()))
            total = repeated.total()
            text = f"the API server made the runner repeat {total} requests ({counts})"
            self._folder.log(text, now())

    def _make_cold(self, planned: PlannedTrial) -> tuple[datetime, datetime] | None:
        """Remove a trial's image from every node, unless it cannot be there; from when to when."""
        if self._fresh and planned.image.digest not in self._present:
            return None
        assert self._record.remover is not None  # noqa: S101 (preflight resolved it)
        remover = Remover(
            self._jobs,
            self._record.remover,
            run_id=self._record.run_id,
            attempt=self._attempt,
            now=now,
        )
        begun = now()
        others = [
            image for digest, image in self._present.items() if digest != planned.image.digest
        ]
        self._folder.add_removals(remover.remove(planned, others, self._show_removal))
        self._present.pop(planned.image.digest, None)
        return begun, now()

    def _keep(self, trial: TrialRecord, removal: tuple[datetime, datetime] | None) -> None:
        begun, ended = removal or (None, None)
        update = {
            "cluster": self._cluster,
            "fresh": self._fresh,
            "removal_begun_at": begun,
            "removal_ended_at": ended,
        }
        self._folder.add_trial(trial.model_copy(update=update))

    def _cut_short(
        self,
        runner: TrialRunner,
        planned: PlannedTrial,
        staged: Staged | None,
        error: BaseException,
    ) -> TrialRecord:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).split("\n")[0]
        if staged is None:
            return self._never_begun(planned, why)
        return runner.report(staged, why)

    def _never_begun(self, planned: PlannedTrial, why: str) -> TrialRecord:
        return TrialRecord(
            trial=planned.trial,
            repetition=planned.repetition,
            attempt=self._attempt,
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

    def _remove_complete(self, runner: TrialRunner, ended: list[Staged]) -> list[Staged]:
        """Ask for the deletion of the Jobs that the job controller is done with; the others.

        A Job deleted sooner is never said to be complete, so its time would be unknown.
        """
        complete = frozenset(self._watches.ended_jobs)
        for staged in ended:
            if staged.job in complete:
                runner.remove(staged)
        return [staged for staged in ended if staged.job not in complete]

    def _await_complete(self, jobs: set[str]) -> None:
        """Give the job controller time to say that the last Jobs are complete."""
        end = time.monotonic() + _COMPLETE_S
        while not jobs <= self._watches.ended_jobs and time.monotonic() < end:
            time.sleep(0.1)

    def _show_removal(self, pods: list[PodState]) -> None:
        over = sum(pod.over for pod in pods)
        self._progress.now(f"image removed from {over} of {len(pods)} nodes")
