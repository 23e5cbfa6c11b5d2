"""Remembers the digests of layers once made, so that they need not be made to be found.

A layer's digest is known only when it was made. With the journal, a push that was interrupted, or
the same image for another registry, asks for the layers that are there already. One small file a
layer in the user's cache folder; deleting them costs time only.
"""

import hashlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from images.make.compression import FORMAT, compressor_name
from images.make.plan import ImagePlan


class LayerRecord(BaseModel):
    """A layer as it came out.

    Attributes:
        digest: of the compressed bytes, `sha256:...`.
        size: compressed bytes.
        diff_id: digest of the uncompressed tar.
        unpacked: bytes of the uncompressed tar.
        places: `registry/repository` where it was pushed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    size: int
    diff_id: str
    unpacked: int
    places: tuple[str, ...] = ()


def journal_folder() -> Path:
    """Where the journal is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pull-study" / "layers"


def layer_key(plan: ImagePlan, index: int, busybox_sha256: str) -> str:
    """All that decides a layer's bytes, as one name.

    Args:
        plan: of the image.
        index: of the layer among the plan's.
        busybox_sha256: of the binary in this layer, empty where it has none.
    """
    parts = [
        FORMAT,
        plan.layers[index].model_dump(),
        busybox_sha256,
        compressor_name(plan.compression),
        plan.level,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def recall(key: str) -> LayerRecord | None:
    """The record of a layer, None where there is none that can be read."""
    try:
        return LayerRecord.model_validate_json(_path(key).read_bytes())
    except (OSError, ValidationError):
        return None


def remember(key: str, record: LayerRecord) -> None:
    """Keep a record; a cache folder that cannot be written is not an error."""
    path = _path(key)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(record.model_dump_json(), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _path(key: str) -> Path:
    return journal_folder() / f"{key}.json"
