"""The plan of an image: everything that determines its digest.

Equal plans give equal images. The plan is also written into the image's config, so that the image
can be checked. What layers and size are, here and in the original study, is in images/README.md.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from images.errors import PlanError
from schema.image_tag import ImageTag
from schema.image_variant import read_variant

MAX_LAYERS = 127
"""Docker's overlay2 mounts 128 directories, including the container's own."""
BUSYBOX = "busybox"
"""The base from this machine's static busybox; any other base is a reference."""


class Compression(StrEnum):
    """How layers are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


DEFAULT_LEVEL = {Compression.GZIP: 6, Compression.ZSTD: 3, Compression.NONE: 0}
"""Defaults of docker build and buildkit."""
LEVELS = {
    Compression.GZIP: range(1, 13),
    Compression.ZSTD: range(1, 23),
    Compression.NONE: range(1),
}


class LayerPlan(BaseModel):
    """The content of one layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: str
    """Determines the bytes, together with each file's number."""
    size: Annotated[int, Field(ge=0)]
    """Bytes of all its files."""
    files: Annotated[int, Field(ge=1)] = 1
    first_file: Annotated[int, Field(ge=0)] = 0
    """Number in the image of this layer's first file."""
    compressibility: Annotated[float, Field(ge=0, le=1)] = 0.5

    def file_sizes(self) -> list[int]:
        """Return the bytes of each file; they differ by at most one."""
        return share(self.size, self.files)


class ImagePlan(BaseModel):
    """An image in full; `plan_image` makes plans of common shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Annotated[tuple[LayerPlan, ...], Field(min_length=1, max_length=MAX_LAYERS)]
    base: str = BUSYBOX
    compression: Compression = Compression.GZIP
    level: int
    media: Literal["oci"] = "oci"

    @model_validator(mode="after")
    def _level_exists(self) -> Self:
        levels = LEVELS[self.compression]
        if self.level not in levels:
            raise ValueError(
                f"{self.compression} has no level {self.level}, only {levels[0]} to {levels[-1]}"
            )
        return self

    @property
    def size(self) -> int:
        """Bytes of all content files, without the base."""
        return sum(layer.size for layer in self.layers)


def plan_image(
    tag: ImageTag,
    *,
    scale: float = 1.0,
    compressibility: float = 0.5,
    compression: Compression = Compression.GZIP,
    base: str = BUSYBOX,
) -> ImagePlan:
    """Return the plan of an image with equal layers that the tag describes.

    The real size is the tag's times `scale`, and at least the bytes that make the files distinct.
    A variant in the tag (`schema.image_variant`) overrides `compression`; `base` is `busybox` or a
    reference with a digest.

    Raises:
        PlanError: such an image cannot be made.
    """
    variant = read_variant(tag)
    level = DEFAULT_LEVEL[compression]
    if variant.compression:
        compression, level = Compression(variant.compression), variant.level
    _check(tag, variant.changed, scale, compressibility)
    size = _real_size(tag, tag.layers * variant.files, scale)
    # The seed has everything that shapes the content, so images that differ in it share nothing.
    seed = f"{variant.content}/{size}/{variant.files}/{compressibility:g}"
    layers = tuple(
        LayerPlan(
            seed=f"{seed}/v2" if index >= tag.layers - variant.changed else seed,
            size=layer_size,
            files=variant.files,
            first_file=index * variant.files,
            compressibility=compressibility,
        )
        for index, layer_size in enumerate(share(size, tag.layers))
    )
    try:
        return ImagePlan(layers=layers, base=base, compression=compression, level=level)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise PlanError(f"{tag} cannot be made: {reason}.", "choose another level") from error


def share(total: int, parts: int) -> list[int]:
    """Split a total into whole numbers that differ by at most one, larger ones first."""
    each, more = divmod(total, parts)
    return [each + 1] * more + [each] * (parts - more)


def _check(tag: ImageTag, changed: int, scale: float, compressibility: float) -> None:
    if tag.layers > MAX_LAYERS:
        problem = f"{tag.layers} layers are more than the {MAX_LAYERS} that a node can mount."
        raise PlanError(problem, f"use at most {MAX_LAYERS} layers")
    if changed > tag.layers:
        problem = f"{changed} layers cannot change, since {tag} has {tag.layers}."
        raise PlanError(problem, f"change 1 to {tag.layers} layers")
    if not scale > 0:
        raise PlanError(f"The scale {scale} is not above 0.", "use for example --scale 0.01")
    if not 0 <= compressibility <= 1:
        problem = f"The compressibility {compressibility} is not between 0 and 1."
        raise PlanError(problem, "give one from 0 to 1")


def _real_size(tag: ImageTag, files: int, scale: float) -> int:
    distinct = max(1, -(-(files - 1).bit_length() // 8))
    least = files * distinct
    size = round(tag.size_bytes * scale)
    if size >= least or scale < 1:
        return max(size, least)
    problem = f"{size} bytes are too few for {files} files in {tag.layers} layers: each file needs"
    fix = f"use at least {least} bytes or fewer layers"
    raise PlanError(f"{problem} {distinct} to differ from the others.", fix)
