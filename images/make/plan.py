"""What an image is to hold, before a byte of it is made.

A plan says everything that decides an image's digest, so equal plans are equal images. It is
also written into the image's config, so that whoever has the image can check it.

How sizes and layers are counted here, and how the original study counted:

- *layers* is the number of layers in the image's manifest. The base's files share the first layer
  with content, so all layers are of one size and none is shared with another image.
  The original put busybox into a layer of its own, with 1 layer more than the tag says in its
  first matrix (71 images), and counted in what the tag says in run1 (38 images).
- *size* is the sum of the content files' bytes, exact; the base is not counted.
  The original's tag says the same, but loses up to a byte for each file: its files are of equal
  length. Its README takes 5 MB for the base off the size; by its recorded configs that was done
  before the tag was named, so nothing is to be taken off a tag.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from images.errors import PlanError
from images.make.variants import read_variant
from schema.image_tag import ImageTag

MAX_LAYERS = 127
"""Docker's overlay2 mounts 128 directories, one of them the container's own."""

BUSYBOX = "busybox"
"""The base made of this machine's static busybox; any other base is a reference."""


class Compression(StrEnum):
    """How layers are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


class Media(StrEnum):
    """Whose media types the manifest uses."""

    OCI = "oci"
    DOCKER = "docker"


DEFAULT_LEVEL = {Compression.GZIP: 6, Compression.ZSTD: 3, Compression.NONE: 0}
"""What docker build and buildkit use."""

LEVELS = {
    Compression.GZIP: range(1, 13),
    Compression.ZSTD: range(1, 23),
    Compression.NONE: range(1),
}


class LayerPlan(BaseModel):
    """The content of one layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: str
    """Decides the bytes together with each file's number."""
    size: Annotated[int, Field(ge=0)]
    """Bytes of all its files."""
    files: Annotated[int, Field(ge=1)] = 1
    first_file: Annotated[int, Field(ge=0)] = 0
    """Number in the image of this layer's first file."""
    compressibility: Annotated[float, Field(ge=0, le=1)] = 0.5

    def file_sizes(self) -> list[int]:
        """Bytes of each file; they differ by one at most."""
        return share(self.size, self.files)


class ImagePlan(BaseModel):
    """An image in full.

    Attributes are those of `plan_image`, which makes plans of common shapes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Annotated[tuple[LayerPlan, ...], Field(min_length=1, max_length=MAX_LAYERS)]
    base: str = BUSYBOX
    compression: Compression = Compression.GZIP
    level: int
    media: Media = Media.OCI

    @model_validator(mode="after")
    def _level_exists(self) -> Self:
        if self.level not in LEVELS[self.compression]:
            levels = LEVELS[self.compression]
            raise ValueError(
                f"{self.compression} has no level {self.level}, only {levels[0]} to {levels[-1]}"
            )
        return self

    @property
    def size(self) -> int:
        """Bytes of all content files, base apart."""
        return sum(layer.size for layer in self.layers)


def plan_image(
    tag: ImageTag,
    *,
    scale: float = 1.0,
    compressibility: float = 0.5,
    compression: Compression = Compression.GZIP,
    media: Media = Media.OCI,
    base: str = BUSYBOX,
    base_layers: int = 0,
) -> ImagePlan:
    """The plan of an image with equal layers that the tag describes.

    Args:
        tag: layers (all, those of a base by reference included), size, and a salt or a variant
            (`images.make.variants`), which decides the compression whatever the argument says.
        scale: the real size is the tag's times this, in whole bytes, and at least the bytes that
            tell the files apart.
        compressibility: share of the bytes that compression saves, 0 to 1.
        compression: of the layers, at the level that docker build uses.
        media: OCI's or Docker's media types.
        base: `busybox` or a reference with a digest.
        base_layers: layers that a base by reference brings.

    Raises:
        PlanError: no image can be like that.
    """
    variant = read_variant(tag)
    own = tag.layers - base_layers
    if variant.compression:
        compression, level = Compression(variant.compression), variant.level
    else:
        level = DEFAULT_LEVEL[compression]
    _check(tag, own, scale, compressibility)
    if variant.changed > own:
        raise PlanError(
            f"{variant.changed} layers cannot change of the {own} that {tag} has.",
            f"let 1 to {own} layers change",
        )
    size = _real_size(tag, own * variant.files, scale)
    # All that shapes the content is in the seed, so images that differ in any of it share nothing.
    seed = f"{variant.content}/{size}/{variant.files}/{compressibility:g}"
    layers = tuple(
        LayerPlan(
            seed=f"{seed}/v2" if index >= own - variant.changed else seed,
            size=layer_size,
            files=variant.files,
            first_file=index * variant.files,
            compressibility=compressibility,
        )
        for index, layer_size in enumerate(share(size, own))
    )
    try:
        return ImagePlan(
            layers=layers,
            base=base,
            compression=compression,
            level=level,
            media=media,
        )
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise PlanError(f"{tag} cannot be made: {reason}.", "choose another level") from None


def share(total: int, parts: int) -> list[int]:
    """Whole numbers that sum to the total and differ by one at most, larger ones first."""
    each, more = divmod(total, parts)
    return [each + 1] * more + [each] * (parts - more)


def _check(tag: ImageTag, own: int, scale: float, compressibility: float) -> None:
    if tag.layers > MAX_LAYERS:
        raise PlanError(
            f"{tag.layers} layers are more than the {MAX_LAYERS} that container runtimes mount, "
            "so no node could run the image.",
            f"ask for at most {MAX_LAYERS} layers",
        )
    if own < 1:
        raise PlanError(
            f"The base has {tag.layers - own} layers already, so an image of {tag.layers} has no "
            "room for content.",
            f"ask for at least {tag.layers - own + 1} layers",
        )
    if not scale > 0:
        raise PlanError(f"The scale {scale} is not above 0.", "ask for --scale 0.01 or the like")
    if not 0 <= compressibility <= 1:
        raise PlanError(
            f"The compressibility {compressibility} is not a share.", "give one from 0 to 1"
        )


def _bytes_to_tell_apart(files: int) -> int:
    return max(1, -(-(files - 1).bit_length() // 8))


def _real_size(tag: ImageTag, files: int, scale: float) -> int:
    least = files * _bytes_to_tell_apart(files)
    size = round(tag.size_bytes * scale)
    if size >= least or scale < 1:
        return max(size, least)
    raise PlanError(
        f"{size} bytes are too few for {files} files in {tag.layers} layers: each needs "
        f"{least // files} to differ from the others.",
        f"ask for at least {least} bytes or for fewer layers",
    )
