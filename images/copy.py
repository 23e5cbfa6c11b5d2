"""Copies an image to another registry without changing a byte, so that both have one digest."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from images.errors import TagExistsError
from images.make.base import copy_layer
from images.make.layer_stream import OnBytes
from images.make.manifest import Layer
from images.make.remote import read_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import upload_bytes

_JOBS = 4


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """A copied image.

    Attributes:
        target: the copy.
        digest: of the manifest, the same in both places.
        sent: bytes of layers sent, without those that were mounted or already there.
    """

    target: Target
    digest: str
    sent: int


def copy_image(
    source: Target,
    target: Target,
    *,
    overwrite: bool = False,
    on_bytes: OnBytes | None = None,
) -> CopiedImage:
    """Copy an image; nothing is kept on disk, and layers that are already there are not sent.

    Args:
        source: the image.
        target: its destination; without a tag, the image keeps its own.
        overwrite: replace a tag that names another image.
        on_bytes: called with compressed bytes done, from several threads.

    Raises:
        TagExistsError: the target's tag names another image.
        RegistryError: a registry fails.
    """
    named = target if target.tag else target.with_tag(source.tag)
    with Registry(source.registry) as origin, Registry(target.registry) as to:
        remote = read_remote(origin, source)
        existing = to.find_manifest(named)
        if existing is not None and existing.digest != remote.digest and not overwrite:
            raise TagExistsError(
                f"{named} already names another image ({existing.digest}).",
                "choose another tag, or replace it with --overwrite",
            )

        def copy(layer: Layer) -> int:
            sent = copy_layer(origin, remote.target, layer, to, named.repository)
            if on_bytes is not None:
                on_bytes(layer.size)
            return sent

        with ThreadPoolExecutor(_JOBS, "copy") as pool:
            sent = sum(pool.map(copy, remote.image.layers))
        image = remote.image
        config = origin.open_blob(source.repository, image.config_digest, image.config_size)
        upload_bytes(to, named.repository, b"".join(config))
        digest = to.put_manifest(named, remote.media_type, remote.manifest)
        return CopiedImage(named, digest, sent)
