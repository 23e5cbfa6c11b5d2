"""The registry as planners of a study see it: builds the study's images on first request.

A registry in Google's or GitHub's place has the images; a rehearsal makes each at its scale the
first time that its tag is looked up, then leads to the local registry, which serves everything.
Nodes do not come through here: what they pull was looked up before.
"""

import json
import threading
from collections.abc import Callable, Mapping

import requests
from aiohttp import web

from images.make.build import build_image, build_pause
from images.registry.reference import Target, parse_target
from rehearsal.faults.registry import VIEW
from rehearsal.machine.web import Call, Handler, route
from rehearsal.real_nodes import flux_images
from rehearsal.real_nodes.registry import LocalRegistry
from schema.errors import UserError
from schema.image_tag import ImageTag, find_tag
from schema.names import REMOVER_IMAGE

_OCI = "application/vnd.oci.image.manifest.v1+json"
_MANIFEST_TYPES = (
    f"{_OCI}, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
_TIMEOUT_S = 30.0
_REMOVER = ImageTag(1, 1, "remover")
"""Stands for the image that removes others: any image that is made here holds busybox."""
_VIEW = ImageTag(1, 370_000_000, "flux")
"""Stands for an image of Flux, of which container-chonks' nodes received 185 MB."""


class ImageMaker:
    """Makes images in the local registry, each once. Safe to use from several threads."""

    def __init__(self, registry: LocalRegistry, scale: float, say: Callable[[str], None]) -> None:
        self._registry = registry
        self._scale = scale
        self._say = say
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, ImageTag], threading.Lock] = {}
        self._made: set[tuple[str, ImageTag]] = set()

    def make_pause(self) -> None:
        """Make the image of pods' sandboxes."""
        build_pause(parse_target(self._registry.pause_image))

    def make(self, repository: str, tag: ImageTag, name: str = "") -> None:
        """Build the image of a tag unless the tag already names that image."""
        key = (repository, tag)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key in self._made:
                return
            target = Target(self._registry.address, repository, name)
            if flux_images.needs_bash(repository):
                built = flux_images.build(tag, target, scale=self._scale)
            else:
                built = build_image(tag, target, scale=self._scale, overwrite=True)
            self._made.add(key)
            origin = f"made, {built.sent / 1e6:.1f} MB sent" if built.sent else "there already"
            self._say(f"image {repository}:{name or tag}: {origin}")


def find_claim(repository: str, tag: str) -> ImageTag | None:
    """Return an image's claim: from its tag, or from its name if the runner needs it."""
    needed, version = REMOVER_IMAGE
    if (repository, tag) == (needed.partition("/")[2], version):
        return _REMOVER
    if VIEW in repository:
        return _VIEW
    return find_tag(tag)


def mirror_routes(registry: LocalRegistry, maker: ImageMaker) -> list[web.RouteDef]:
    """The routes of the mirror."""

    def manifest(call: Call) -> web.Response:
        repository, tag = call.path["repository"], call.path["reference"]
        if ":" in tag:  # a digest: of an image that was looked up by its tag before
            return _redirect(call, registry)
        claimed = find_claim(repository, tag)
        if claimed is None and not _is_there(registry, repository, tag):
            return refuse(
                404,
                "MANIFEST_UNKNOWN",
                f"{repository}:{tag} is not in the rehearsal's registry, which builds only "
                "images with tags in the form LAYERS-layers-size-BYTES-bytes",
            )
        try:
            if claimed:
                maker.make(repository, claimed, tag)
        except UserError as error:
            return refuse(500, "UNKNOWN", error.problem)
        return _redirect(call, registry)

    def other(call: Call) -> web.Response:
        return _redirect(call, registry)

    return registry_routes(manifest, {"/v2/{path:.*}": other})


def registry_routes(manifest: Handler, others: Mapping[str, Handler]) -> list[web.RouteDef]:
    """The routes of the registry's protocol (/v2/...), read-only."""
    paths = {"/v2/": _ping, "/v2/{repository:.+}/manifests/{reference}": manifest, **others}
    return [
        route(method, path, handler)
        for method in ("GET", "HEAD")
        for path, handler in paths.items()
    ]


def system_routes() -> list[web.RouteDef]:
    """The routes that answer for the images of the system's pods; must come before other manifests.

    Only an image's own registry has what its digest names, and in a rehearsal nothing pulls these
    (rehearsal.cluster.pod_host): the content is a manifest without layers.
    """

    def manifest(_: Call) -> web.Response:
        content = {"schemaVersion": 2, "mediaType": _OCI, "layers": []}
        return web.Response(body=json.dumps(content), content_type=_OCI)

    repositories = ".*(kubernetes-event-exporter|flux-operator)"
    path = rf"/v2/{{repository:{repositories}}}/manifests/{{digest:sha256:\w{{64}}}}"
    return [route("GET", path, manifest)]  # aiohttp answers HEAD by it too


def _ping(_: Call) -> web.Response:
    """Return that this is a registry."""
    return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})


def _redirect(call: Call, registry: LocalRegistry) -> web.Response:
    query = f"?{call.query_string}" if call.query_string else ""
    location = f"{registry.url}{call.url_path}{query}"
    return web.Response(status=307, headers={"Location": location})


def _is_there(registry: LocalRegistry, repository: str, tag: str) -> bool:
    url = f"{registry.url}/v2/{repository}/manifests/{tag}"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.head(url, headers={"Accept": _MANIFEST_TYPES}, timeout=_TIMEOUT_S)
    return answer.ok


def refuse(status: int, code: str, message: str) -> web.Response:
    """Return an error as registries answer it."""
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)
