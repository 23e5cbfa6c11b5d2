"""The registry as simulated nodes use it: manifests, and a share of its rate.

A manifest is requested once and kept; its layers are never fetched, only waited for.
"""

import asyncio
import hashlib
import json

import aiohttp

from images.errors import BadImageError
from images.make.manifest import Image, read_image
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.disk import StoredImage, StoredLayer
from rehearsal.simulated_nodes.messages import not_found, unreachable
from rehearsal.simulated_nodes.pull_model import SharedRegistry

_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_GUESS = 2.0
"""Unpacked to compressed bytes of an image that does not say what it was made of."""


class PullError(Exception):
    """A pull fails; the text is the container runtime's."""


class NodesRegistry:
    """The registry as all nodes of a cluster see it."""

    def __init__(self, mirror: str, rate: float, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        self._images: dict[str, StoredImage] = {}
        self._requests: dict[str, asyncio.Task[StoredImage]] = {}
        self._link = SharedRegistry(rate)
        self._ends: dict[int, asyncio.Future[None]] = {}
        self._wake: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        await self._session.close()

    async def resolve(self, reference: str) -> StoredImage:
        """Return the image that a reference names; raise PullError."""
        if reference not in self._images:
            request = self._requests.get(reference)
            if request is None:
                request = asyncio.create_task(self._request(reference))
                self._requests[reference] = request
                request.add_done_callback(lambda _: self._requests.pop(reference, None))
            self._images[reference] = await asyncio.shield(request)
        return self._images[reference]

    async def download(self, cap: float, size: int) -> float:
        """Wait as long as a download that shares the registry's rate takes; return node seconds.

        `cap` is the node's own limit in bytes per node second.
        """
        start = self._clock.now()
        number = self._link.join(start, cap, size)
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends[number] = end
        self._plan()
        try:
            await end
        finally:
            self._ends.pop(number, None)
        return self._clock.now() - start

    def _plan(self) -> None:
        if self._wake:
            self._wake.cancel()
        end = self._link.next_end()
        if end is None:
            self._wake = None
            return
        wait_s = max(0.0, (end - self._clock.now()) / self._clock.speed)
        self._wake = asyncio.get_running_loop().call_later(wait_s, self._finish_downloads)

    def _finish_downloads(self) -> None:
        for number in self._link.ended(self._clock.now()):
            if (end := self._ends.get(number)) and not end.done():
                end.set_result(None)
        self._plan()

    async def _request(self, reference: str) -> StoredImage:
        name, _, digest = reference.partition("@")
        host, _, path = name.partition("/")
        repository, _, tag = path.partition(":")
        try:
            manifest = await self._manifest(repository, [each for each in (digest, tag) if each])
            if manifest is None:
                raise PullError(not_found(reference))
            config = await self._get(_config_url(self._mirror, repository, manifest))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PullError(unreachable(reference, str(error))) from error
        if config is None:
            raise PullError(not_found(reference))
        try:
            image = read_image(reference, manifest, config)
        except BadImageError as error:
            raise PullError(unreachable(reference, error.problem)) from error
        own = digest or f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        return _stored(f"{host}/{repository}@{own}", image, len(manifest))

    async def _manifest(self, repository: str, names: list[str]) -> bytes | None:
        """By digest; by tag where the mirror does not know the digest yet."""
        for name in names:
            found = await self._get(f"http://{self._mirror}/v2/{repository}/manifests/{name}")
            if found is not None:
                return found
        return None

    async def _get(self, url: str) -> bytes | None:
        async with self._session.get(url, headers={"Accept": _ACCEPT}) as answer:
            if answer.status == 404:  # noqa: PLR2004
                return None
            answer.raise_for_status()
            return await answer.read()


def _config_url(mirror: str, repository: str, manifest: bytes) -> str:
    digest = json.loads(manifest)["config"]["digest"]
    return f"http://{mirror}/v2/{repository}/blobs/{digest}"


def _stored(name: str, image: Image, manifest_bytes: int) -> StoredImage:
    unpacked = image.making.unpacked if image.making else None
    layers = tuple(
        StoredLayer(
            layer.diff_id,
            layer.size,
            unpacked[index] if unpacked else round(layer.size * _GUESS),
        )
        for index, layer in enumerate(image.layers)
    )
    travels = sum(layer.compressed for layer in layers)
    return StoredImage(name, manifest_bytes + image.config_size + travels, layers)
