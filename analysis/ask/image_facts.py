"""Layers and bytes of an image that a user asks about: from the data, or from its registry.

A registry is queried by `python -m images inspect` in its own process, so that the analysis
needs no registry client.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.ask.study_data import Cluster, Image
from analysis.judge.cells import image_parts
from analysis.read.manifests import read_manifests
from schema.errors import UserError

_TIMEOUT_S = 60


class UnknownImageError(UserError):
    """Neither the data nor a registry has the image."""


def find_image(
    reference: str,
    clusters: Sequence[Cluster],
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
        or _of_clusters(reference, clusters)
        or _of_tag(reference)
        or (_plain(reference) if given else _of_registry(reference))
    )
    return replace(
        found,
        layers=layers if layers is not None else found.layers,
        wire_bytes=compressed_bytes if compressed_bytes is not None else found.wire_bytes,
        unpacked_bytes=unpacked_bytes if unpacked_bytes is not None else found.unpacked_bytes,
    )


def _plain(reference: str) -> Image:
    repository, tag, _, _ = image_parts(reference)
    return Image(reference, repository.partition("/")[0], tag, None, None, None)


def _of_manifests(reference: str, manifests: Path | None) -> Image | None:
    if manifests is None:
        return None
    tag = image_parts(reference)[1] or reference
    for image in read_manifests(manifests):
        if image.tag == tag:
            return replace(
                _plain(reference),
                layers=len(image.layers),
                wire_bytes=image.compressed_bytes,
                unpacked_bytes=image.unpacked_bytes,
            )
    return None


def _of_clusters(reference: str, clusters: Sequence[Cluster]) -> Image | None:
    for cluster in clusters:
        for image in cluster.images.values():
            if reference in {image.name, image.tag, image.name.partition("@")[0]}:
                return image
    return None


def _of_tag(reference: str) -> Image | None:
    repository, tag, layers, size = image_parts(reference)
    if layers is None and not repository.count("/"):
        repository, tag, layers, size = image_parts(f"x:{reference}")
    if layers is None:
        return None
    return Image(reference, repository.partition("/")[0], tag, layers, size, None)


def _of_registry(reference: str) -> Image:
    command = [sys.executable, "-m", "images", "inspect", "--json", reference]
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
    facts = json.loads(done.stdout)
    return replace(
        _plain(reference),
        layers=len(facts["layers"]),
        wire_bytes=facts["compressed"],
        unpacked_bytes=facts["unpacked"] or None,
    )


def _unknown(reference: str, why: str) -> UnknownImageError:
    return UnknownImageError(
        f"Layers and bytes of {reference} are unknown: {why.rstrip('.')}.",
        "give --layers, --compressed-bytes and --unpacked-bytes",
    )
