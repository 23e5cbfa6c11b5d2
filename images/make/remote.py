"""Reads an image from a registry: manifest and config, each checked against its digest."""

import json
from dataclasses import dataclass

from images.errors import BadImageError, RegistryError
from images.make.manifest import Image, read_image
from images.registry.client import INDEX_TYPES, Registry
from images.registry.reference import Target

_ARCHITECTURE = "amd64"
"""Of an index for several platforms: what the nodes of a study are."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image in a registry.

    Attributes:
        target: where it is; its digest is that of the manifest.
        manifest: as the registry has it.
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
    """The image under a name, None where the name is free.

    Raises:
        BadImageError: what is there is not an image for linux/amd64.
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
    except (ValueError, KeyError, TypeError):
        raise BadImageError(f"{target} is not a container image: it has no config.") from None
    raw = b"".join(registry.open_blob(target.repository, digest, size))
    image = read_image(str(target), manifest.raw, raw)
    named = Target(target.registry, target.repository, target.tag, manifest.digest)
    return RemoteImage(named, image, manifest.raw, manifest.media_type)


def read_remote(registry: Registry, target: Target) -> RemoteImage:
    """The image under a name.

    Raises:
        NotInRegistryError: there is none.
        UserError: as `find_remote`.
    """
    found = find_remote(registry, target)
    if found is not None:
        return found
    registry.get_manifest(target)  # says why not
    raise RegistryError(f"{target} came into being just now.", "run the same command again")


def _pick(target: Target, index: bytes) -> Target:
    try:
        entries = json.loads(index)["manifests"]
        digest = next(
            entry["digest"]
            for entry in entries
            if entry["platform"]["architecture"] == _ARCHITECTURE
            and entry["platform"]["os"] == "linux"
        )
    except (ValueError, KeyError, TypeError, StopIteration):
        raise BadImageError(
            f"{target} has no image for linux/{_ARCHITECTURE}.", "name another base or image"
        ) from None
    return Target(target.registry, target.repository, target.tag, digest)
