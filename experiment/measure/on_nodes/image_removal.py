"""Removes images from every node before a trial, and keeps each node's proof of their absence.

One privileged pod a node, released as a trial's pods are, runs remove_images.sh against the node's
own containerd. A pod that fails or reports nothing leaves a record that proves nothing, and the
ledger excludes the cell.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from experiment.measure.job_manifest import removal_job
from experiment.measure.pods import PodState
from experiment.measure.staged_jobs import StagedJobs
from experiment.waiting import now
from schema.run_records import PlannedImage, PlannedTrial, RemovalRecord

_DEADLINE_S = 240
_GRACE_S = 30
_SCRIPT = files("experiment.measure.on_nodes").joinpath("remove_images.sh").read_text("utf-8")


def chain_ids(image: PlannedImage) -> list[str]:
    """Return the name of each layer's snapshot (OCI image specification, ChainID)."""
    chain: list[str] = []
    for layer in image.layers:
        if not chain:
            chain.append(layer.diff_id)
            continue
        both = f"{chain[-1]} {layer.diff_id}".encode()
        chain.append(f"sha256:{hashlib.sha256(both).hexdigest()}")
    return chain


def removal_argument(image: PlannedImage) -> str:
    """Return the argument of remove_images.sh for an image."""
    layers = zip(image.layers, chain_ids(image), strict=True)
    return "\n".join([image.digest, *(f"{layer.digest} {chain}" for layer, chain in layers)])


@dataclass(frozen=True, slots=True)
class Left:
    """What a node reports of one image after its removal."""

    known: bool
    layers: tuple[int, ...]
    partial: int


def read_answer(message: str, images: int) -> list[Left]:
    """Read the termination message of a removing container.

    Raises:
        ValueError: it is not an answer for this number of images.
    """
    try:
        answer = json.loads(message)
        left = [
            Left(bool(each["image"]), tuple(map(int, each["layers"])), int(each["partial"]))
            for each in answer
        ]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not the message of a removal: {message[:100]!r}") from error
    if len(left) != images:
        raise ValueError(f"a message about {len(left)} images, not {images}: {message[:100]!r}")
    return left


def read_proof(image: PlannedImage, left: Left, others: Iterable[PlannedImage]) -> tuple[str, int]:
    """Return why absence is not proved (empty if it is), and the bytes that other images keep.

    Args:
        image: that was removed.
        left: of it.
        others: images that may be on the node.
    """
    theirs = {layer.diff_id for other in others for layer in other.layers}
    kept = [image.layers[index] for index in left.layers if index < len(image.layers)]
    odd = [layer.digest for layer in kept if layer.diff_id not in theirs]
    bytes_left = sum(layer.size_bytes for layer in kept)
    if left.known:
        return "containerd still has the image", bytes_left
    if odd:
        return f"layer {odd[0]} is on the node and no image of the run accounts for it", bytes_left
    if left.partial:
        return f"{left.partial} of its layers are partly fetched", bytes_left
    return "", bytes_left


class Remover:
    """Removes images.

    Args:
        jobs: of the measured nodes.
        image: that the pods run.
        run_id: labels and names what is created.
        attempt: which one of the run this is.
    """

    def __init__(self, jobs: StagedJobs, image: PlannedImage, *, run_id: str, attempt: int) -> None:
        self._jobs = jobs
        self._image = image
        self._run_id = run_id
        self._attempt = attempt

    def remove(
        self,
        before: PlannedTrial,
        others: Sequence[PlannedImage],
        progress: Callable[[list[PodState]], None],
    ) -> list[RemovalRecord]:
        """Remove a trial's image from every node, and return what each node reported.

        Args:
            before: the trial whose image is removed.
            others: images that may stay, with the layers that they share with it.
            progress: called with the pods.

        Raises:
            MeasureError: the pods were not created.
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
        pods = self._jobs.run(job, _DEADLINE_S + _GRACE_S, progress)
        allowed = [self._image, *others]
        return [self._record(before, node, pods.get(node), allowed) for node in self._jobs.nodes]

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
            at=now(),
            absent=not why,
            detail=why,
            left_bytes=left_bytes,
        )


def _judge(
    image: PlannedImage, pod: PodState | None, others: Sequence[PlannedImage]
) -> tuple[str, int]:
    if pod is None or pod.phase != "Succeeded":
        return f"the removal pod did not succeed: {pod.failure if pod else 'it is missing'}", 0
    try:
        (left,) = read_answer(pod.message, 1)
    except ValueError as error:
        return str(error), 0
    return read_proof(image, left, others)
