"""Writes and reads an image's config and manifest, without times and host names."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from images.errors import BadImageError
from images.make.compression import FORMAT
from images.make.plan import Compression, ImagePlan

MAKING = "pull-study"
"""Field of the config with a Making. Not a label, since containerd limits a container's labels to
4096 bytes each. OCI allows extra fields in a config."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = {
    Compression.GZIP: "application/vnd.oci.image.layer.v1.tar+gzip",
    Compression.ZSTD: "application/vnd.oci.image.layer.v1.tar+zstd",
    Compression.NONE: "application/vnd.oci.image.layer.v1.tar",
}
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Origin(BaseModel):
    """What an image of this program was made from; it determines the image's bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: ImagePlan
    format: int = FORMAT
    compressor: str
    """The compressor's package and version."""
    busybox: str = ""
    """SHA-256 of the busybox in the first layer; empty with a base by reference."""


class Making(BaseModel):
    """An origin and the bytes of the tar of each layer, as stored in an image's config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Origin
    unpacked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: digest and size of its bytes in the registry, digest of the uncompressed tar.

    The latter, `diff_id`, identifies the layer on nodes.
    """

    digest: str
    size: int
    diff_id: str
    compression: Compression


@dataclass(frozen=True, slots=True)
class Image:
    """An image as in its manifest and config; `making` is None for a foreign image."""

    layers: tuple[Layer, ...]
    config: dict[str, Any]
    config_digest: str
    config_size: int
    making: Making | None

    @property
    def plan(self) -> ImagePlan | None:
        """The plan, None for a foreign image."""
        return self.making.origin.plan if self.making else None

    @property
    def command(self) -> tuple[str, ...]:
        """Default command of a container."""
        return tuple((self.config.get("config") or {}).get("Cmd") or ())


def make_config(
    *,
    architecture: str,
    layers: list[Layer],
    making: Making,
    command: tuple[str, ...],
    inherited: dict[str, Any] | None = None,
) -> bytes:
    """Return the image's config as JSON; `inherited`: environment, user etc. of the base."""
    run: dict[str, Any] = {"Env": [_PATH], **(inherited or {}), "Cmd": list(command)}
    run.pop("Entrypoint", None)
    return _canonical(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _EPOCH,
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": _EPOCH, "created_by": "pull-study"} for _ in layers],
            MAKING: making.model_dump(mode="json"),
        }
    )


def make_manifest(config_digest: str, config_size: int, layers: list[Layer]) -> bytes:
    """Return the image's manifest as JSON."""
    config = {"mediaType": _CONFIG_TYPE, "digest": config_digest, "size": config_size}
    entries = [
        {"mediaType": _LAYER_TYPE[each.compression], "digest": each.digest, "size": each.size}
        for each in layers
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE}
    return _canonical({**manifest, "config": config, "layers": entries})


def read_image(name: str, manifest: bytes, config: bytes) -> Image:
    """Parse an image's manifest and config.

    Raises:
        BadImageError: they do not describe an image.
    """
    try:
        outer, inner = json.loads(manifest), json.loads(config)
        layers = tuple(
            Layer(entry["digest"], int(entry["size"]), diff_id, _compression(entry["mediaType"]))
            for entry, diff_id in zip(outer["layers"], inner["rootfs"]["diff_ids"], strict=True)
        )
        digest, size = outer["config"]["digest"], int(outer["config"]["size"])
        if not all(_DIGEST.fullmatch(x) for each in layers for x in (each.digest, each.diff_id)):
            raise ValueError("a digest is not of SHA-256")  # noqa: TRY301
        return Image(layers, inner, digest, size, _read_making(inner))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadImageError(
            f"{name} is not a container image: its manifest or config is invalid ({error}).",
            "check the name; for an index of several platforms, name one platform's digest",
        ) from error


def _read_making(config: dict[str, Any]) -> Making | None:
    try:
        return Making.model_validate(config[MAKING])
    except (KeyError, ValidationError):
        # Foreign, or from a later version of this program, so its content cannot be checked.
        return None


def _compression(media_type: str) -> Compression:
    if media_type.endswith("gzip"):
        return Compression.GZIP
    return Compression.ZSTD if media_type.endswith("zstd") else Compression.NONE


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
