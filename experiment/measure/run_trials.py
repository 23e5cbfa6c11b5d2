"""The trials of one attempt on a cluster that is up, and collecting their events.

What is seen goes into the run's folder as it is seen. experiment.measure.prepare connects;
experiment.run_study decides what follows a failure.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.kube import Kube
from experiment.measure.cluster_watch import ClusterWatch
from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.image_removal import Remover
from experiment.measure.node_stats import NodeStats
from experiment.measure.pods import PodState, display_status
from experiment.measure.trial import Trial, TrialRunner
from experiment.run_folder import RunFolder, Steps
from experiment.terminal.progress import Progress
from experiment.waiting import now, wait_until
from schema.run_records import PlannedImage, PlannedTrial, RunRecord

_COMPLETE_S = 10
_NOT_ITS_TURN = "the run ended before its turn"


class Measurement:
    """One attempt at a run's trials; `experiment.measure.prepare.connect` makes it.

    Args:
        folder: of the run.
        record: of the run.
        attempt: which one this is.
        progress: shows it to the user.
        steps: times what is waited for.
        fresh: no image can be on the nodes but those that they came with; else each image of the
            run is removed from every node, and its absence proved, before its turn.
        kube: the cluster.
        cluster_uid: identifies it.
        versions: what runs there.
        reader: of Cloud Logging; None where there is none.
        watch: of the cluster.
        jobs: on the measured nodes.
        stats: of the measured nodes.
        connections: closes all of these.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        *,
        attempt: int,
        progress: Progress,
        steps: Steps,
        fresh: bool,
        kube: Kube,
        cluster_uid: str,
        versions: dict[str, str],
        reader: LogReader | None,
        watch: ClusterWatch,
        jobs: GatedJobs,
        stats: NodeStats,
        connections: ExitStack,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._steps = steps
        self._fresh = fresh
        self._since = now()
        self._kube = kube
        self._reader = reader
        self._watch = watch
        self._stats = stats
        self._connections = connections
        self._staging = record.staging
        self.nodes = jobs.nodes
        """Names of the measured nodes, in the order of their pods' indexes."""
        self.versions = versions
        """What runs on the cluster."""
        self._runner = TrialRunner(
            jobs,
            run_id=record.run_id,
            attempt=attempt,
            command=record.study.command,
            cluster=cluster_uid,
            fresh=fresh,
        )
        self._remover = (
            Remover(jobs, record.remover, run_id=record.run_id, attempt=attempt)
            if record.remover
            else None
        )
        self._present: dict[str, PlannedImage] = {}

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
        with self._steps.step("node statistics"):
            self._stats.before_first(waiting[0].trial)
        trials = [Trial(planned) for planned in waiting]
        ended: list[Trial] = []
        fetch_stats: Callable[[], None] | None = None
        for number, trial in enumerate(trials, start=1):
            following = trials[number] if number < len(trials) else None
            try:
                may_begin(trial.planned)
                self._make_cold(trial)
                self._runner.stage(trial)
                self._present[trial.planned.image.digest] = trial.planned.image
                self._runner.release(trial)
                if fetch_stats:  # of the trial before; not until this one's pods are bound
                    fetch_stats()
                if self._staging and following:
                    self._runner.stage(following)
                ended = self._delete_complete(ended)
                self._runner.finish(trial, partial(self._show, number, len(trials), trial.planned))
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt)
                why = "interrupted" if interrupted else str(error).split("\n")[0]
                self._folder.add(self._runner.record(trial, why))
                for left in waiting[number:]:
                    self._folder.add(self._runner.record(Trial(left), _NOT_ITS_TURN))
                raise
            self._folder.add(self._runner.record(trial))
            fetch_stats = partial(
                self._stats.after,
                trial.planned.trial,
                following.planned.trial if following else None,
                now(),
            )
            if not self._runner.delete_if_busy(trial, self._progress.say):
                ended.append(trial)
        if fetch_stats:
            fetch_stats()
        with self._steps.step("Jobs complete"):  # their controller has not said so yet
            jobs = {trial.job for trial in ended}
            wait_until(lambda: jobs <= self._watch.ended_jobs, _COMPLETE_S, 0.1)

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
        """Close the watch and all connections."""
        self._connections.close()
        if repeated := self._kube.repeated:
            counts = ", ".join(f"{status}: {count}" for status, count in sorted(repeated.items()))
            self._folder.log(f"{repeated.total()} requests to the API server retried ({counts})")

    def _make_cold(self, trial: Trial) -> None:
        """Remove a trial's image from every node, unless it cannot be there."""
        image = trial.planned.image
        if self._fresh and image.digest not in self._present:
            return
        assert self._remover is not None  # noqa: S101 (preflight resolved its image)
        trial.removal_begun_at = now()
        others = [other for digest, other in self._present.items() if digest != image.digest]
        self._folder.add(*self._remover.remove(trial.planned, others, self._show_removal))
        self._present.pop(image.digest, None)
        trial.removal_ended_at = now()

    def _delete_complete(self, ended: list[Trial]) -> list[Trial]:
        """Delete the Jobs that the job controller is done with; return the other trials.

        A Job deleted sooner is never reported as complete, so its time would be unknown.
        """
        complete = frozenset(self._watch.ended_jobs)
        for trial in ended:
            if trial.job in complete:
                self._runner.delete(trial)
        return [trial for trial in ended if trial.job not in complete]

    def _show(
        self, number: int, total: int, planned: PlannedTrial, pods: Sequence[PodState]
    ) -> None:
        self._progress.trial(number, total, planned, [display_status(pod) for pod in pods])

    def _show_removal(self, pods: Sequence[PodState]) -> None:
        over = sum(pod.over for pod in pods)
        self._progress.now(f"image removed from {over} of {len(pods)} nodes")
