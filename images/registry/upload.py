"""Sends a blob whose digest is known only when its last byte is made.

A short blob is held, so its digest is known first and a registry that has it is not sent it again.
A long one goes out as docker sends it: one streamed PATCH, then a PUT with the digest. Artifact
Registry refuses several PATCHes and ghcr.io takes at most 4 MiB in one that has a length, but both
take a stream.

When the stream breaks, the registry is asked how much it has, the same bytes are made again, and
only those past that point are sent. (distribution 3 answers that; its 2.8 gives the upload up, so
the layer is sent anew.) An upload's location is not kept on disk for a later run:
some registries sign it, so it is a secret.
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
"""Makes a blob's bytes from the beginning; each call the same."""

_SHORT = 1 << 20
"""Bytes of a blob that is held whole."""
_TRIES = 6
"""Tries one after the other that get nothing across."""
_MAY_PASS = {404, 408, 416, 429}
"""Statuses of a lost upload, a slow one, one at another offset, and too many requests."""
_LONGEST_WAIT = 300.0
"""Seconds; a registry that asks for more is given up."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that a registry holds.

    Attributes:
        sent: False where the registry had it already.
    """

    digest: str
    size: int
    sent: bool


def upload_blob(registry: Registry, repository: str, content: Content) -> Blob:
    """Send a blob into a repository.

    Raises:
        RegistryError: the registry refuses it or stays away.
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
    """Send a blob that is in memory, unless the registry has it.

    Raises:
        RegistryError: the registry refuses it or stays away.
    """
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if registry.has_blob(repository, digest):
        return Blob(digest, len(data), sent=False)
    location = _begin(registry, repository)
    _finish(registry, repository, location, digest, data)
    return Blob(digest, len(data), sent=True)


def mount_blob(registry: Registry, repository: str, digest: str, source: str) -> bool:
    """Let the repository share a blob of another repository of the same registry.

    Returns whether the registry did; False also where the source does not have the blob or may not
    be read.
    """
    try:
        response = registry.request(
            "POST",
            f"/v2/{repository}/blobs/uploads/",
            repository=repository,
            params={"mount": digest, "from": source},
        )
    except CredentialsError:
        # This user may push here and yet not read there.
        return False
    if response.status_code == requests.codes.accepted and "Location" in response.headers:
        # Not mounted: the registry opened an upload instead, which nobody will finish.
        registry.request("DELETE", response.headers["Location"], repository=repository)
    return bool(response.status_code == requests.codes.created)


class _Stream:
    """One long blob on its way."""

    def __init__(self, registry: Registry, repository: str, content: Content) -> None:
        self._registry = registry
        self._repository = repository
        self._content = content
        self._sha = hashlib.sha256()
        self._made = 0
        self._location = ""

    def send(self, pieces: Iterator[bytes]) -> Blob:
        """Send the pieces, and after a failure what of them is missing."""
        offset, failures = 0, 0
        self._location = _begin(self._registry, self._repository)
        while True:
            try:
                return self._send_from(offset, pieces)
            except _Again as again:
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
            raise _Again(error) from None
        if response.status_code != requests.codes.accepted:
            self._raise_or_retry(response)
        self._location = response.headers.get("Location", self._location)
        digest = f"sha256:{self._sha.hexdigest()}"
        try:
            _finish(self._registry, self._repository, self._location, digest, b"")
        except DigestError:
            raise
        except RegistryError as error:
            raise _Again(error) from None
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
            elif status not in _MAY_PASS and status < requests.codes.server_error:
                raise
            raise _Again(error, _retry_after(response)) from None

    def _ask_offset(self) -> int:
        """How many bytes the registry has; opens a new upload where it lost this one."""
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


class _Again(Exception):
    """The upload broke off in a way that another try may mend."""

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
        raise RegistryError(f"{registry.name} named no place to upload to when {what}.")
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
        # Sent again because its answer was lost, a PUT that did its work finds no upload.
        if registry.has_blob(repository, digest):
            return
        raise
    stored = response.headers.get("Docker-Content-Digest", digest)
    if stored != digest:
        raise DigestError(
            f"{registry.name} stored a layer under digest {stored}, but {digest} was sent: its "
            "bytes were altered on the way.",
            "run the same command again",
        )


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_WAIT) if value.isdigit() else 0.0
