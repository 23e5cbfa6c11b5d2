"""Describes an image in a registry without downloading a layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from images.make.remote import RemoteImage, open_remote
from images.registry.reference import parse_target


@dataclass(frozen=True, slots=True)
class InspectedLayer:
    """A layer; `unpacked` is 0 if unknown, `shared_with` the given images that have it too."""

    digest: str
    diff_id: str
    size: int
    unpacked: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An image; what only this program knows is 0 or empty for a foreign one.

    Attributes:
        image: pinned by digest.
        media_type: of the manifest.
        config: its digest.
        architecture: of the programs.
        command: default command of a container.
        compressed: bytes of all layers in the registry.
        unpacked: bytes of all tars.
        content: bytes of the files without the base.
        base: in the first layer.
        compression: kind and level.
        layers: lowest first.
    """

    image: str
    media_type: str
    config: str
    architecture: str
    command: str
    compressed: int
    unpacked: int
    content: int
    base: str
    compression: str
    layers: tuple[InspectedLayer, ...]


def inspect_image(reference: str, others: Sequence[str]) -> Inspection:
    """Read an image's manifest and config, and compare its layers with other images.

    Raises:
        BadReferenceError: a reference is invalid.
        RegistryError: an image does not exist or is damaged, or the registry fails.
    """
    remote = _read(reference)
    holders = {name: {layer.diff_id for layer in _read(name).image.layers} for name in others}
    image, plan = remote.image, remote.image.plan
    unpacked = image.making.unpacked if image.making else (0,) * len(image.layers)
    return Inspection(
        image=str(remote.target),
        media_type=remote.media_type,
        config=image.config_digest,
        architecture=str(image.config.get("architecture", "")),
        command=" ".join(image.command),
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
            for layer, tar in zip(image.layers, unpacked, strict=False)
        ),
    )


def _read(reference: str) -> RemoteImage:
    with open_remote(parse_target(reference)) as remote:
        return remote
