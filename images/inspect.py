"""Describes an image in a registry without downloading a layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from images.make.plan import MAX_LAYERS
from images.make.remote import RemoteImage, read_remote
from images.registry.client import Registry
from images.registry.reference import parse_target
from schema.image_tag import find_tag


@dataclass(frozen=True, slots=True)
class InspectedLayer:
    """A layer.

    Attributes:
        number: 1 for the lowest.
        digest: of the compressed bytes.
        diff_id: of the uncompressed tar; identifies the layer on nodes.
        size: compressed bytes.
        unpacked: bytes of the tar, 0 if unknown without a download.
        shared_with: the other given images that have it.
    """

    number: int
    digest: str
    diff_id: str
    size: int
    unpacked: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An image.

    Attributes:
        image: pinned by digest.
        media_type: of the manifest.
        config_digest: of the config.
        architecture: of the programs.
        command: default command of a container.
        compressed: bytes of all layers in the registry.
        unpacked: bytes of all tars, 0 if unknown.
        content: bytes of the content files without the base; 0 for a foreign image.
        base: busybox or a reference; empty for a foreign image.
        base_layers: layers that belong only to the base.
        compression: kind and level; empty for a foreign image.
        tag_layers: layers that the tag claims, 0 if it claims none.
        tag_size: bytes that the tag claims.
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
    base_layers: int
    compression: str
    tag_layers: int
    tag_size: int
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
        if self.unpacked:
            ratio = self.compressed / self.unpacked
            facts["uncompressed"] = f"{self.unpacked} bytes of tar, ratio {ratio:.4f}"
        if self.base:
            facts["content"] = f"{self.content} bytes of files without the base"
            facts["base"] = f"{self.base}, {_where(self.base_layers)}"
            facts["compression"] = self.compression
        if self.tag_layers:
            facts["tag claims"] = f"{self.tag_layers} layers, {self.tag_size} bytes"
            facts["in the original study"] = self._originally()
        return facts

    def _originally(self) -> str:
        # Its first matrix (71 images) and run1 (38) counted the layers of a tag differently.
        ways = [f"{self.tag_layers} files + busybox = {self.tag_layers + 1} layers (first matrix)"]
        if self.tag_layers > 1:
            ways.append(f"{self.tag_layers - 1} files + busybox = {self.tag_layers} layers (run1)")
        return f"bytes of the files only, in {' or '.join(ways)}"


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
    holders = {name: _diff_ids(_read(name)) for name in others}
    image, making = remote.image, remote.image.making
    own = making.unpacked if making else ()
    base_layers = len(image.layers) - len(own) if making else 0
    unpacked = (0,) * (len(image.layers) - len(own)) + own
    claim = find_tag(remote.target.tag)
    plan = image.plan
    return Inspection(
        image=str(remote.target),
        media_type=remote.media_type,
        config_digest=image.config_digest,
        architecture=str(image.config.get("architecture", "")),
        command=image.command,
        compressed=sum(layer.size for layer in image.layers),
        unpacked=sum(unpacked) if all(unpacked) else 0,
        content=plan.size if plan else 0,
        base=plan.base if plan else "",
        base_layers=base_layers,
        compression=f"{plan.compression} {plan.level}" if plan else "",
        tag_layers=claim.layers if claim else 0,
        tag_size=claim.size_bytes if claim else 0,
        layers=tuple(
            InspectedLayer(
                number=number,
                digest=layer.digest,
                diff_id=layer.diff_id,
                size=layer.size,
                unpacked=tar,
                shared_with=tuple(n for n, ids in holders.items() if layer.diff_id in ids),
            )
            for number, (layer, tar) in enumerate(zip(image.layers, unpacked, strict=True), 1)
        ),
    )


def _read(reference: str) -> RemoteImage:
    target = parse_target(reference)
    with Registry(target.registry) as registry:
        return read_remote(registry, target)


def _diff_ids(remote: RemoteImage) -> set[str]:
    return {layer.diff_id for layer in remote.image.layers}


def _where(base_layers: int) -> str:
    return f"{base_layers} own layers" if base_layers else "in the first layer"
