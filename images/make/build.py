"""Builds study images directly into registries: no Docker daemon, no file of an image's size.

build_image(parse_tag("9-layers-size-1176249324-bytes"), parse_target("127.0.0.1:5000/chonks"))
"""

from images.make.base import find_base
from images.make.busybox import find_busybox
from images.make.layer_stream import OnBytes, ignore
from images.make.plan import BUSYBOX, Compression, plan_image
from images.make.push import BuiltImage, push_plan
from images.registry.reference import Target
from schema.image_tag import ImageTag


def build_image(
    tag: ImageTag,
    *targets: Target,
    scale: float = 1.0,
    compressibility: float = 0.5,
    compression: Compression = Compression.GZIP,
    base: str = BUSYBOX,
    overwrite: bool = False,
    jobs: int | None = None,
    on_bytes: OnBytes = ignore,
) -> BuiltImage:
    """Build the image that a tag describes, once, and push it to all targets that lack it.

    Equal arguments give equal digests. Calls for different images may overlap.

    Args:
        tag: layers, size and salt or variant (`schema.image_variant`); also the name, unless a
            target has a tag.
        targets: destinations.
        scale: the real size is the tag's times this, in whole bytes.
        compressibility: share of the bytes that compression saves, 0 to 1.
        compression: of the layers, unless the tag's variant names one.
        base: `busybox` or a reference.
        overwrite: replace a tag that names another image.
        jobs: parallel layers; None: two more than this machine's cores, at most 8.
        on_bytes: called with content bytes done, from several threads.

    Raises:
        UserError: for example PlanError, TagExistsError, RegistryError (`images.errors`).
    """
    found = find_busybox() if base == BUSYBOX else find_base(base)
    shape = {"scale": scale, "compressibility": compressibility}
    plan = plan_image(tag, **shape, compression=compression, base=found.name)
    named = [target if target.tag else target.with_tag(str(tag)) for target in targets]
    return push_plan(plan, named, found, overwrite=overwrite, jobs=jobs, on_bytes=on_bytes)


def build_pause(target: Target) -> BuiltImage:
    """Push an image whose container sleeps until it is stopped; raises as `build_image`."""
    plan = plan_image(ImageTag(1, 1), compressibility=0)
    named = target if target.tag else target.with_tag("pause")
    command = ("/bin/sleep", "infinity")
    return push_plan(plan, [named], find_busybox(), command=command, overwrite=True)
