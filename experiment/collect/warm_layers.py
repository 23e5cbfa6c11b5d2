"""What is on the nodes before a trial, and whether that was proved gone. Pure.

It counts from what happened: which trials were released on a cluster before, and what its nodes
said of images that were removed. A layer is on a node while any image is that has it; containerd
tells layers apart by their diff id.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schema.run_records import PlannedImage, PlannedTrial, RemovalRecord, TrialRecord


def chain_ids(image: PlannedImage) -> list[str]:
    """The name of each layer's snapshot (OCI image specification, ChainID)."""
    chain: list[str] = []
    for layer in image.layers:
        if not chain:
            chain.append(layer.diff_id)
            continue
        both = f"{chain[-1]} {layer.diff_id}".encode()
        chain.append(f"sha256:{hashlib.sha256(both).hexdigest()}")
    return chain


def removal_argument(image: PlannedImage) -> str:
    """What remove_images.sh is told of an image."""
    layers = zip(image.layers, chain_ids(image), strict=True)
    return "\n".join([image.digest, *(f"{layer.digest} {chain}" for layer, chain in layers)])


@dataclass(frozen=True, slots=True)
class Left:
    """What a node says of one image after its removal."""

    known: bool
    layers: tuple[int, ...]
    partial: int


def read_answer(message: str, images: int) -> list[Left]:
    """Read the termination message of a removing container.

    Raises:
        ValueError: it is no such answer for this number of images.
    """
    try:
        answer = json.loads(message)
        left = [
            Left(bool(each["image"]), tuple(map(int, each["layers"])), int(each["partial"]))
            for each in answer
        ]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an answer of a removal: {message[:100]!r}") from error
    if len(left) != images:
        raise ValueError(f"an answer for {len(left)} images, not {images}: {message[:100]!r}")
    return left


def read_proof(image: PlannedImage, left: Left, others: Iterable[PlannedImage]) -> tuple[str, int]:
    """Why absence is not proved (empty if it is), and the bytes that other images keep.

    Args:
        image: that was removed.
        left: of it.
        others: images that are on the node by right.
    """
    theirs = {layer.diff_id for other in others for layer in other.layers}
    kept = [image.layers[index] for index in left.layers if index < len(image.layers)]
    odd = [layer.digest for layer in kept if layer.diff_id not in theirs]
    bytes_left = sum(layer.size_bytes for layer in kept)
    if left.known:
        return "containerd still knows the image", bytes_left
    if odd:
        return f"layer {odd[0]} is on the node and no image of the run accounts for it", bytes_left
    if left.partial:
        return f"{left.partial} of its layers are on the node half fetched", bytes_left
    return "", bytes_left


@dataclass(frozen=True, slots=True)
class Before:
    """What was on a node before a trial, as far as the run knows."""

    same_image: int | None
    """The last trial that brought this very image to the node; None if there was none."""
    proof: RemovalRecord | None
    """The node's last word on the image's absence since then."""
    warm_bytes: int
    """Compressed bytes of the image's layers that were there."""


class History:
    """Which images came to the nodes of a cluster, and when.

    Args:
        planned: the run's plan.
        trials: of all attempts; only those that were released count.
        removals: of all attempts.
        remover: image of the pods that removed, which is on the nodes from the first removal on.
    """

    def __init__(
        self,
        planned: Sequence[PlannedTrial],
        trials: Iterable[TrialRecord],
        removals: Iterable[RemovalRecord],
        remover: PlannedImage | None = None,
    ) -> None:
        self._images = {trial.trial: trial.image for trial in planned}
        self._remover = remover
        released = [trial for trial in trials if trial.released_at]
        self._released = sorted(released, key=_release)
        self._clusters = {trial.attempt: cluster_of(trial) for trial in self._released}
        self._removals: dict[str, list[RemovalRecord]] = {}
        for removal in removals:
            self._removals.setdefault(removal.node, []).append(removal)

    def before(self, trial: TrialRecord, node: str) -> Before:
        """What was on a node of the trial's cluster before the trial."""
        image = self._images[trial.trial]
        removals = [
            removal
            for removal in self._removals.get(node, ())
            if self._clusters.get(removal.attempt) == cluster_of(trial)
            and (trial.released_at is None or removal.at <= trial.released_at)
        ]
        earlier = [
            other
            for other in self._released
            if other is not trial
            and cluster_of(other) == cluster_of(trial)
            and (trial.released_at is None or _release(other) < trial.released_at)
        ]
        same = [other for other in earlier if self._digest(other) == image.digest]
        proof = _proof(image.reference, trial, removals, same[-1] if same else None)
        present = {
            layer.diff_id
            for other in earlier
            if not self._was_removed(other, removals)
            for layer in self._images[other.trial].layers
        }
        if self._remover and removals:
            present.update(layer.diff_id for layer in self._remover.layers)
        counted = sum(layer.size_bytes for layer in image.layers if layer.diff_id in present)
        told = proof.left_bytes if proof else 0
        return Before(same[-1].trial if same else None, proof, max(counted, told))

    def _digest(self, trial: TrialRecord) -> str:
        return self._images[trial.trial].digest

    def _was_removed(self, trial: TrialRecord, removals: Iterable[RemovalRecord]) -> bool:
        digest = self._digest(trial)
        return any(
            removal.absent
            and removal.reference.rpartition("@")[2] == digest
            and removal.at >= _release(trial)
            for removal in removals
        )


def cluster_of(trial: TrialRecord) -> str:
    """What tells the trial's cluster from others; older records hold no uid."""
    return trial.cluster or f"of attempt {trial.attempt}"


def _proof(
    reference: str,
    trial: TrialRecord,
    removals: Iterable[RemovalRecord],
    same: TrialRecord | None,
) -> RemovalRecord | None:
    own = [
        removal
        for removal in removals
        if removal.reference == reference
        and (removal.before_trial, removal.attempt) == (trial.trial, trial.attempt)
        and (same is None or removal.at >= _release(same))
    ]
    return own[-1] if own else None


def _release(trial: TrialRecord) -> datetime:
    if trial.released_at is None:
        raise ValueError(f"trial {trial.trial} was never released")
    return trial.released_at
