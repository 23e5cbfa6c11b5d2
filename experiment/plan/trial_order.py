"""The plan of a run: order of trials, warm bytes, disk use, deadlines. Pure.

Time and cost are in experiment.plan.cost.
"""

import random
from collections.abc import Iterable, Sequence

from schema.image_tag import find_tag
from schema.image_variant import read_variant
from schema.run_records import PlannedImage, PlannedTrial
from schema.study import Order, RepeatBy, Study

SLOWEST_BYTES_PER_S = 20e6
"""A node that unpacks slower than this is stuck: the original study's slowest pulls unpacked about
150 MB/s (19.03 GB in 121 s), seven times as fast. One that reads slower is stuck as well."""

_DEADLINE_FLOOR_S = 180


def order_trials(
    study: Study,
    images: Sequence[PlannedImage],
    seed: int,
    copies: Sequence[Sequence[PlannedImage]] = (),
    view: PlannedImage | None = None,
) -> tuple[PlannedTrial, ...]:
    """Order every repetition of every image.

    Each repetition is shuffled separately, so that an image's position varies.

    Args:
        study: has order and repetitions.
        images: resolved, in the study's order.
        seed: of the shuffle; the same seed gives the same order.
        copies: images of the second and later repetitions, if they are separate images; by
            default an image is removed from the nodes before its next trial.
        view: image of Flux for MiniClusters, on the nodes before the first trial.
    """
    generator = random.Random(seed)  # noqa: S311 (an order, not a secret)
    turns: list[tuple[int, PlannedImage]] = []
    for repetition in range(1, study.repetitions + 1):
        own = copies[repetition - 2] if copies and repetition > 1 else images
        turns += [(repetition, image) for image in _ordered(own, study.order, generator)]
    return tuple(_with_warm_bytes(turns, view, max(study.read, default=0.0)))


def through(trials: Sequence[PlannedTrial], registry: str, remote: str) -> tuple[PlannedTrial, ...]:
    """Return trials whose images of a registry are pulled through a remote repository.

    Args:
        trials: as resolved.
        registry: whose images; empty for none.
        remote: what replaces its name.
    """
    return tuple(
        trial.model_copy(update={"image": _through(trial.image, registry, remote)})
        for trial in trials
    )


def _through(image: PlannedImage, registry: str, remote: str) -> PlannedImage:
    host, _, path = image.repository.partition("/")
    if host != registry:
        return image
    names = {"repository": f"{remote}/{path}", "upstream": image.repository}
    return image.model_copy(update=names)


def _ordered(
    images: Sequence[PlannedImage], order: Order, generator: random.Random
) -> list[PlannedImage]:
    if order is Order.SHUFFLED:
        return generator.sample(list(images), len(images))
    return sorted(images, key=unpacked_bytes, reverse=order is Order.DESCENDING)


def _with_warm_bytes(
    turns: Sequence[tuple[int, PlannedImage]], view: PlannedImage | None, read_share: float
) -> Iterable[PlannedTrial]:
    """An image on the nodes is removed first, so its layers are warm only through other images."""
    present = {"view": {layer.diff_id for layer in view.layers}} if view else {}
    for number, (repetition, image) in enumerate(turns, start=1):
        present.pop(image.digest, None)
        others: set[str] = set().union(*present.values())
        warm = sum(layer.size_bytes for layer in image.layers if layer.diff_id in others)
        yield PlannedTrial(
            trial=number,
            repetition=repetition,
            image=image,
            warm_bytes=warm,
            view=view,
            read_share=read_share,
        )
        present[image.digest] = {layer.diff_id for layer in image.layers}


def copy_tags(study: Study) -> list[list[tuple[str, str]]]:
    """Return repository and tag of the images of later repetitions, in the study's order.

    Empty if images are removed between repetitions. A tag without layers and size has no copies.
    """
    if study.repeat_by is RepeatBy.REMOVAL:
        return []
    names = [(group.repository, tag) for group in study.images for tag in group.tags]
    return [
        [(repository, copy_tag(tag, repetition)) for repository, tag in names]
        for repetition in range(2, study.repetitions + 1)
    ]


def copy_tag(tag: str, repetition: int) -> str:
    """Return the tag of an equal image with its own layers (schema.image_variant defines salts).

    `9-layers-size-1000-bytes` becomes `9-layers-size-1000-bytes-r2`, `...-bytes-gzip1` becomes
    `...-bytes-gzip1sr2`.
    """
    claim = find_tag(tag)
    if claim is None:
        return tag
    content = read_variant(claim).content.salt
    joint = "s" if claim.salt and content != claim.salt and not content else ""
    return f"{tag}{joint}r{repetition}" if claim.salt else f"{tag}-r{repetition}"


def removals(trials: Sequence[PlannedTrial]) -> set[int]:
    """Return the numbers of the trials before which the image is removed from the nodes."""
    seen: set[str] = set()
    found = set()
    for trial in trials:
        if trial.image.digest in seen:
            found.add(trial.trial)
        seen.add(trial.image.digest)
    return found


def disk_bytes(trials: Sequence[PlannedTrial]) -> int:
    """Return the maximum bytes on a node's disk: unpacked, and compressed in containerd's store.

    Shared layers count once in the compressed bytes, and once per image in the unpacked ones, whose
    size by layer is not in the manifest.
    """
    views = {trial.view.digest: trial.view for trial in trials if trial.view}
    images = (views | {trial.image.digest: trial.image for trial in trials}).values()
    blobs = {layer.digest: layer.size_bytes for image in images for layer in image.layers}
    return sum(map(unpacked_bytes, images)) + sum(blobs.values())


def unpacked_bytes(image: PlannedImage) -> int:
    """Return the bytes on a node's disk: as the tag says, at least the compressed bytes."""
    claim = find_tag(image.tag)
    return max(claim.size_bytes if claim else 0, image.compressed_bytes)


def deadline_s(planned: PlannedTrial) -> int:
    """Return the timeout in seconds of a pod of this trial, from its start on its node."""
    moved = unpacked_bytes(planned.image) * (1 + planned.read_share)
    return _DEADLINE_FLOOR_S + round(moved / SLOWEST_BYTES_PER_S)
