"""Reads an image's manifest and config from a registry, each checked against its digest."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from images.errors import BadImageError, NotInRegistryError, RegistryError
from images.make.manifest import Image, Layer, read_image
from images.registry.client import INDEX_TYPES, MAX_MANIFEST, Registry
from images.registry.config import find_sources
from images.registry.reference import Target

_ARCHITECTURE = "amd64"
"""The platform to pick from an index: that of a study's nodes."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image in a registry: the target's or, for reading, a mirror.

    `target` is the image's name with the digest of the manifest; `repository` is the registry's.
    """

    target: Target
    image: Image
    media_type: str
    registry: Registry
    repository: str

    def open_layer(self, layer: Layer) -> Iterator[bytes]:
        """Yield a layer's bytes, as `Registry.open_blob`."""
        return self.registry.open_blob(self.repository, layer.digest, layer.size)


@contextmanager
def open_remote(target: Target) -> Iterator[RemoteImage]:
    """Find an image, by the user's mirrors if there are any; it can be read until the block ends.

    Raises:
        RegistryError: as `find_remote`; NotInRegistryError if there is none.
    """
    *mirrors, last = find_sources(target)
    for source in [*mirrors, last]:
        with Registry(source.target.registry, plain_http=source.plain_http) as registry:
            found = None
            with suppress(*() if source is last else (RegistryError,)):
                found = find_remote(registry, source.target, target)
            if found is not None:
                yield found
                return
    raise NotInRegistryError(f"There is no image {target}.", "check the reference and its tag")


def find_remote(
    registry: Registry, target: Target, name: Target | None = None
) -> RemoteImage | None:
    """Return an image of a registry, None if there is none; `name`: its own, not the mirror's.

    Raises:
        RegistryError: also DigestError, and BadImageError if it is no image for linux/amd64.
    """
    manifest = registry.find_manifest(target)
    if manifest is not None and manifest.media_type in INDEX_TYPES:
        manifest = registry.find_manifest(_pick(target, manifest.raw))
    if manifest is None:
        return None
    try:
        config = json.loads(manifest.raw)["config"]
        digest, size = str(config["digest"]), int(config["size"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadImageError(f"{target} is not a container image: it has no config.") from error
    if size > MAX_MANIFEST:
        raise BadImageError(f"The config of {target} has {size} bytes, which is too large.")
    raw = b"".join(registry.open_blob(target.repository, digest, size))
    image = read_image(str(target), manifest.raw, raw)
    named = name or target
    pinned = Target(named.registry, named.repository, named.tag, manifest.digest)
    return RemoteImage(pinned, image, manifest.media_type, registry, target.repository)


def _pick(target: Target, index: bytes) -> Target:
    try:
        digest = next(
            entry["digest"]
            for entry in json.loads(index)["manifests"]
            if (entry["platform"]["os"], entry["platform"]["architecture"])
            == ("linux", _ARCHITECTURE)
        )
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        raise BadImageError(
            f"{target} has no image for linux/{_ARCHITECTURE}.", "name another base or image"
        ) from error
    return Target(target.registry, target.repository, target.tag, digest)
