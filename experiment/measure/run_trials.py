"""The trials of one attempt on a cluster that is up, and collecting their events.

What is seen goes into the run's folder as it is seen. experiment.measure.prepare connects;
experiment.run_study decides what follows a failure.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from experiment.cluster_lease import ClusterLease
from experiment.collect.cloud_logging import Collection, LogReader
from experiment.errors import FolderError
from experiment.kube import Kube
from experiment.measure.cluster_watch import ClusterWatch
from experiment.measure.on_nodes.image_removal import Remover
from experiment.measure.on_nodes.node_stats import NodeStats
from experiment.measure.pods import PodState, display_status
from experiment.measure.remote_repository import RemoteRepository
from experiment.measure.trial import Trial, TrialRunner
from experiment.run_folder import BYTES_PER_CELL, Free, RunFolder, Steps, free_space
from experiment.terminal.progress import Progress
from experiment.waiting import now, wait_until
from schema.run_records import PlannedImage, PlannedTrial, RoofRecord, RunRecord

_COMPLETE_S = 10
_LEAST_FREE = Free(10_000_000, 50)
_LOW_FREE = Free(40_000_000, 100)
_NOT_ITS_TURN = "the run ended before its turn"


@dataclass
class Measurement:
    """One attempt at a run's trials; `experiment.measure.prepare.connect` makes it."""

    folder: RunFolder
    record: RunRecord
    progress: Progress
    steps: Steps
    """Measures the time of each wait."""
    since: datetime
    """When connecting started."""
    versions: dict[str, str]
    """What runs on the cluster."""
    warnings: tuple[str, ...]
    """What may disturb the first trials."""
    roofs: tuple[RoofRecord, ...]
    """Of the nodes, where the study has them measured."""
    kube: Kube
    lease: ClusterLease
    reader: LogReader | None
    """None where there is no Cloud Logging."""
    watch: ClusterWatch
    stats: NodeStats
    runner: TrialRunner
    remover: Remover | None
    """Known if an image can be on the nodes at its turn."""
    repository: RemoteRepository | None
    """None where the stack has none."""
    connections: ExitStack
    """Closes all of these."""
    _present: dict[str, PlannedImage] = field(default_factory=dict)
    _warned: bool = False

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the measured nodes, in the order of their pods' indexes."""
        return self.runner.nodes

    def measure(
        self, waiting: Sequence[PlannedTrial], may_begin: Callable[[PlannedTrial], None]
    ) -> None:
        """Run trials in this order. However it ends, each has a record in the folder afterwards.

        Args:
            waiting: the trials.
            may_begin: called before each release; what it raises ends measuring.

        Raises:
            UserError: of `may_begin`, or the API server fails.
        """
        with self.steps.step("node statistics"):
            self.stats.before_first(waiting[0].trial)
        trials = [Trial(planned) for planned in waiting]
        ended: list[Trial] = []
        fetch_stats: Callable[[], None] | None = None
        for number, trial in enumerate(trials, start=1):
            following = trials[number] if number < len(trials) else None
            try:
                self._check_disk(cells=len(self.nodes))
                self.lease.check()
                may_begin(trial.planned)
                self._make_cold(trial)
                self.runner.stage(trial)
                self._present[trial.planned.image.digest] = trial.planned.image
                if self.repository:
                    self.repository.look(trial.planned.trial)
                self.runner.release(trial)
                if fetch_stats:  # of the trial before; not until this one's pods are bound
                    fetch_stats()
                if self.record.staging and following:
                    self.runner.stage(following)
                ended = self._delete_complete(ended)
                self.runner.finish(trial, partial(self._show, number, len(trials), trial.planned))
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt)
                why = "interrupted" if interrupted else str(error).split("\n")[0]
                self.folder.add(self.runner.record(trial, why))
                for left in waiting[number:]:
                    self.folder.add(self.runner.record(Trial(left), _NOT_ITS_TURN))
                raise
            self.folder.add(self.runner.record(trial))
            fetch_stats = partial(
                self.stats.after,
                trial.planned.trial,
                following.planned.trial if following else None,
                now(),
            )
            if not self.runner.delete_if_busy(trial, self.progress.say):
                ended.append(trial)
        if fetch_stats:
            fetch_stats()
        with self.steps.step("Jobs complete"):  # their controller has not said so yet
            jobs = {trial.job for trial in ended}
            wait_until(lambda: jobs <= self.watch.ended_jobs, _COMPLETE_S, 0.1)

    def collect(self, timeout_s: float) -> bool:
        """Read Cloud Logging until it holds what the watch saw, or the time is over.

        Returns:
            Whether it holds all; True where there is no Cloud Logging.
        """
        with self.steps.step("node statistics"):
            self.stats.close()
        if self.repository:
            self.repository.look(None)
        if self.reader is None:
            return True
        with self.steps.step("late entries"):
            collection = Collection(self.folder, self.reader, self.since)
            return collection.run(timeout_s, self.progress.collected)

    def close(self) -> None:
        """Close the watch and all connections."""
        self.connections.close()
        if repeated := self.kube.repeated:
            counts = ", ".join(f"{status}: {count}" for status, count in sorted(repeated.items()))
            self.folder.log(f"{repeated.total()} requests to the API server retried ({counts})")

    def _check_disk(self, cells: int = 0) -> None:
        """Warn when the disk of the run's folder is nearly full, and end before it is.

        Args:
            cells: that are yet to be recorded in the trial.
        """
        free, records = free_space(self.folder.path), cells * BYTES_PER_CELL
        if free.lacks(_LEAST_FREE.bytes + records, _LEAST_FREE.files):
            raise FolderError(
                f"Only {free} are free on the disk of {self.folder.path}, too little for the "
                "records of a trial.",
                f"free space, then: pull-study run --resume {self.folder.path.name}",
            )
        if free.lacks(_LOW_FREE.bytes + records, _LOW_FREE.files) and not self._warned:
            self.progress.say(f"Warning: only {free} are free on the disk of {self.folder.path}.")
            self._warned = True

    def _make_cold(self, trial: Trial) -> None:
        """Remove a trial's image from every node, unless it cannot be there."""
        image = trial.planned.image
        if self.runner.fresh and image.digest not in self._present:
            return
        assert self.remover is not None  # noqa: S101 (preflight resolved its image)
        trial.removal_begun_at = now()
        others = [other for digest, other in self._present.items() if digest != image.digest]
        others += [trial.planned.view] if trial.planned.view else []
        self.folder.add(*self.remover.remove(trial.planned, others, self._show_removal))
        self._present.pop(image.digest, None)
        trial.removal_ended_at = now()

    def _delete_complete(self, ended: list[Trial]) -> list[Trial]:
        """Delete the Jobs that the job controller is done with; return the other trials.

        A Job deleted sooner is never reported as complete, so its time would be unknown.
        """
        complete = frozenset(self.watch.ended_jobs)
        for trial in ended:
            if trial.job in complete:
                self.runner.delete(trial)
        return [trial for trial in ended if trial.job not in complete]

    def _show(
        self, number: int, total: int, planned: PlannedTrial, pods: Sequence[PodState]
    ) -> None:
        self._check_disk()
        self.progress.trial(number, total, planned, [display_status(pod) for pod in pods])

    def _show_removal(self, pods: Sequence[PodState]) -> None:
        self._check_disk()
        over = sum(pod.over for pod in pods)
        self.progress.now(f"image removed from {over} of {len(pods)} nodes")
