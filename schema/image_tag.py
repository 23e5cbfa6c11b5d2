"""The study's form of an image tag: `9-layers-size-1176249324-bytes`.

The tag is a claim about an image, not a measurement of it: what is really in the registry is in
the image's manifest.
"""

import re
from dataclasses import dataclass

from schema.errors import UserError, shortened

_FORM = re.compile(
    r"(?P<layers>[1-9][0-9]{0,8})-layers-size-(?P<size>[0-9]{1,18})-bytes(?:-(?P<salt>[a-z0-9]+))?"
)


class UnknownTagError(UserError):
    """A tag is not in the study's form, so its layers and size cannot be known."""


@dataclass(frozen=True, slots=True)
class ImageTag:
    """What a tag claims.

    Attributes:
        layers: number of layers, at least 1.
        size_bytes: uncompressed bytes of all layers, at study scale.
        salt: distinguishes copies with layers of their own; empty for the first.
    """

    layers: int
    size_bytes: int
    salt: str = ""

    def __str__(self) -> str:
        suffix = f"-{self.salt}" if self.salt else ""
        return f"{self.layers}-layers-size-{self.size_bytes}-bytes{suffix}"


def parse_tag(tag: str) -> ImageTag:
    """Read a tag such as `9-layers-size-1176249324-bytes`.

    Raises:
        UnknownTagError: the tag is not in that form.
    """
    match = _FORM.fullmatch(tag)
    if match is None:
        raise UnknownTagError(
            f"The tag {shortened(tag)!r} does not state layers and size, so this image can neither "
            "be built nor plotted by size.",
            "name tags in the form LAYERS-layers-size-BYTES-bytes, "
            "for example 9-layers-size-1176249324-bytes",
        )
    return ImageTag(int(match["layers"]), int(match["size"]), match["salt"] or "")


def find_tag(tag: str) -> ImageTag | None:
    """The claim of a tag in the study's form, None for any other tag."""
    return parse_tag(tag) if _FORM.fullmatch(tag) else None
