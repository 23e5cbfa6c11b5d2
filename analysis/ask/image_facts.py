"""Layers and bytes of an image that a user asks about: from the data, or from its registry.

A registry is queried by `pull-study-images inspect` in its own process, so that the analysis
needs no registry client.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from analysis.ask.model import Image
from analysis.frames import Frames, image_name
from analysis.judge.cells import image_parts
from analysis.read.manifests import read_manifests
from schema.errors import UserError

_TIMEOUT_S = 60


class UnknownImageError(UserError):
    """Neither the data nor a registry has the image."""


def find_image(
    reference: str,
    frames: Frames | None,
    manifests: Path | None,
    *,
    layers: int | None = None,
    compressed_bytes: int | None = None,
    unpacked_bytes: int | None = None,
) -> Image:
    """Return layers and bytes of an image; given numbers override those that are found.

    Looks in saved manifests, then in the recorded images, then at the tag, then queries the
    registry unless all three numbers are given.

    Raises:
        UnknownImageError: the image is nowhere to be found.
        ManifestError: the file of manifests cannot be read.
    """
    given = layers is not None and compressed_bytes is not None and unpacked_bytes is not None
    found = (
        _of_manifests(reference, manifests)
        or (_of_frames(reference, frames) if frames else None)
        or _of_tag(reference)
        or (Image(reference) if given else _of_registry(reference))
    )
    return replace(
        found,
        layers=layers if layers is not None else found.layers,
        wire_bytes=compressed_bytes if compressed_bytes is not None else found.wire_bytes,
        unpacked_bytes=unpacked_bytes if unpacked_bytes is not None else found.unpacked_bytes,
    )


def _of_manifests(reference: str, manifests: Path | None) -> Image | None:
    if manifests is None:
        return None
    name = image_name(reference)
    for image in read_manifests(manifests):
        # Saved manifests have no repository: there a tag is all that there is.
        if name in {image.name, image.tag} or (
            not image.repository and image_parts(reference)[1] == image.tag
        ):
            return Image(reference, len(image.layers), image.unpacked_bytes, image.compressed_bytes)
    return None


def _of_frames(reference: str, frames: Frames) -> Image | None:
    images = frames.images
    named = images[(images["name"] == image_name(reference)) | (images["tag"] == reference)]
    if named.empty:
        return None
    if named["name"].nunique() > 1 and named["layers"].nunique(dropna=False) > 1:
        raise UnknownImageError(
            f"{reference} is the tag of several images: {', '.join(sorted(set(named['name'])))}.",
            "name the repository too",
        )
    row = named.iloc[0]
    facts = (row["layers"], row["unpacked_bytes"], row["wire_bytes"])
    return Image(reference, *(None if value != value else float(value) for value in facts))  # noqa: PLR0124 (nan)


def _of_tag(reference: str) -> Image | None:
    repository, _, layers, size = image_parts(reference)
    if layers is None and not repository.count("/"):
        _, _, layers, size = image_parts(f"x:{reference}")
    return Image(reference, layers, size) if layers is not None else None


def _of_registry(reference: str) -> Image:
    command = [sys.executable, "-m", "images", "--log-level", "error"]
    command += ["inspect", reference, "--output", "json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        why = f"its registry did not answer within {_TIMEOUT_S} s"
        raise _unknown(reference, why) from error
    if done.returncode != 0:
        why = done.stderr.strip().partition("\n")[0].removeprefix("Error: ")
        raise _unknown(reference, why or "no registry has it")
    facts, *layers = json.loads(done.stdout)
    return Image(reference, len(layers), facts.get("unpacked"), facts["compressed"])


def _unknown(reference: str, why: str) -> UnknownImageError:
    return UnknownImageError(
        f"Layers and bytes of {reference} are unknown: {why.rstrip('.')}.",
        "give --layers, --compressed-bytes and --unpacked-bytes",
    )
