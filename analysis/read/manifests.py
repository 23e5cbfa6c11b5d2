"""Image manifests from files: layers, bytes and build steps.

Reads the format of the original study ({"manifests": {TAG: ...}, "configs": {TAG: ...}}, plain or
gzip), and the plan in a run folder, which has layers but no steps.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.read.lines import UnreadableFileError, collect, open_lines
from schema.errors import UserError
from schema.image_tag import find_tag

_ZEROS = re.compile(r"head -c (\d{1,18}) /dev/(?:zero|urandom)")

_MOST_BYTES = 10**18
"""A layer of more is no layer."""


class ManifestError(UserError):
    """A file has no manifests."""


@dataclass(frozen=True, slots=True)
class ManifestLayer:
    """A layer; digest and size of its compressed bytes."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """An image's layers, sizes and build steps.

    Attributes:
        tag: its tag.
        layers: lowest first.
        steps: created_by of the config's history, lower case, without spaces; empty if unknown.
        unpacked_bytes: bytes of its files, None if unknown.
        unpacked_from: 'steps' (sizes in its build steps), 'tag' (the tag's claim) or ''.
        provenance: 'measured', or what was not real in the run that planned it.
        repository: of the plan; of saved manifests the file's name if another file has the tag with
            other layers; else empty.
    """

    tag: str
    layers: tuple[ManifestLayer, ...]
    steps: tuple[str, ...]
    unpacked_bytes: int | None
    unpacked_from: str
    provenance: str = "measured"
    repository: str = ""

    @property
    def name(self) -> str:
        """What identifies it: repository:tag, or the tag of a file that names no repository."""
        return f"{self.repository}:{self.tag}" if self.repository else self.tag

    @property
    def compressed_bytes(self) -> int:
        """Compressed bytes of all layers, which a cold pull moves."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def ratio(self) -> float | None:
        """Unpacked bytes per compressed byte."""
        if self.unpacked_bytes is None or not self.compressed_bytes:
            return None
        return self.unpacked_bytes / self.compressed_bytes


def read_manifests(path: Path) -> list[ImageManifest]:
    """Return the manifests of a saved file, or of a run's plan, sorted by name.

    Raises:
        ManifestError: there is no such file, or it has no manifest.
        schema.errors.UserError: a run folder cannot be read.
    """
    images = _planned(path) if path.is_dir() else _saved(path)
    if not images:
        raise ManifestError(
            f"{path} has no manifests, so there are no layers to compare.",
            'name a run folder, or a file with {"manifests": {TAG: ...}, "configs": {TAG: ...}}',
        )
    return sorted(images, key=lambda image: image.name)


def read_all(paths: Sequence[Path]) -> list[ImageManifest]:
    """Return the manifests of several files and runs, each image once, sorted by name.

    Raises:
        ManifestError: a file has no manifest.
        schema.errors.UserError: a run folder cannot be read.
    """
    found: dict[tuple[str, tuple[ManifestLayer, ...]], tuple[ImageManifest, Path]] = {}
    for path in paths:
        for image in read_manifests(path):
            found.setdefault((image.name, image.layers), (image, path))
    counts = Counter(name for name, _ in found)
    images = [
        replace(image, repository=path.name.partition(".")[0]) if counts[image.name] > 1 else image
        for image, path in found.values()
    ]
    return sorted(images, key=lambda image: image.name)


def indexes(paths: Sequence[Path]) -> list[str]:
    """Return the tags of saved multi-platform indexes, which have no layers of their own."""
    return sorted(
        tag
        for path in paths
        if not path.is_dir()
        for tag, manifest in (_read_json(path).get("manifests") or {}).items()
        if isinstance(manifest, dict) and isinstance(manifest.get("manifests"), list)
    )


def _planned(path: Path) -> list[ImageManifest]:
    # Saved manifests do not need the modules of run folders, which are slow to import.
    from analysis.read.load_runs import find_recordings  # noqa: PLC0415

    images = {}
    for recording in find_recordings([path]):
        for trial in recording.folder.record.trials if recording.folder else ():
            layers = tuple(ManifestLayer(la.digest, la.size_bytes) for la in trial.image.layers)
            size = _claimed(trial.image.tag)
            source = "tag" if size is not None else ""
            image = trial.image
            images[image.reference] = ImageManifest(
                image.tag, layers, (), size, source, recording.provenance, image.repository
            )
    return list(images.values())


def _saved(path: Path) -> list[ImageManifest]:
    data = _read_json(path)
    manifests = data.get("manifests")
    configs = data.get("configs")
    if not isinstance(manifests, dict):
        return []
    known = configs if isinstance(configs, dict) else {}
    return [
        _image(tag, manifest, known.get(tag))
        for tag, manifest in manifests.items()
        # An index and a manifest of schema 1 have no layers to read.
        if isinstance(manifest, dict) and isinstance(manifest.get("layers"), list)
    ]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ManifestError(f"There is no file {path}.", f"ls {path.parent}")
    damaged: list[str] = []

    def note(_line: int, what: str) -> None:
        damaged.append(what)

    try:
        with open_lines(path, note) as lines:
            text = collect(lines, note, 1)
        if damaged:
            raise ManifestError(f"{path} cannot be read ({damaged[0]}).", f"ls -l {path}")
        value = json.loads(text)
    except UnreadableFileError as error:
        raise ManifestError(f"{path} is no file of manifests.", f"ls -l {path}") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not JSON ({error}).", f"head -c 300 {path}") from error
    return value if isinstance(value, dict) else {}


def _image(tag: str, manifest: dict[str, Any], config: Any) -> ImageManifest:
    layers = tuple(
        ManifestLayer(str(layer.get("digest", "")), _size(layer.get("size")))
        for layer in manifest["layers"]
        if isinstance(layer, dict)
    )
    commands = _commands(config)
    sizes = [int(size) for command in commands for size in _ZEROS.findall(command)]
    steps = tuple(command.replace(" ", "").lower() for command in commands)
    if sizes:
        return ImageManifest(tag, layers, steps, sum(sizes), "steps")
    claimed = _claimed(tag)
    return ImageManifest(tag, layers, steps, claimed, "tag" if claimed is not None else "")


def _size(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < _MOST_BYTES else 0


def _commands(config: Any) -> Sequence[str]:
    history = config.get("history") if isinstance(config, dict) else None
    if not isinstance(history, list):
        return ()
    return [
        str(step["created_by"])
        for step in history
        if isinstance(step, dict) and step.get("created_by")
    ]


def _claimed(tag: str) -> int | None:
    claim = find_tag(tag)
    return claim.size_bytes if claim else None
