"""What is known of an image that somebody asks about: from the data at hand, or from its registry.

A registry is asked by this project's own `python -m images inspect`, a program of its own, so that
the analysis needs no client of a registry.
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

_PATIENCE_S = 60


class UnknownImageError(UserError):
    """Nothing at hand, and no registry, knows an image."""


def find_image(
    reference: str,
    clusters: Sequence[Cluster],
    manifests: Path | None,
    *,
    layers: int | None = None,
    compressed_bytes: int | None = None,
    unpacked_bytes: int | None = None,
) -> Image:
    """Layers and bytes of an image; what is given outright goes before what is found.

    Looks at saved manifests, then at the recorded images, then at the tag, then asks the registry
    unless all three numbers are given.

    Raises:
        UnknownImageError: nothing knows it.
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
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unknown(reference, f"its registry did not answer in {_PATIENCE_S} s") from None
    if done.returncode != 0:
        why = done.stderr.strip().partition("\n")[0].removeprefix("Error: ")
        raise _unknown(reference, why or "no registry knows it")
    facts = json.loads(done.stdout)
    return replace(
        _plain(reference),
        layers=len(facts["layers"]),
        wire_bytes=facts["compressed"],
        unpacked_bytes=facts["unpacked"] or None,
    )


def _unknown(reference: str, why: str) -> UnknownImageError:
    return UnknownImageError(
        f"Layers and bytes of {reference} are not known: {why.rstrip('.')}.",
        "give --layers, --compressed-bytes and --unpacked-bytes",
    )
