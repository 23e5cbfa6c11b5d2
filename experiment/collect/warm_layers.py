"""Which layers are on the nodes before a trial, and whether an image's absence was proved. Pure.

It counts from what happened: which trials were released on a cluster before, and what its nodes
reported of images that were removed. A layer is on a node while any image is that has it;
containerd identifies layers by their diff id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schema.run_records import PlannedImage, PlannedTrial, RemovalRecord, TrialRecord


@dataclass(frozen=True, slots=True)
class Before:
    """What was on a node before a trial, as far as the run knows."""

    same_image: int | None
    """The last trial that pulled the same image on the node; None if there was none."""
    proof: RemovalRecord | None
    """The node's last report on the image's absence since then."""
    warm_bytes: int
    """Compressed bytes of the image's layers that were there."""


class LayerHistory:
    """Which images the nodes of a cluster pulled, and when.

    Args:
        planned: the run's plan.
        trials: of all attempts; only those that were released count.
        removals: of all attempts.
        present: images that were on the nodes before the first trial.
        remover: image of the removing pods, which is on the nodes from the first removal on.
    """

    def __init__(
        self,
        planned: Sequence[PlannedTrial],
        trials: Iterable[TrialRecord],
        removals: Iterable[RemovalRecord],
        present: Iterable[PlannedImage] = (),
        remover: PlannedImage | None = None,
    ) -> None:
        self._images = {trial.trial: trial.image for trial in planned}
        self._remover = remover
        self._from_start = {layer.diff_id for image in present for layer in image.layers}
        released = [trial for trial in trials if trial.released_at]
        self._released = sorted(released, key=_release)
        self._clusters = {trial.attempt: cluster_of(trial) for trial in self._released}
        self._removals: dict[str, list[RemovalRecord]] = {}
        for removal in removals:
            self._removals.setdefault(removal.node, []).append(removal)

    def before(self, trial: TrialRecord, node: str) -> Before:
        """Return what was on a node of the trial's cluster before the trial."""
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
        present = self._from_start | {
            layer.diff_id
            for other in earlier
            if not self._was_removed(other, removals)
            for layer in self._images[other.trial].layers
        }
        if self._remover and removals:
            present.update(layer.diff_id for layer in self._remover.layers)
        counted = sum(layer.size_bytes for layer in image.layers if layer.diff_id in present)
        reported = proof.left_bytes if proof else 0
        return Before(same[-1].trial if same else None, proof, max(counted, reported))

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
    """Return what identifies the trial's cluster; older records hold no uid."""
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
