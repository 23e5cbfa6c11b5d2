"""An image in a registry as the base of another: its layers are copied.

Images on the same base share its layers, so a node that has pulled one of them is warm for the
others. The busybox base adds no layers.
"""

from images.errors import BaseError, NotInRegistryError
from images.make.manifest import Layer
from images.make.remote import RemoteImage, read_remote
from images.registry.client import Registry
from images.registry.reference import Target, parse_target
from images.registry.upload import mount_blob, upload_blob


def find_base(reference: str) -> RemoteImage:
    """Return the base image; its target is pinned by digest.

    Raises:
        BaseError: the image does not exist.
        RegistryError: the registry fails.
    """
    target = parse_target(reference)
    try:
        with Registry(target.registry) as registry:
            return read_remote(registry, target)
    except NotInRegistryError as error:
        raise BaseError(
            f"The base {reference} does not exist: {error.problem}", error.fix
        ) from error


def copy_layer(
    source: Registry, origin: Target, layer: Layer, to: Registry, repository: str
) -> int:
    """Mount a layer in a repository, or stream it there; return the bytes sent.

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
