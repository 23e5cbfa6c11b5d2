"""Reads an image's manifest and config from a registry, each checked against its digest."""

import json
from dataclasses import dataclass

from images.errors import BadImageError, RegistryError
from images.make.manifest import Image, read_image
from images.registry.client import INDEX_TYPES, Registry
from images.registry.reference import Target

_ARCHITECTURE = "amd64"
"""The platform to pick from an index: that of a study's nodes."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image in a registry.

    Attributes:
        target: its place; the digest is that of the manifest.
        manifest: bytes as in the registry.
        media_type: of the manifest.
    """

    target: Target
    image: Image
    manifest: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return self.target.digest


def find_remote(registry: Registry, target: Target) -> RemoteImage | None:
    """Return the image with a name, None if there is none.

    Raises:
        BadImageError: it is not an image for linux/amd64.
        RegistryError: the registry fails.
        DigestError: it is damaged.
    """
    manifest = registry.find_manifest(target)
    if manifest is not None and manifest.media_type in INDEX_TYPES:
        return read_remote(registry, _pick(target, manifest.raw))
    if manifest is None:
        return None
    try:
        config = json.loads(manifest.raw)["config"]
        digest, size = str(config["digest"]), int(config["size"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadImageError(f"{target} is not a container image: it has no config.") from error
    raw = b"".join(registry.open_blob(target.repository, digest, size))
    image = read_image(str(target), manifest.raw, raw)
    named = Target(target.registry, target.repository, target.tag, manifest.digest)
    return RemoteImage(named, image, manifest.raw, manifest.media_type)


def read_remote(registry: Registry, target: Target) -> RemoteImage:
    """Return the image with a name.

    Raises:
        NotInRegistryError: there is none.
        UserError: as `find_remote`.
    """
    found = find_remote(registry, target)
    if found is not None:
        return found
    registry.get_manifest(target)  # raises the reason
    raise RegistryError(f"{target} was created just now.", "run the same command again")


def _pick(target: Target, index: bytes) -> Target:
    try:
        entries = json.loads(index)["manifests"]
        digest = next(
            entry["digest"]
            for entry in entries
            if entry["platform"]["architecture"] == _ARCHITECTURE
            and entry["platform"]["os"] == "linux"
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise BadImageError(
            f"{target} has no image for linux/{_ARCHITECTURE}.", "name another base or image"
        ) from error
    return Target(target.registry, target.repository, target.tag, digest)
