"""Makes an image's layers and pushes them to one or several registries at once.

Layers are made and sent in parallel; the manifest is stored last, so a tag never names an image
that is not complete. Memory is bounded by the jobs, not by the image.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from images.errors import BadImageError, DigestError, TagExistsError
from images.make.base import Base
from images.make.compression import compressor, compressor_name
from images.make.journal import LayerRecord, layer_key, recall, remember
from images.make.layer_stream import Cancelled, LayerStream, OnBytes, ignore
from images.make.manifest import MANIFEST_TYPE, Layer, Making, Origin, make_config, make_manifest
from images.make.plan import BUSYBOX, ImagePlan
from images.make.remote import RemoteImage, find_remote
from images.make.tee import Tee
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import Blob, mount_blob, upload_blob, upload_bytes

RUN_NOTHING = ("/bin/true",)

_MOST_JOBS = 8
"""Default limit of parallel layers: each takes some MiB of memory and a connection."""

Result = TypeVar("Result")
Stored = tuple[Layer, int, int]
"""A layer, the bytes sent for it to all places, and the bytes of its tar."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A complete image in one or several places; `size` is that of its content without the base.

    `sent` counts the bytes of blobs, without those that the registries already had.
    """

    targets: tuple[Target, ...]
    digest: str
    layers: tuple[Layer, ...]
    size: int
    sent: int

    @property
    def target(self) -> Target:
        """The first place."""
        return self.targets[0]

    @property
    def compressed(self) -> int:
        """Bytes of all layers in a registry."""
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class _Place:
    """A repository to push to."""

    registry: Registry
    target: Target

    def __str__(self) -> str:
        return str(self.target.with_tag(""))

    def has(self, layer: LayerRecord) -> bool:
        """Whether the layer is there, or could be mounted from a repository beside it."""
        repository = self.target.repository
        if self.registry.has_blob(repository, layer.digest):
            return True
        for place in layer.places:
            registry, _, other = place.partition("/")
            if registry == self.registry.name and other != repository:
                return mount_blob(self.registry, repository, layer.digest, other)
        return False


def push_plan(
    plan: ImagePlan,
    targets: Sequence[Target],
    base: Base,
    *,
    command: tuple[str, ...] = RUN_NOTHING,
    overwrite: bool = False,
    jobs: int | None = None,
    on_bytes: OnBytes = ignore,
) -> BuiltImage:
    """Make a plan's layers once for all targets, push them, then the manifest with each tag.

    `base` is that which `plan.base` names, `command` a container's default; the rest is as in
    `images.make.build.build_image`.
    """
    origin = Origin(
        plan=plan,
        compressor=compressor_name(plan.compression),
        busybox=base.id if base.name == BUSYBOX else "",
    )
    with ExitStack() as stack:
        found, missing = None, []
        for target in targets:
            registry = Registry(target.registry, push=True)
            place = _Place(stack.enter_context(registry), target)
            existing = _existing(place, origin, command, overwrite=overwrite)
            found = found or existing
            if existing is None:
                missing.append(place)
        if found is not None and not missing:
            on_bytes(plan.size)
            return BuiltImage(tuple(targets), found.target.digest, found.image.layers, plan.size, 0)
        done = _Push(plan, missing, base, on_bytes).run(jobs)
        layers = [layer for layer, _, _ in done]
        config = make_config(
            architecture=base.architecture,
            layers=layers,
            making=Making(origin=origin, unpacked=tuple(tar for _, _, tar in done)),
            command=command,
            inherited=base.config,
        )
        sent = sum(size for _, size, _ in done)
        digest = ""
        for place in missing:
            blob = upload_bytes(place.registry, place.target.repository, config)
            sent += blob.size if blob.sent else 0
            manifest = make_manifest(blob.digest, blob.size, layers)
            digest = place.registry.put_manifest(place.target, MANIFEST_TYPE, manifest)
    return BuiltImage(tuple(targets), digest, tuple(layers), plan.size, sent)


@dataclass(frozen=True, slots=True)
class _Push:
    """The push of one image's layers to all places that lack the image."""

    plan: ImagePlan
    places: list[_Place]
    base: Base
    on_bytes: OnBytes
    cancelled: Event = field(default_factory=Event)

    def run(self, jobs: int | None) -> list[Stored]:
        """Push all layers; return them in order."""
        cores = os.cpu_count() or 1
        jobs = jobs or min(cores + 2, _MOST_JOBS)
        # Enough blocks to use all cores: many of one layer, or a few of each of many.
        ahead = max(2, -(-2 * cores // min(jobs, len(self.plan.layers))))
        with (
            ThreadPoolExecutor(cores, "compress") as pool,
            ThreadPoolExecutor(jobs, "layer") as workers,
        ):
            layers = range(len(self.plan.layers))
            tasks = [workers.submit(self._layer, index, pool, ahead) for index in layers]
            try:
                return _results(tasks)
            except BaseException:
                # A layer failed or the user interrupted: stop the others.
                self.cancelled.set()
                workers.shutdown(wait=False, cancel_futures=True)
                raise

    def _layer(self, index: int, pool: Executor, ahead: int) -> Stored:
        base = self.base if index == 0 else None
        key = layer_key(self.plan, index, base.id if base else "")
        compress = compressor(self.plan.compression, self.plan.level)
        stream = LayerStream(
            self.plan.layers[index], base, compress, pool, ahead, self.on_bytes, self.cancelled
        )
        record = recall(key)
        missing = [place for place in self.places if record is None or not place.has(record)]
        sent = 0
        if record is None or missing:
            blobs = self._upload(missing, stream)
            sent = sum(blob.size for blob in blobs if blob.sent)
            places = record.places if record and record.digest == blobs[0].digest else ()
            record = LayerRecord(
                digest=blobs[0].digest,
                size=blobs[0].size,
                diff_id=stream.diff_id,
                unpacked=stream.unpacked,
                places=places,
            )
        stream.finish_progress()
        places = tuple(dict.fromkeys([*record.places, *map(str, self.places)]))
        if places != record.places:
            remember(key, record.model_copy(update={"places": places}))
        layer = Layer(record.digest, record.size, record.diff_id, self.plan.compression)
        return layer, sent, record.unpacked

    def _upload(self, places: list[_Place], stream: LayerStream) -> list[Blob]:
        if len(places) == 1:
            return [upload_blob(places[0].registry, places[0].target.repository, stream.pieces)]
        tee = Tee(stream.pieces(), len(places))

        def upload(number: int, place: _Place) -> Blob:
            first = iter([tee.read(number)])

            def content() -> Iterator[bytes]:
                if pieces := next(first, None):
                    return pieces
                # A place that needs the bytes again has them made for itself alone.
                tee.leave(number)
                return stream.pieces()

            try:
                return upload_blob(place.registry, place.target.repository, content)
            except BaseException:
                self.cancelled.set()
                raise
            finally:
                tee.leave(number)

        with ThreadPoolExecutor(len(places), "place") as pool:
            return _results([pool.submit(upload, *each) for each in enumerate(places)])


def _results(tasks: list[Future[Result]]) -> list[Result]:
    """The results in order, or the error that was the cause of the others."""
    done, others = wait(tasks, return_when=FIRST_EXCEPTION)
    if not others or all(isinstance(task.exception(), Cancelled | None) for task in done):
        done, _ = wait(tasks)  # whatever cancelled the first ends soon
    if errors := [error for task in done if (error := task.exception())]:
        raise min(errors, key=lambda error: isinstance(error, Cancelled))
    return [task.result() for task in tasks]


def _existing(
    place: _Place, origin: Origin, command: tuple[str, ...], *, overwrite: bool
) -> RemoteImage | None:
    """The image if its tag already names it, None if it has to be pushed."""
    try:
        found = find_remote(place.registry, place.target)
    except (BadImageError, DigestError):
        # Not an image, or a damaged one: an error unless it may be replaced.
        if overwrite:
            return None
        raise
    making = found.image.making if found else None
    if found is None or (making and (making.origin, found.image.command) == (origin, command)):
        return found
    if overwrite:
        return None
    problem = f"{place.target} already names another image ({found.target.digest}); studies that"
    fix = "choose another --salt, or replace it with --overwrite"
    raise TagExistsError(f"{problem} pulled it would not notice the change.", fix)
