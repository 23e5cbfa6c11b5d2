"""Layers of an image that stands in a registry, taken over as the base of another.

They are the base's own layers, so images on the same base share them, and a node that has pulled
one of them is warm for the others. The busybox base has no such layers.
"""

from images.errors import BaseError, NotInRegistryError
from images.make.manifest import Layer
from images.make.remote import RemoteImage, read_remote
from images.registry.client import Registry
from images.registry.reference import Target, parse_target
from images.registry.upload import mount_blob, upload_blob


def find_base(reference: str) -> RemoteImage:
    """The image that is to be a base; its target is pinned by digest.

    Raises:
        BaseError: there is no such image.
        RegistryError: the registry fails.
    """
    target = parse_target(reference)
    try:
        with Registry(target.registry) as registry:
            return read_remote(registry, target)
    except NotInRegistryError as error:
        raise BaseError(
            f"The base {reference} does not exist: {error.problem}", error.fix
        ) from None


def copy_layer(
    source: Registry, origin: Target, layer: Layer, to: Registry, repository: str
) -> int:
    """Bring a layer into a repository, by mounting it or streaming it through; returns bytes sent.

    Raises:
        RegistryError: a registry fails.
        DigestError: the layer is damaged.
    """
    if to.has_blob(repository, layer.digest):
        return 0
    if source.name == to.name and mount_blob(to, repository, layer.digest, origin.repository):
        return 0
    blob = upload_blob(
        to, repository, lambda: source.open_blob(origin.repository, layer.digest, layer.size)
    )
    return blob.size if blob.sent else 0
