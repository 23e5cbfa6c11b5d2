"""The registry of simulated nodes: answers what images would be like, and has not a byte of them.

Manifest and config are of the form that images.make.build gives a real image, with layers,
compressed and uncompressed sizes by its plan, but digests stand for a description of a layer and
not for its bytes. Both are marked as simulated. A blob of a layer is refused.
"""

import hashlib
import threading
from dataclasses import dataclass, replace

from aiohttp import web

from images.make.manifest import MANIFEST_TYPE, Layer, Making, Origin, make_config, make_manifest
from images.make.plan import Compression, ImagePlan, LayerPlan, plan_image
from images.make.push import RUN_NOTHING
from rehearsal.machine.web import Call
from rehearsal.real_nodes.mirror import find_claim, refuse, registry_routes
from schema.errors import UserError
from schema.image_tag import ImageTag

ORIGINAL = "converged-computing/container-chonks"
"""Repositories of the original study begin so; what they hold is known from its manifests."""
_ZEROS = 0.999028
_BASE_BYTES = 2_220_000
"""Its images are zeros, which gzip shrinks to 0.1 %, on a busybox (run1's six manifests)."""
_MADE = 0.5
"""Of images that are made by this program (images.make.build)."""

COMPRESSOR = "simulated: no layer was made"
"""What a claim says in the place of the compressor that an image was made by."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An image that does not exist.

    Attributes:
        manifest: as a registry serves it.
        config: as a registry serves it.
    """

    manifest: bytes
    config: bytes

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return _digest(self.manifest)


def make_claim(repository: str, tag: ImageTag, scale: float) -> Claim:
    """Manifest and config of the image that a name would stand for; pure."""
    original = ORIGINAL in repository
    plan = plan_image(tag, scale=scale, compressibility=_ZEROS if original else _MADE)
    layers = [_layer(plan, layer) for layer in plan.layers]
    if original:
        layers[0] = replace(layers[0], size=layers[0].size + _BASE_BYTES)
    origin = Origin(plan=plan, compressor=COMPRESSOR)
    making = Making(origin=origin, unpacked=tuple(layer.size for layer in plan.layers))
    config = make_config(architecture="amd64", layers=layers, making=making, command=RUN_NOTHING)
    manifest = make_manifest(_digest(config), len(config), layers)
    return Claim(manifest, config)


def claim_routes(scale: float) -> list[web.RouteDef]:
    """The routes of a registry that describes images by tags in the study's form."""
    guard = threading.Lock()
    blobs: dict[str, bytes] = {}

    def manifest(call: Call) -> web.Response:
        repository, reference = call.path["repository"], call.path["reference"]
        tag = find_claim(repository, reference)
        if tag is not None:
            try:
                claim = make_claim(repository, tag, scale)
            except UserError as error:
                return refuse(500, "UNKNOWN", error.problem)
            with guard:
                blobs[claim.digest] = claim.manifest
                blobs[_digest(claim.config)] = claim.config
            reference = claim.digest
        if reference not in blobs:
            return refuse(
                404,
                "MANIFEST_UNKNOWN",
                f"{repository}:{reference} is not in the rehearsal's registry, which has only "
                "images with tags in the form LAYERS-layers-size-BYTES-bytes",
            )
        return _content(blobs[reference], MANIFEST_TYPE)

    def blob(call: Call) -> web.Response:
        digest = call.path["digest"]
        if digest not in blobs:
            return refuse(404, "BLOB_UNKNOWN", "layers of simulated images have no bytes")
        return _content(blobs[digest], "application/octet-stream")

    return registry_routes(manifest, {"/v2/{repository:.+}/blobs/{digest}": blob})


def _layer(plan: ImagePlan, layer: LayerPlan) -> Layer:
    # the same content is the same layer to a node, however it is compressed
    content = f"simulated layer {layer.model_dump_json()}"
    stored = f"{content} {plan.compression} {plan.level}"
    saved = 0.0 if plan.compression is Compression.NONE else layer.compressibility
    return Layer(
        digest=_digest(stored.encode()),
        size=max(1, round(layer.size * (1 - saved))),
        diff_id=_digest(content.encode()),
        compression=plan.compression,
    )


def _content(content: bytes, media_type: str) -> web.Response:
    headers = {"Docker-Content-Digest": _digest(content)}
    return web.Response(body=content, content_type=media_type, headers=headers)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
