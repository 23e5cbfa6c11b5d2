"""Uploads a blob whose digest is known only when its last byte is made.

A short blob is buffered, so its digest is known first and it is not sent to a registry that has it.
A long one is sent as docker does: one streamed PATCH, then a PUT with the digest. Artifact Registry
refuses several PATCHes and ghcr.io accepts at most 4 MiB in one with a length, but both accept a
stream.

If the stream breaks, the registry reports how much it has, the same bytes are made again, and only
the rest is sent. (distribution 3 supports that; 2.8 drops the upload, so the layer is sent again.)
The location of an upload is not kept for a later run: some registries sign it, so it is a secret.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import requests

from images.errors import CredentialsError, DigestError, RegistryError
from images.registry.client import Registry, Unreachable

Content = Callable[[], Iterator[bytes]]
"""Makes a blob's bytes from the start; every call yields the same."""

_SHORT = 1 << 20
"""Most bytes of a blob that is buffered."""
_TRIES = 6
"""Consecutive tries without progress before the upload fails."""
_RETRIED = {404, 408, 416, 429}
"""Statuses of a lost upload, a slow one, one at another offset, and too many requests."""
_LONGEST_WAIT = 300.0
"""Limit in seconds of a wait that the registry requests."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in a registry.

    Attributes:
        sent: False if the registry already had it.
    """

    digest: str
    size: int
    sent: bool


def upload_blob(registry: Registry, repository: str, content: Content) -> Blob:
    """Upload a blob to a repository.

    Raises:
        RegistryError: the registry refuses it or does not answer.
        DigestError: the registry has other bytes than were sent.
    """
    pieces = content()
    head: list[bytes] = []
    length = 0
    for piece in pieces:
        head.append(piece)
        length += len(piece)
        if length > _SHORT:
            return _Stream(registry, repository, content).send(itertools.chain(head, pieces))
    return upload_bytes(registry, repository, b"".join(head))


def upload_bytes(registry: Registry, repository: str, data: bytes) -> Blob:
    """Upload a blob that is in memory, unless the registry has it.

    Raises:
        RegistryError: the registry refuses it or does not answer.
    """
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if registry.has_blob(repository, digest):
        return Blob(digest, len(data), sent=False)
    location = _begin(registry, repository)
    _finish(registry, repository, location, digest, data)
    return Blob(digest, len(data), sent=True)


def mount_blob(registry: Registry, repository: str, digest: str, source: str) -> bool:
    """Share a blob of another repository of the same registry.

    Returns whether the registry did; False also if the source does not have the blob or access to
    it is denied.
    """
    try:
        response = registry.request(
            "POST",
            f"/v2/{repository}/blobs/uploads/",
            repository=repository,
            params={"mount": digest, "from": source},
        )
    except CredentialsError:
        # A user may push here but not read there.
        return False
    if response.status_code == requests.codes.accepted and "Location" in response.headers:
        # Not mounted: the registry opened an upload instead, which is not needed.
        registry.request("DELETE", response.headers["Location"], repository=repository)
    return bool(response.status_code == requests.codes.created)


class _Stream:
    """The upload of one long blob."""

    def __init__(self, registry: Registry, repository: str, content: Content) -> None:
        self._registry = registry
        self._repository = repository
        self._content = content
        self._sha = hashlib.sha256()
        self._made = 0
        self._location = ""

    def send(self, pieces: Iterator[bytes]) -> Blob:
        """Send the pieces; after a failure, send the missing ones."""
        offset, failures = 0, 0
        self._location = _begin(self._registry, self._repository)
        while True:
            try:
                return self._send_from(offset, pieces)
            except _RetryError as again:
                reached = self._ask_offset()
                failures = 0 if reached > offset else failures + 1
                if failures >= _TRIES:
                    raise again.cause from None
                offset = reached
                time.sleep(max(again.seconds, min(2.0**failures / 2, 30)))
                pieces = self._content()

    def _send_from(self, offset: int, pieces: Iterator[bytes]) -> Blob:
        self._sha, self._made = hashlib.sha256(), 0
        try:
            response = self._registry.request(
                "PATCH",
                self._location,
                repository=self._repository,
                headers={"Content-Type": "application/octet-stream"},
                data=self._past(offset, pieces),
            )
        except Unreachable as error:
            raise _RetryError(error) from error
        if response.status_code != requests.codes.accepted:
            self._raise_or_retry(response)
        self._location = response.headers.get("Location", self._location)
        digest = f"sha256:{self._sha.hexdigest()}"
        try:
            _finish(self._registry, self._repository, self._location, digest, b"")
        except DigestError:
            raise
        except RegistryError as error:
            raise _RetryError(error) from error
        return Blob(digest, self._made, sent=True)

    def _past(self, offset: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._sha.update(piece)
            skip = max(0, min(len(piece), offset - self._made))
            self._made += len(piece)
            if skip < len(piece):
                yield piece[skip:] if skip else piece

    def _raise_or_retry(self, response: requests.Response) -> None:
        status = response.status_code
        try:
            self._registry.expect(response, set(), f"sending a layer to {self._repository}")
        except RegistryError as error:
            if status == requests.codes.unauthorized:
                self._registry.authenticate(response, self._repository)
            elif status not in _RETRIED and status < requests.codes.server_error:
                raise
            raise _RetryError(error, _retry_after(response)) from error

    def _ask_offset(self) -> int:
        """Return how many bytes the registry has; open a new upload if it lost this one."""
        try:
            response = self._registry.request("GET", self._location, repository=self._repository)
        except Unreachable:
            return 0
        if response.status_code == requests.codes.no_content:
            self._location = response.headers.get("Location", self._location)
            _, _, last = response.headers.get("Range", "").rpartition("-")
            # Registries write 0-0 for an empty upload, and for one of a single byte.
            return int(last) + 1 if last.isdigit() and int(last) > 0 else 0
        self._location = _begin(self._registry, self._repository)
        return 0


class _RetryError(Exception):
    """The upload failed in a way that a retry may fix."""

    def __init__(self, cause: RegistryError, seconds: float = 0) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.seconds = seconds


def _begin(registry: Registry, repository: str) -> str:
    what = f"opening an upload to {repository}"
    response = registry.request("POST", f"/v2/{repository}/blobs/uploads/", repository=repository)
    registry.expect(response, {202}, what)
    location = response.headers.get("Location")
    if not location:
        raise RegistryError(f"{registry.name} returned no location when {what}.")
    return location


def _finish(registry: Registry, repository: str, location: str, digest: str, data: bytes) -> None:
    response = registry.request(
        "PUT",
        location,
        repository=repository,
        headers={"Content-Type": "application/octet-stream"},
        params={"digest": digest},
        data=data,
    )
    try:
        registry.expect(response, {201}, f"storing blob {digest} in {repository}")
    except RegistryError:
        # A PUT that succeeded but lost its answer finds no upload when it is retried.
        if registry.has_blob(repository, digest):
            return
        raise
    stored = response.headers.get("Docker-Content-Digest", digest)
    if stored != digest:
        raise DigestError(
            f"{registry.name} stored a layer with digest {stored}, but {digest} was sent: its "
            "bytes were altered in transit.",
            "run the same command again",
        )


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_WAIT) if value.isdigit() else 0.0
