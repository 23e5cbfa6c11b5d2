"""Removes images from every node before a trial, and takes each node's word on their absence.

One privileged pod a node, released as a trial's pods are, runs remove_images.sh against the node's
own containerd. Nothing is believed that a node did not say: a pod that fails or is silent leaves a
record that proves nothing, and the ledger excludes the cell.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files

from experiment.collect.warm_layers import read_answer, read_proof, removal_argument
from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.job_manifest import removal_job
from experiment.measure.pods import PodState
from schema.run_records import PlannedImage, PlannedTrial, RemovalRecord

_DEADLINE_S = 240
_GRACE_S = 30
_SCRIPT = files("experiment.measure").joinpath("remove_images.sh").read_text("utf-8")


class Remover:
    """Removes images.

    Args:
        jobs: of the measured nodes.
        image: that the pods run.
        run_id: labels and names what is created.
        attempt: which one of the run this is.
        now: the runner's clock.
    """

    def __init__(
        self,
        jobs: GatedJobs,
        image: PlannedImage,
        *,
        run_id: str,
        attempt: int,
        now: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._image = image
        self._run_id = run_id
        self._attempt = attempt
        self._now = now

    def remove(
        self,
        before: PlannedTrial,
        others: Sequence[PlannedImage],
        progress: Callable[[list[PodState]], None],
    ) -> list[RemovalRecord]:
        """Remove a trial's image from every node; gives what each node said.

        Args:
            before: the trial that needs its image gone.
            others: images that may stay, and with them the layers that they share with it.
            progress: told of the pods.

        Raises:
            MeasureError: the pods did not come to be.
        """
        job = removal_job(
            before.trial,
            run_id=self._run_id,
            attempt=self._attempt,
            nodes=len(self._jobs.nodes),
            remover=self._image.reference,
            script=_SCRIPT,
            images=[(before.image.reference, removal_argument(before.image))],
            deadline_s=_DEADLINE_S,
        )
        name = self._jobs.create(job)
        self._jobs.open_gates(self._jobs.await_pods(name))
        self._jobs.await_over(name, _DEADLINE_S + _GRACE_S, progress)
        pods = {pod.index: pod for pod in self._jobs.pods(name)}
        self._jobs.remove(name)
        allowed = [self._image, *others]
        return [
            self._record(before, node, pods.get(index), allowed)
            for index, node in enumerate(self._jobs.nodes)
        ]

    def _record(
        self,
        before: PlannedTrial,
        node: str,
        pod: PodState | None,
        others: Sequence[PlannedImage],
    ) -> RemovalRecord:
        why, left_bytes = _judge(before.image, pod, others)
        return RemovalRecord(
            before_trial=before.trial,
            attempt=self._attempt,
            node=node,
            reference=before.image.reference,
            at=self._now(),
            absent=not why,
            detail=why,
            left_bytes=left_bytes,
        )


def _judge(
    image: PlannedImage, pod: PodState | None, others: Sequence[PlannedImage]
) -> tuple[str, int]:
    if pod is None or pod.phase != "Succeeded":
        return f"the removing pod did not succeed: {pod.failure if pod else 'it is gone'}", 0
    try:
        (left,) = read_answer(pod.message, 1)
    except ValueError as error:
        return str(error), 0
    return read_proof(image, left, others)
