"""Makes and pushes an image's layers in parallel, then the manifest.

The manifest is stored last and names everything by digest, so a tag is either absent or complete.
"""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from images.errors import BadImageError, DigestError, PlanError, TagExistsError
from images.make.base import copy_layer
from images.make.busybox import Busybox, find_busybox
from images.make.compression import compressor, compressor_name
from images.make.journal import LayerRecord, layer_key, recall, remember
from images.make.layer_stream import LayerStream, OnBytes
from images.make.manifest import Layer, Making, Origin, make_config, make_manifest, manifest_type
from images.make.plan import Compression, ImagePlan, Media
from images.make.remote import RemoteImage, find_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import mount_blob, upload_blob, upload_bytes

RUN_NOTHING = ("/bin/true",)

_MOST_JOBS = 8
"""Default limit of parallel layers: each takes some MiB of memory and a connection."""

Stored = tuple[Layer, int, int]
"""A layer, the bytes sent for it, and the bytes of its tar (0 for a layer of the base)."""

Task = Callable[[], Stored]


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A complete image in a registry.

    Attributes:
        target: registry, repository and tag.
        digest: of the manifest, `sha256:...`.
        layers: lowest first.
        size: content bytes, without the base.
        sent: bytes of blobs sent, without those that the registry already had.
    """

    target: Target
    digest: str
    layers: tuple[Layer, ...]
    size: int
    sent: int

    @property
    def compressed(self) -> int:
        """Bytes of all layers in the registry."""
        return sum(layer.size for layer in self.layers)


def push_plan(
    plan: ImagePlan,
    target: Target,
    registry: Registry,
    *,
    base: RemoteImage | None = None,
    command: tuple[str, ...] = RUN_NOTHING,
    overwrite: bool = False,
    jobs: int | None = None,
    on_bytes: OnBytes | None = None,
) -> BuiltImage:
    """Make and push a plan's layers, then the manifest with the target's tag.

    Args:
        plan: the image.
        target: destination, with a tag.
        registry: the target's.
        base: the image that `plan.base` names, None for busybox.
        command: default command of a container.
        overwrite: replace a tag that names another image.
        jobs: parallel layers; None: two more than this machine's cores, at most 8.
        on_bytes: called with content bytes done, from several threads.

    Raises:
        PlanError: the media types do not support the compression.
        TagExistsError: the tag names another image.
        UserError: the base or the registry fails.
    """
    if plan.media is Media.DOCKER and plan.compression is Compression.ZSTD:
        raise PlanError("Docker's manifests have no media type for zstd.", "use --media oci")
    busybox = find_busybox() if base is None else None
    origin = Origin(
        plan=plan,
        compressor=compressor_name(plan.compression),
        busybox=busybox.sha256 if busybox else "",
    )
    existing = _existing(registry, target, overwrite=overwrite)
    if existing is not None and _was_made_from(existing, origin, command):
        if on_bytes is not None:
            on_bytes(plan.size)
        return BuiltImage(target, existing.digest, existing.image.layers, plan.size, 0)
    if existing is not None and not overwrite:
        raise TagExistsError(
            f"{target} already names another image ({existing.digest}); studies that pulled "
            "it would not notice the change.",
            "choose another --salt, or replace it with --overwrite",
        )
    done = _Push(
        plan=plan, target=target, registry=registry, base=base, busybox=busybox, on_bytes=on_bytes
    ).run(jobs)
    layers = [layer for layer, _, _ in done]
    unpacked = tuple(tar for _, _, tar in done if tar)
    config = make_config(
        architecture=busybox.architecture if busybox else _architecture(base),
        layers=layers,
        making=Making(origin=origin, unpacked=unpacked),
        command=command,
        inherited=base.image.config.get("config") if base else None,
    )
    stored = upload_bytes(registry, target.repository, config)
    manifest = make_manifest(plan.media, stored.digest, stored.size, layers)
    digest = registry.put_manifest(target, manifest_type(plan.media), manifest)
    sent = sum(size for _, size, _ in done) + (stored.size if stored.sent else 0)
    return BuiltImage(target, digest, tuple(layers), plan.size, sent)


@dataclass(frozen=True, slots=True)
class _Push:
    """The push of one image's layers."""

    plan: ImagePlan
    target: Target
    registry: Registry
    base: RemoteImage | None
    busybox: Busybox | None
    on_bytes: OnBytes | None
    cancelled: Event = field(default_factory=Event)

    def run(self, jobs: int | None) -> list[Stored]:
        """Push all layers; return them in order."""
        cores = os.cpu_count() or 1
        jobs = jobs or min(cores + 2, _MOST_JOBS)
        # Enough blocks to use all cores: many of one layer, or a few of each of many.
        ahead = max(2, -(-2 * cores // min(jobs, len(self.plan.layers))))
        with (
            self._source() as source,
            ThreadPoolExecutor(cores, "compress") as pool,
            ThreadPoolExecutor(jobs, "layer") as workers,
        ):
            tasks = [
                workers.submit(task)
                for task in [*self._base_tasks(source), *self._own_tasks(pool, ahead)]
            ]
            try:
                done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
                for task in done:
                    task.result()
                return [task.result() for task in tasks]
            except BaseException:
                # A layer failed or the user interrupted: stop the others.
                self.cancelled.set()
                workers.shutdown(wait=False, cancel_futures=True)
                raise

    def _source(self) -> AbstractContextManager[Registry | None]:
        return Registry(self.base.target.registry) if self.base else nullcontext()

    def _base_tasks(self, source: Registry | None) -> list[Task]:
        if self.base is None or source is None:
            return []
        origin = self.base.target
        return [partial(self._copy, source, origin, layer) for layer in self.base.image.layers]

    def _own_tasks(self, pool: Executor, ahead: int) -> list[Task]:
        return [partial(self._layer, index, pool, ahead) for index in range(len(self.plan.layers))]

    def _copy(self, source: Registry, origin: Target, layer: Layer) -> Stored:
        sent = copy_layer(source, origin, layer, self.registry, self.target.repository)
        return layer, sent, 0

    def _layer(self, index: int, pool: Executor, ahead: int) -> Stored:
        busybox = self.busybox if index == 0 else None
        key = layer_key(self.plan, index, busybox.sha256 if busybox else "")
        stream = LayerStream(
            self.plan.layers[index],
            busybox,
            compressor(self.plan.compression, self.plan.level),
            pool,
            ahead=ahead,
            on_bytes=self.on_bytes,
            cancelled=self.cancelled,
        )
        record, sent = self._store(recall(key), stream)
        stream.finish_progress()
        place = f"{self.target.registry}/{self.target.repository}"
        if place not in record.places:
            record = record.model_copy(update={"places": (*record.places, place)})
            remember(key, record)
        layer = Layer(record.digest, record.size, record.diff_id, self.plan.compression)
        return layer, sent, record.unpacked

    def _store(self, known: LayerRecord | None, stream: LayerStream) -> tuple[LayerRecord, int]:
        if known is not None and self._exists(known):
            return known, 0
        blob = upload_blob(self.registry, self.target.repository, stream.pieces)
        places = known.places if known is not None and known.digest == blob.digest else ()
        record = LayerRecord(
            digest=blob.digest,
            size=blob.size,
            diff_id=stream.diff_id,
            unpacked=stream.unpacked,
            places=places,
        )
        return record, blob.size if blob.sent else 0

    def _exists(self, known: LayerRecord) -> bool:
        repository = self.target.repository
        if self.registry.has_blob(repository, known.digest):
            return True
        for place in known.places:
            registry, _, other = place.partition("/")
            if registry == self.registry.name and other != repository:
                return mount_blob(self.registry, repository, known.digest, other)
        return False


def _existing(registry: Registry, target: Target, *, overwrite: bool) -> RemoteImage | None:
    try:
        return find_remote(registry, target)
    except (BadImageError, DigestError):
        # Not an image, or a damaged one: an error unless it may be replaced.
        if overwrite:
            return None
        raise


def _was_made_from(existing: RemoteImage, origin: Origin, command: tuple[str, ...]) -> bool:
    making = existing.image.making
    return making is not None and making.origin == origin and existing.image.command == command


def _architecture(base: RemoteImage | None) -> str:
    return str(base.image.config.get("architecture", "amd64")) if base else "amd64"
