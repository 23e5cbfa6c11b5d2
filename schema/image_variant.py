"""Variants of an image, each for one question about pulls; the tag's salt names them.

    9-layers-size-1000000-bytes-v2x1        v2 of an upgrade: 1 layer is new, 8 are those of v1
    9-layers-size-1000000-bytes-files1000   1000 files in each layer, not 1
    9-layers-size-1000000-bytes-zstd19      compressed by zstd -19, not gzip -6
    9-layers-size-1000000-bytes-b           a plain salt: a copy with different layers

So a study names a family by its tags alone.

Nodes identify layers by their uncompressed bytes. Variants with the same bytes (an upgrade, which
is intended, and the compressions) are warm for each other: measure each on separate nodes, or add a
salt after an `s`: `gzip1sa` and `zstd3sb` share nothing.
"""

import re
from dataclasses import dataclass, replace

from schema.image_tag import ImageTag

_FORM = re.compile(
    r"(?:v1|v2x(?P<changed>[1-9]\d*)|files(?P<files>[1-9]\d*)"
    r"|(?P<kind>gzip|zstd)(?P<level>[1-9]\d*)|(?P<none>none))(?:s(?P<salt>[a-z0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Variant:
    """What a tag specifies in addition to layers and size."""

    content: ImageTag
    """The tag that seeds the content; variants with the same content share it."""
    changed: int = 0
    """Last layers that differ from v1."""
    files: int = 1
    """Files in each layer."""
    compression: str = ""
    """gzip, zstd or none; empty if not specified."""
    level: int = 0


def read_variant(tag: ImageTag) -> Variant:
    """Return the variant in a tag's salt; any other salt only changes the content."""
    match = _FORM.fullmatch(tag.salt)
    if match is None:
        return Variant(tag)
    return Variant(
        content=replace(tag, salt=match["salt"] or ""),
        changed=int(match["changed"] or 0),
        files=int(match["files"] or 1),
        compression=match["kind"] or match["none"] or "",
        level=int(match["level"] or 0),
    )
