"""Checks an image in a registry by downloading all of it.

Checked are every blob's size and digest, every layer's diff id, and, for images of this program,
every content file's size and bytes, which are regenerated from the seed. Nothing is kept on disk.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from images.errors import DigestError
from images.make.content import file_content
from images.make.layer_stream import OnBytes
from images.make.layer_tar import content_path
from images.make.manifest import Layer
from images.make.plan import LayerPlan
from images.make.remote import RemoteImage, read_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.unpack import TarFile, Unpacked, UnpackError


@dataclass(frozen=True, slots=True)
class CheckedLayer:
    """The result of one layer.

    Attributes:
        layer: as in the manifest and config.
        unpacked: bytes of its tar.
        content: bytes of its content files.
        faults: one sentence each; empty if everything is correct.
    """

    layer: Layer
    unpacked: int
    content: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """The result of an image.

    Attributes:
        target: pinned by digest.
        layers: lowest first.
        seeded: whether the content was checked against its seeds: False for foreign images.
    """

    target: Target
    layers: tuple[CheckedLayer, ...]
    seeded: bool

    @property
    def faults(self) -> tuple[str, ...]:
        """All faults, one sentence each."""
        return tuple(fault for layer in self.layers for fault in layer.faults)


def verify_image(
    registry: Registry, target: Target, *, on_bytes: OnBytes | None = None
) -> CheckedImage:
    """Download and check an image.

    Args:
        registry: the target's.
        target: the image.
        on_bytes: called with compressed bytes checked, from several threads.

    Raises:
        NotInRegistryError: there is no such image.
        RegistryError: the registry fails. Faults of the image are returned, not raised.
    """
    remote = read_remote(registry, target)
    plan = remote.image.plan
    own = plan.layers if plan else ()
    bases = len(remote.image.layers) - len(own)
    plans: list[LayerPlan | None] = [*([None] * bases), *own]

    def check(layer: Layer, layer_plan: LayerPlan | None) -> CheckedLayer:
        found = _check_layer(registry, remote, layer, layer_plan)
        if on_bytes is not None:
            on_bytes(layer.size)
        return found

    with ThreadPoolExecutor(os.cpu_count() or 1, "verify") as pool:
        layers = tuple(pool.map(check, remote.image.layers, plans))
    return CheckedImage(remote.target, layers, plan is not None)


def _check_layer(
    registry: Registry, remote: RemoteImage, layer: Layer, plan: LayerPlan | None
) -> CheckedLayer:
    pieces = registry.open_blob(remote.target.repository, layer.digest, layer.size)
    unpacked = Unpacked(pieces, layer.compression)
    wanted = _content_files(plan) if plan else {}
    faults: list[str] = []
    content = 0
    try:
        for file in unpacked.files():
            if file.name in wanted:
                content += file.size
                faults += _check_file(*wanted.pop(file.name), file)
    except (UnpackError, DigestError) as error:
        return CheckedLayer(layer, unpacked.size, content, (f"layer {layer.digest}: {error}",))
    if unpacked.diff_id != layer.diff_id:
        faults.append(
            f"layer {layer.digest}: unpacks to {unpacked.diff_id}, its config says {layer.diff_id}"
        )
    faults += [f"layer {layer.digest}: lacks the file {name}" for name in wanted]
    return CheckedLayer(layer, unpacked.size, content, tuple(faults))


def _content_files(plan: LayerPlan) -> dict[str, tuple[LayerPlan, int, int]]:
    sizes = enumerate(plan.file_sizes(), plan.first_file)
    return {content_path(number): (plan, number, size) for number, size in sizes}


def _check_file(plan: LayerPlan, number: int, size: int, found: TarFile) -> list[str]:
    if found.size != size:
        return [f"file {found.name} has {found.size} bytes, not {size}"]
    sha = hashlib.sha256()
    for block in file_content(plan.seed, number, size, plan.compressibility):
        sha.update(block)
    if found.sha256 != sha.hexdigest():
        return [f"file {found.name} does not hold the bytes of its seed"]
    return []
