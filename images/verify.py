"""Checks an image in a registry by downloading all of it.

Checked are every blob's size and digest, every layer's diff id, and, for images of this program,
every byte of content: it is made again from its seed. Nothing is kept on disk, and no tar is
parsed: the content is the known end of a layer.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from images.errors import DigestError
from images.make.compression import UnpackError, decompressed
from images.make.layer_stream import OnBytes, ignore
from images.make.layer_tar import layer_tar, tar_size
from images.make.manifest import Layer
from images.make.plan import LayerPlan
from images.make.remote import RemoteImage
from images.registry.reference import Target


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """The result of an image: the faults of each layer, one sentence each.

    `content` is the number of content bytes that match their seeds; 0 for foreign images.
    """

    target: Target
    faults: tuple[tuple[str, ...], ...]
    content: int


def verify_image(remote: RemoteImage, *, on_bytes: OnBytes = ignore) -> CheckedImage:
    """Download and check an image; `on_bytes` is called with compressed bytes checked.

    Raises:
        RegistryError: the registry fails. Faults of the image are returned, not raised.
    """
    making = remote.image.making
    own = list(zip(making.origin.plan.layers, making.unpacked, strict=False)) if making else []
    others = [None] * (len(remote.image.layers) - len(own))

    def check(layer: Layer, made: tuple[LayerPlan, int] | None) -> tuple[str, ...]:
        try:
            faults = tuple(_faults(remote, layer, made))
        except (UnpackError, DigestError) as error:
            faults = (str(error),)
        on_bytes(layer.size)
        return tuple(f"layer {layer.digest}: {fault}" for fault in faults)

    with ThreadPoolExecutor(os.cpu_count() or 1, "verify") as pool:
        faults = tuple(pool.map(check, remote.image.layers, [*others, *own]))
    content = sum(plan.size for plan, _ in own) if not any(faults) else 0
    return CheckedImage(remote.target, faults, content)


def _faults(remote: RemoteImage, layer: Layer, made: tuple[LayerPlan, int] | None) -> Iterator[str]:
    plan, claimed = made or (None, 0)
    start = claimed - tar_size(plan) if plan else 0  # before it are the files of the base
    whole, content, size = hashlib.sha256(), hashlib.sha256(), 0
    for block in decompressed(remote.open_layer(layer), layer.compression):
        whole.update(block)
        if plan and size + len(block) > start:
            content.update(memoryview(block)[max(0, start - size) :])
        size += len(block)
        if plan and size > claimed:
            yield f"unpacks to more than the {claimed} bytes that its config states"
            return
    if (diff_id := f"sha256:{whole.hexdigest()}") != layer.diff_id:
        yield f"unpacks to {diff_id}, its config says {layer.diff_id}"
    if plan is None:
        return
    wanted = hashlib.sha256()
    for piece in layer_tar(plan):
        wanted.update(piece)
    if content.digest() != wanted.digest():
        yield "does not hold the bytes of its seed"
