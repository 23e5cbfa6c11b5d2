"""Describes an image in a registry without downloading a layer."""

from collections.abc import Sequence

from images.make.remote import open_remote
from images.registry.reference import parse_source
from schema.output import OutputRow


def inspect_image(reference: str, others: Sequence[str]) -> dict[str, list[OutputRow]]:
    """Return what manifest and config say of an image, and which layers other images share.

    The tables are `image`, with one row, and `layers`.

    Sizes are bytes: `compressed` in the registry, `unpacked` as tar, `content` of the files
    without the base. What only this program knows is left out for a foreign image.
    """
    holders: dict[str, set[str]] = {}
    for name in others:
        with open_remote(parse_source(name)) as other:
            holders[name] = {layer.diff_id for layer in other.image.layers}
    with open_remote(parse_source(reference)) as remote:
        image = remote.image
    found: dict[str, object] = {
        "image": str(remote.target),
        "media_type": remote.media_type,
        "config": image.config_digest,
        "architecture": image.config.get("architecture"),
        "command": image.command,
        "compressed": sum(layer.size for layer in image.layers),
    }
    layers: list[dict[str, object]] = [
        {
            "digest": layer.digest,
            "diff_id": layer.diff_id,
            "compressed": layer.size,
            "shared_with": [name for name, ids in holders.items() if layer.diff_id in ids],
        }
        for layer in image.layers
    ]
    if making := image.making:
        plan = making.origin.plan
        compression = f"{plan.compression} {plan.level}"
        found |= {"unpacked": sum(making.unpacked), "content": plan.size}
        found |= {"base": plan.base, "compression": compression}
        for layer, size in zip(layers, making.unpacked, strict=False):
            layer["unpacked"] = size
    return {"image": [found], "layers": [*layers]}
