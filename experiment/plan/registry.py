"""Resolves images in registries: digest, layers, their compressed bytes and diff ids.

skopeo implements the protocol, the credentials (docker's config.json and helpers) and the mirrors
(registries.conf). No layer is downloaded.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from experiment.errors import Failure, PreflightError, RegistryError, registry_failure
from experiment.plan.trial_order import copy_tags
from schema.names import REMOVER_DIGEST, REMOVER_DIGEST_VARIABLE, REMOVER_IMAGE
from schema.run_records import Layer, PlannedImage
from schema.study import Study, Workload

_TIMEOUT_S = 300
_PARALLEL = 4
_TRIES = 3
_Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")]
Read = TypeVar("Read", bound=BaseModel)
_PLATFORM = ("--override-os", "linux", "--override-arch", "amd64")


class _Platform(BaseModel):
    os: str = ""
    architecture: str = ""


class _Entry(BaseModel):
    digest: _Digest
    platform: _Platform = _Platform()


class _Blob(BaseModel):
    digest: _Digest
    size: int = Field(ge=0, lt=1 << 63)


class _Manifest(BaseModel):
    manifests: tuple[_Entry, ...] | None = None
    layers: tuple[_Blob, ...] = ()


class _Rootfs(BaseModel):
    diff_ids: tuple[_Digest, ...] = ()


class _Config(BaseModel):
    rootfs: _Rootfs = _Rootfs()


def resolve_images(study: Study) -> tuple[PlannedImage, ...]:
    """Resolve all images of a study, in the study's order.

    Raises:
        RegistryError: an image does not exist or the registry does not answer.
        PreflightError: skopeo is not installed.
    """
    return _resolve([(group.repository, tag) for group in study.images for tag in group.tags])


def resolve_copies(study: Study) -> tuple[tuple[PlannedImage, ...], ...]:
    """Resolve the images of the second and later repetitions, if they have their own.

    Raises:
        RegistryError: an image does not exist or the registry does not answer.
    """
    return tuple(_resolve(names) for names in copy_tags(study))


def resolve_view(study: Study) -> PlannedImage | None:
    """Resolve the image of Flux of a study of MiniClusters; None for another study.

    Raises:
        RegistryError: it does not exist or the registry does not answer.
    """
    if study.workload is not Workload.MINICLUSTER or study.flux_view is None:
        return None
    repository, _, tag = study.flux_view.rpartition(":")
    return resolve_image(repository, tag)


def _resolve(names: Sequence[tuple[str, str]]) -> tuple[PlannedImage, ...]:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return tuple(pool.map(lambda name: resolve_image(*name), names))


def resolve_image(repository: str, tag: str) -> PlannedImage:
    """Resolve one image for linux/amd64.

    Raises:
        RegistryError: the image does not exist or the registry does not answer.
    """
    name = f"{repository}:{tag}"
    top = _skopeo(name, "--raw")
    digest = f"sha256:{hashlib.sha256(top).hexdigest()}"
    manifest = _read(_Manifest, top, name)
    if manifest.manifests is not None:
        pinned = f"{repository}@{_platform_digest(manifest.manifests, name)}"
        manifest = _read(_Manifest, _skopeo(pinned, "--raw"), pinned)
    config = _read(_Config, _skopeo(f"{repository}@{digest}", "--config"), name)
    return PlannedImage(
        repository=repository, tag=tag, digest=digest, layers=_layers(manifest, config, name)
    )


def resolve_remover() -> PlannedImage:
    """Resolve the removing pods' image, which must be the one that this program knows.

    Raises:
        RegistryError: it does not exist, the registry does not answer, or its tag names another.
    """
    remover = resolve_image(*REMOVER_IMAGE)
    known = os.environ.get(REMOVER_DIGEST_VARIABLE, REMOVER_DIGEST)
    if known and remover.digest != known:
        raise RegistryError(
            f"{remover.repository}:{remover.tag} is {remover.digest} in its registry, not {known}, "
            "and its pods would have all rights on the nodes.",
            f"find out why; to accept that image: export {REMOVER_DIGEST_VARIABLE}=DIGEST",
        )
    return remover


def check_digest(name: str) -> None:
    """Check that the image REPOSITORY@DIGEST is in its registry.

    Raises:
        RegistryError: it is not, or the registry does not answer.
    """
    _skopeo(name, "--raw")


def _layers(manifest: _Manifest, config: _Config, name: str) -> tuple[Layer, ...]:
    blobs, diff_ids = manifest.layers, config.rootfs.diff_ids
    if not blobs or len(blobs) != len(diff_ids):
        raise RegistryError(
            f"The manifest of {name} lists {len(blobs)} layers and its config {len(diff_ids)}, so "
            "its layers cannot be planned.",
            f"skopeo inspect --raw docker://{name}",
        )
    return tuple(
        Layer(digest=blob.digest, size_bytes=blob.size, diff_id=diff_id)
        for blob, diff_id in zip(blobs, diff_ids, strict=True)
    )


def _platform_digest(index: Sequence[_Entry], name: str) -> str:
    for entry in index:
        if (entry.platform.os, entry.platform.architecture) == ("linux", "amd64"):
            return entry.digest
    raise RegistryError(
        f"The image {name} is not built for linux/amd64, the platform of the nodes.",
        f"skopeo inspect --raw docker://{name}",
        failure=Failure.IMAGE_MISSING,
    )


def _skopeo(name: str, what: str) -> bytes:
    command = ["skopeo", *_PLATFORM, "inspect", what, f"docker://{name}"]
    command += ["--retry-times", str(_TRIES)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise PreflightError(
            "skopeo is not on PATH, and image digests cannot be resolved without it.",
            "apt-get install skopeo (or brew install skopeo)",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RegistryError(
            f"The registry did not answer for {name} within {_TIMEOUT_S} s.",
            " ".join(command),
        ) from error
    if done.returncode != 0:
        reason = _reason(done.stderr)
        raise RegistryError(
            f"The image {name} cannot be read from its registry: {reason}.",
            f"{_fix(reason, name.split('/', maxsplit=1)[0])}; to test: {' '.join(command)}",
            failure=registry_failure(reason),
        )
    return done.stdout


_UNREACHED = (
    (
        r"auth\.json.*permission denied",
        "export XDG_RUNTIME_DIR=$(mktemp -d), since skopeo's folder in /run is another user's",
    ),
    (
        r"no such host|server misbehaving|name resolution",
        "connect to the network, or correct the name {host} (getent hosts {host})",
    ),
    (
        r"x509|certificate|tls: ",
        "export SSL_CERT_FILE=FILE with the certificate authorities of your network",
    ),
    (
        r"network is unreachable|connection refused|i/o timeout|no route|proxyconnect",
        "connect to the network, or set HTTPS_PROXY",
    ),
    (r"unauthori[sz]ed|denied|authentication required|\b40[13]\b", "skopeo login {host}"),
    (r"manifest.?unknown|name.?unknown|not found|\b404\b", "correct the image's name in the study"),
)
"""Signs in skopeo's messages, in this order, and the fix of each cause."""


def _fix(reason: str, host: str) -> str:
    for sign, fix in _UNREACHED:
        if re.search(sign, reason, re.IGNORECASE):
            return fix.format(host=host)
    return f"skopeo login {host}, or correct the study"


def _reason(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines() or [""]
    _, found, message = lines[-1].partition("msg=")  # earlier lines are of earlier tries
    text = (message if found else lines[-1]).strip('"').replace('\\"', '"')
    return text.rstrip(".") or "no reason given"


def _read(model: type[Read], text: bytes, name: str) -> Read:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RegistryError(
            f"What the registry has under {name} is no image: {where}: {first['msg']}.",
            f"skopeo inspect --raw docker://{name}",
        ) from None
