"""The plan of a run: trials in their order, warm bytes, deadlines, expected cost. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from schema.image_tag import find_tag
from schema.run_records import PlannedImage, PlannedTrial
from schema.study import Order, Study

SLOWEST_BYTES_PER_S = 20e6
"""A node that unpacks slower than this is stuck: the original study's slowest pulls unpacked about
150 MB/s (19.03 GB in 121 s), seven times as fast."""

_DEADLINE_FLOOR_S = 180


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run is expected to take and cost."""

    hours: float
    usd: float


def order_trials(
    study: Study, images: Sequence[PlannedImage], seed: int
) -> tuple[PlannedTrial, ...]:
    """Put every repetition of every image in its turn.

    Each repetition is ordered anew, so that over repetitions an image's turn varies.

    Args:
        study: gives order and repetitions.
        images: resolved, in the study's order.
        seed: of the shuffle; the same seed gives the same order.
    """
    generator = random.Random(seed)  # noqa: S311 (an order, not a secret)
    turns: list[tuple[int, PlannedImage]] = []
    for repetition in range(1, study.repetitions + 1):
        turns += [(repetition, image) for image in _ordered(images, study.order, generator)]
    trials = []
    present: set[str] = set()
    for number, (repetition, image) in enumerate(turns, start=1):
        warm = sum(layer.size_bytes for layer in image.layers if layer.diff_id in present)
        trials.append(
            PlannedTrial(trial=number, repetition=repetition, image=image, warm_bytes=warm)
        )
        present.update(layer.diff_id for layer in image.layers)
    return tuple(trials)


def _ordered(
    images: Sequence[PlannedImage], order: Order, generator: random.Random
) -> list[PlannedImage]:
    if order is Order.SHUFFLED:
        return generator.sample(list(images), len(images))
    return sorted(images, key=unpacked_bytes, reverse=order is Order.DESCENDING)


def unpacked_bytes(image: PlannedImage) -> int:
    """Bytes on a node's disk: the tag's claim, at least the compressed bytes."""
    claim = find_tag(image.tag)
    return max(claim.size_bytes if claim else 0, image.compressed_bytes)


def deadline_s(image: PlannedImage) -> int:
    """Seconds after which a pod of this image is given up.

    Counted by the kubelet from the pod's start on its node.
    """
    return _DEADLINE_FLOOR_S + round(unpacked_bytes(image) / SLOWEST_BYTES_PER_S)


def expected_cost(trials: Sequence[PlannedTrial], usd_per_hour: float) -> Cost:
    """Hours and US dollars of a run, cluster up to cluster down.

    Provisioning and teardown are taken as 12 minutes; a trial as twice the unpacking of its bytes
    at 150 MB/s plus 5 s, since the original study's jobs took up to twice their slowest pull
    (1,408 s for six images of 56 GB at 16 nodes).
    """
    measuring_s = sum(5 + 2 * unpacked_bytes(trial.image) / 150e6 for trial in trials)
    hours = (measuring_s + 12 * 60) / 3600
    return Cost(hours, hours * usd_per_hour)
