"""Describes an image in a registry without downloading a layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from images.make.plan import MAX_LAYERS
from images.make.remote import RemoteImage, open_remote
from images.registry.reference import parse_target


@dataclass(frozen=True, slots=True)
class InspectedLayer:
    """A layer.

    Attributes:
        digest: of the compressed bytes.
        diff_id: of the uncompressed tar; identifies the layer on nodes.
        size: compressed bytes.
        unpacked: bytes of the tar, 0 if unknown without a download.
        shared_with: the other given images that have it.
    """

    digest: str
    diff_id: str
    size: int
    unpacked: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An image; what only this program knows is 0 or empty for a foreign image.

    Attributes:
        image: pinned by digest.
        media_type: of the manifest.
        config_digest: of the config.
        architecture: of the programs.
        command: default command of a container.
        compressed: bytes of all layers in the registry.
        unpacked: bytes of all tars.
        content: bytes of the content files without the base.
        base: busybox or a reference.
        compression: kind and level.
        layers: lowest first.
    """

    image: str
    media_type: str
    config_digest: str
    architecture: str
    command: tuple[str, ...]
    compressed: int
    unpacked: int
    content: int
    base: str
    compression: str
    layers: tuple[InspectedLayer, ...]

    def facts(self) -> dict[str, str]:
        """Return the image's properties by name, as text."""
        facts = {
            "image": self.image,
            "media type": self.media_type,
            "config": self.config_digest,
            "architecture": self.architecture,
            "command": " ".join(self.command),
            "layers": f"{len(self.layers)} in the manifest (at most {MAX_LAYERS} can run)",
            "compressed": f"{self.compressed} bytes",
        }
        if self.base:
            ratio = self.compressed / self.unpacked
            facts["uncompressed"] = f"{self.unpacked} bytes of tar, ratio {ratio:.4f}"
            facts["content"] = f"{self.content} bytes of files without the base"
            facts["base"] = f"{self.base}, in the first layer"
            facts["compression"] = self.compression
        return facts


def inspect_image(reference: str, others: Sequence[str]) -> Inspection:
    """Read an image's manifest and config, and compare its layers with other images.

    Args:
        reference: the image.
        others: images to compare layers with.

    Raises:
        BadReferenceError: a reference is invalid.
        RegistryError: an image does not exist or is damaged, or the registry fails.
    """
    remote = _read(reference)
    holders = {name: {layer.diff_id for layer in _read(name).image.layers} for name in others}
    image, plan = remote.image, remote.image.plan
    known = image.making.unpacked if image.making else ()
    unpacked = known if len(known) == len(image.layers) else (0,) * len(image.layers)
    return Inspection(
        image=str(remote.target),
        media_type=remote.media_type,
        config_digest=image.config_digest,
        architecture=str(image.config.get("architecture", "")),
        command=image.command,
        compressed=sum(layer.size for layer in image.layers),
        unpacked=sum(unpacked),
        content=plan.size if plan else 0,
        base=plan.base if plan else "",
        compression=f"{plan.compression} {plan.level}" if plan else "",
        layers=tuple(
            InspectedLayer(
                digest=layer.digest,
                diff_id=layer.diff_id,
                size=layer.size,
                unpacked=tar,
                shared_with=tuple(n for n, ids in holders.items() if layer.diff_id in ids),
            )
            for layer, tar in zip(image.layers, unpacked, strict=True)
        ),
    )


def _read(reference: str) -> RemoteImage:
    with open_remote(parse_target(reference)) as remote:
        return remote
