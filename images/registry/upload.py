"""Uploads a blob whose digest is known only when its last byte is made.

A short blob is buffered, so its digest is known first and it is not sent to a registry that has it.
A long one is sent as docker does: one streamed PATCH, then a PUT with the digest. Artifact Registry
refuses several PATCHes and ghcr.io accepts at most 4 MiB in one with a length, but both accept a
stream.

If the stream breaks, the same bytes are made again and sent from the start, as docker, skopeo and
go-containerregistry do: few registries keep half an upload, and some report a wrong length of it.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from images.errors import DigestError, RegistryError
from images.registry.client import Answer, Registry, UnencryptedError, Unreachable
from schema.errors import UserError

Content = Callable[[], Iterator[bytes]]
"""Makes a blob's bytes from the start; every call yields the same."""

_SHORT = 1 << 20
"""Most bytes of a blob that is buffered."""
_TRIES = 6
_STORED = {201, 202, 204}
"""Answers to a PATCH: 202 in the specification, 201 on ECR; others accept 204 too."""
_RETRIED = {404, 408, 416, 429}
"""Statuses of a lost upload, a slow one, one at another offset, and too many requests."""
_BINARY = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in a registry; `sent`: False if the registry already had it."""

    digest: str
    size: int
    sent: bool


def upload_blob(registry: Registry, repository: str, content: Content) -> Blob:
    """Upload a blob to a repository.

    Raises:
        RegistryError: the registry refuses it, does not answer, or has other bytes than were sent.
    """
    pieces = content()
    head: list[bytes] = []
    length = 0
    for piece in pieces:
        head.append(piece)
        length += len(piece)
        if length > _SHORT:
            return _stream(registry, repository, content, itertools.chain(head, pieces))
    return upload_bytes(registry, repository, b"".join(head))


def upload_bytes(registry: Registry, repository: str, data: bytes) -> Blob:
    """Upload a blob that is in memory, unless the registry has it; raises as `upload_blob`."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if registry.has_blob(repository, digest):
        return Blob(digest, len(data), sent=False)
    _finish(registry, repository, _begin(registry, repository), digest, data)
    return Blob(digest, len(data), sent=True)


def mount_blob(registry: Registry, repository: str, digest: str, source: str) -> bool:
    """Share a blob of another repository of the same registry; return whether it did.

    It does not if the source lacks the blob, or if the user may push here but not read there.
    """
    query = urlencode({"mount": digest, "from": source})
    url = f"/v2/{repository}/blobs/uploads/?{query}"
    with suppress(UserError):
        answer = registry.request("POST", url, repository=repository)
        if answer.status == HTTPStatus.ACCEPTED and answer.location:
            # Not mounted: the registry opened an upload instead, which is not needed.
            registry.request("DELETE", answer.location, repository=repository)
        return answer.status == HTTPStatus.CREATED
    return False


def _stream(registry: Registry, repository: str, content: Content, pieces: Iterator[bytes]) -> Blob:
    location, failures = "", 0
    while True:
        try:
            return _send(registry, repository, location, pieces)
        except _RetryError as again:
            failures += 1
            if failures >= _TRIES:
                raise again.cause from None
            location, pieces = again.location, content()
            time.sleep(max(again.seconds, min(2.0**failures / 2, 30)))


def _send(registry: Registry, repository: str, location: str, pieces: Iterator[bytes]) -> Blob:
    sha, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in pieces:
            sha.update(piece)
            size += len(piece)
            yield piece

    location = location or _begin(registry, repository)
    upload: dict[str, Any] = {"repository": repository, "headers": _BINARY, "data": counted()}
    try:
        answer = registry.request("PATCH", location, **upload)
    except Unreachable as error:
        raise _RetryError(error) from error
    if answer.status not in _STORED:
        _raise_or_retry(registry, repository, answer)
    digest = f"sha256:{sha.hexdigest()}"
    try:
        _finish(registry, repository, answer.location or location, digest, b"")
    except (DigestError, UnencryptedError):
        raise
    except RegistryError as error:
        raise _RetryError(error) from error
    return Blob(digest, size, sent=True)


@dataclass
class _RetryError(Exception):
    """The upload failed in a way that a retry may fix, after `seconds`, at `location` if known."""

    cause: RegistryError
    seconds: float = 0
    location: str = ""


def _raise_or_retry(registry: Registry, repository: str, answer: Answer) -> None:
    try:
        registry.expect(answer, set(), f"sending a layer to {repository}")
    except RegistryError as error:
        if answer.status in {307, 308}:
            # The bytes are gone with the request, so they are made again for the new place.
            raise _RetryError(error, location=answer.location) from error
        if answer.status in {401, 403}:
            registry.authenticate(answer, repository)
        elif answer.status not in _RETRIED and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        raise _RetryError(error, answer.retry_after) from error


def _begin(registry: Registry, repository: str) -> str:
    what = f"opening an upload to {repository}"
    answer = registry.request("POST", f"/v2/{repository}/blobs/uploads/", repository=repository)
    registry.expect(answer, {202}, what)
    if not answer.location:
        raise RegistryError(f"{registry.name} returned no location when {what}.")
    return answer.location


def _finish(registry: Registry, repository: str, location: str, digest: str, data: bytes) -> None:
    url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
    answer = registry.request("PUT", url, repository=repository, headers=_BINARY, data=data)
    try:
        registry.expect(answer, {201}, f"storing blob {digest} in {repository}")
    except RegistryError:
        # A PUT that succeeded but lost its answer finds no upload when it is retried.
        if registry.has_blob(repository, digest):
            return
        raise
    stored = answer.headers.get("Docker-Content-Digest", digest)
    if stored != digest:
        problem = f"{registry.name} stored {stored}, but {digest} was sent: bytes were altered."
        raise DigestError(problem, "run the same command again")
