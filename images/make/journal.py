"""Caches the digests of layers, so that an existing layer is found without making it again.

A layer's digest is known only after it was made. With the journal, a push that was interrupted, or
one to another registry, finds the layers that are there. Deleting the files only costs time.
"""

import hashlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from images.make.compression import FORMAT, compressor_name
from images.make.plan import ImagePlan


class LayerRecord(BaseModel):
    """A layer that was made: digest and bytes of the compressed layer and of its tar."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    size: int
    diff_id: str
    unpacked: int
    places: tuple[str, ...] = ()
    """`registry/repository` of each push."""


def layer_key(plan: ImagePlan, index: int, base_id: str) -> str:
    """Return a hash of everything that determines a layer's bytes; `base_id` may be empty."""
    compressor = compressor_name(plan.compression)
    parts = [FORMAT, plan.layers[index].model_dump(), base_id, compressor, plan.level]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def recall(key: str) -> LayerRecord | None:
    """Return the record of a layer, None if there is no readable one."""
    try:
        return LayerRecord.model_validate_json(_path(key).read_bytes())
    except (OSError, ValidationError):
        return None


def remember(key: str, record: LayerRecord) -> None:
    """Store a record; a cache folder that cannot be written is not an error."""
    path = _path(key)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(record.model_dump_json(), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _path(key: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pull-study" / "layers" / f"{key}.json"
