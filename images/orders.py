"""Which images to build: of the command line, of a matrix, or of a study."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from images.errors import PlanError
from images.registry.reference import Target, parse_target
from schema.image_tag import ImageTag, parse_tag
from schema.study import Study


@dataclass(frozen=True, slots=True)
class Order:
    """An image to build and its destinations."""

    tag: ImageTag
    targets: tuple[Target, ...]


def orders_of_matrix(
    layers: str, sizes: str, salt: str, places: Iterable[str], *, matrix: bool
) -> list[Order]:
    """Return every layer count with every size (bytes, both separated by commas) for all places.

    Raises:
        PlanError: a number is invalid, or there are several images without `matrix` or for a tag.
        BadReferenceError: a place is not a reference.
    """
    counts, totals = _numbers(layers, "--layers"), _numbers(sizes, "--size")
    tags = [ImageTag(count, total, salt) for count in counts for total in totals]
    targets = [parse_target(place) for place in places]
    if len(tags) > 1 and not matrix:
        raise PlanError(
            f"--layers {layers} with --size {sizes} are {len(tags)} images.",
            "add --matrix to build every layer count with every size",
        )
    if any(count < 1 for count in counts):
        raise PlanError("An image has at least 1 layer.", "give --layers 1 or more")
    if len(tags) > 1 and (tagged := next((each for each in targets if each.tag), None)):
        problem = f"{tagged} is one name for {len(tags)} images."
        raise PlanError(problem, f"omit the tag: --to {tagged.with_tag('')}")
    return [
        Order(tag, tuple(each if each.tag else each.with_tag(str(tag)) for each in targets))
        for tag in tags
    ]


def orders_of_study(study: Study, mirror: str) -> list[Order]:
    """Return all images of a study, for its own registries or for `mirror`.

    Raises:
        UnknownTagError: a tag does not state layers and size.
    """
    targets = [parse_target(reference) for reference in study.references()]
    registry = parse_target(f"{mirror}/any").registry if mirror else ""
    return [
        Order(parse_tag(target.tag), (replace(target, registry=registry or target.registry),))
        for target in targets
    ]


def _numbers(text: str, option: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        problem = f"{option} {text} is not a number or a list of numbers separated by commas."
        raise PlanError(problem, f"give whole numbers, for example {option} 9")
    return [int(part) for part in text.split(",")]
