"""A client of a registry's HTTP API: blobs by digest, manifests by name.

Own code on `requests`, for the reasons in docs/design.md ("Pushing study images"). It checks every
digest, and reads no more than a descriptor or a limit allows. Credentials go to the registry and
its token server alone, and no redirect or location leads to an unencrypted place.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util import Retry

from images.errors import CredentialsError, DigestError, NotInRegistryError, RegistryError
from images.registry.credentials import find_credentials, login_command
from images.registry.reference import Target, base_url, is_loopback, is_same_origin
from images.registry.tokens import read_challenges, read_token, token_request

_OCI, _DOCKER = "application/vnd.oci.image", "application/vnd.docker.distribution.manifest"
INDEX_TYPES = (f"{_OCI}.index.v1+json", f"{_DOCKER}.list.v2+json")
_ACCEPTED = ", ".join((f"{_OCI}.manifest.v1+json", f"{_DOCKER}.v2+json", *INDEX_TYPES))
MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or config; the limit of the distribution specification for manifests."""

_TIMEOUT = (10, 300)
"""Seconds to connect and to wait for bytes: a registry may hash gigabytes before it answers."""
_TRIES = 6
_LONGEST_WAIT = 300
"""Seconds, if the registry requests a longer one."""
_MAX_ANSWER = 1 << 16
"""Bytes that are read of any other answer, for example a token or an error."""
_HOPS = 5
_READ = 1 << 20
_DENIED = {401, 403}
_REPLACE = "delete it in the registry and build it again, or build it under another --salt"
_PATIENCE = Retry(
    total=_TRIES,
    connect=3,
    read=3,
    backoff_factor=0.5,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods=frozenset({"GET", "HEAD", "POST", "PUT"}),  # PATCH: images.registry.upload
    retry_after_max=_LONGEST_WAIT,
    raise_on_status=False,
)

Headers = Mapping[str, str] | None
Data = bytes | Iterator[bytes] | None
"""The body of a request; an iterator can be sent only once."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as the registry sent it, with a checked digest."""

    digest: str
    media_type: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the registry: `url` after redirects, `token` the Authorization header sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    token: str

    @property
    def location(self) -> str:
        """The URL in the Location header, empty if there is none."""
        location = self.headers.get("Location", "")
        return urljoin(self.url, location) if location else ""

    @property
    def retry_after(self) -> float:
        """Seconds to wait, as requested in seconds or as a date."""
        try:
            seconds = Retry().parse_retry_after(self.headers.get("Retry-After", "0"))
        except urllib3.exceptions.InvalidHeader:
            return 0
        return min(seconds, _LONGEST_WAIT)


class Registry:
    """One registry; safe to use from several threads."""

    def __init__(self, name: str, *, push: bool = False, plain_http: bool = False) -> None:
        """Connects lazily to host and port.

        `push`: tokens have to allow it. `plain_http`: also if the registry is not on loopback.
        """
        self.name = name
        self._base = base_url(name, plain_http=plain_http)
        self._actions = {"pull", "push"} if push else {"pull"}
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=16, max_retries=_PATIENCE))
        self._tokens: dict[str, str] = {}
        self._has_credentials = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        repository: str,
        headers: Headers = None,
        data: Data = None,
        limit: int = _MAX_ANSWER,
    ) -> Answer:
        """Send a request, with a token if the registry requires one, and follow redirects.

        A body that is an iterator is sent once: then a redirect or refusal is returned.

        Raises:
            CredentialsError: the registry denies access.
            RegistryError: it cannot be reached, or leads to an unencrypted place.
        """
        return self._answer(self._open(method, url, repository, headers, data), limit)

    def authenticate(self, refused: Answer, repository: str) -> None:
        """Get a token after a refusal; later requests for the repository send it.

        A 403 without a challenge is a refusal too, since some registries answer so to a token that
        does not suffice. Credentials are looked up every time, since they expire.

        Raises:
            CredentialsError: there are no credentials, or they are not accepted.
        """
        with self._lock:
            if self._tokens.get(repository, refused.token) != refused.token:
                return  # another thread was faster
            challenges = read_challenges(refused.headers)
            if not challenges:
                challenges = read_challenges(self._answer(self._send("GET", "/v2/", "")).headers)
            known = find_credentials(self.name, repository)
            self._has_credentials = known is not None
            if bearer := challenges.get("bearer"):
                call = token_request(self.name, bearer, known, repository, self._actions)
                self._tokens[repository] = f"Bearer {self._fetch_token(call, repository)}"
            elif known is not None and "basic" in challenges:
                self._tokens[repository] = known.basic
            else:
                raise self._refused(refused, repository)

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether the repository has a blob."""
        answer = self.request("HEAD", f"/v2/{repository}/blobs/{digest}", repository=repository)
        if answer.status == HTTPStatus.NOT_FOUND:
            return False
        self.expect(answer, {200}, f"looking for blob {digest} in {repository}")
        return True

    def open_blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """Yield a blob in pieces of at most 1 MiB; after a broken connection, request the rest.

        Raises:
            DigestError: the bytes do not match size or digest; never more than `size` are yielded.
            NotInRegistryError: the blob does not exist.
        """
        sha, length, failures = hashlib.sha256(), 0, 0
        while True:
            start = length
            try:
                for piece in self._blob_pieces(repository, digest, start):
                    length += len(piece)
                    if length > size:
                        break
                    sha.update(piece)
                    yield piece
                break
            except Unreachable:
                failures = 1 if length > start else failures + 1
                if failures >= _TRIES:
                    raise
                time.sleep(2.0**failures / 2)
        if (found := f"sha256:{sha.hexdigest()}") != digest or length != size:
            raise DigestError(
                f"{self.name} sent {length} bytes with digest {found} for blob {digest} of {size} "
                f"bytes in {repository}: the image is damaged.",
                _REPLACE,
            )

    def find_manifest(self, target: Target) -> Manifest | None:
        """Return an image's manifest, None if there is none with that name.

        Raises:
            DigestError: it does not match its digest, or is too large.
        """
        answer = self.request(
            "GET",
            f"/v2/{target.repository}/manifests/{target.version}",
            repository=target.repository,
            headers={"Accept": _ACCEPTED},
            limit=MAX_MANIFEST + 1,
        )
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self.expect(answer, {200}, f"reading the manifest of {target}")
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        promised = target.digest or answer.headers.get("Docker-Content-Digest", digest)
        if digest != promised or len(answer.body) > MAX_MANIFEST:
            raise DigestError(
                f"{self.name} returns a manifest of {target} whose digest is {digest}, not "
                f"{promised}, or of more than {MAX_MANIFEST} bytes: it cannot be trusted.",
                _REPLACE,
            )
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        return Manifest(digest, media_type, answer.body)

    def put_manifest(self, target: Target, media_type: str, raw: bytes) -> str:
        """Store a manifest with the target's tag, unaltered; return its digest."""
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        url = f"/v2/{target.repository}/manifests/{target.tag or digest}"
        kind = {"Content-Type": media_type}
        answer = self.request("PUT", url, repository=target.repository, headers=kind, data=raw)
        self.expect(answer, {201}, f"storing the manifest of {target}")
        stored = answer.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            problem = f"{self.name} stored {target} with digest {stored}, not {digest}: it altered"
            fix = "use a registry that stores manifests unchanged"
            raise DigestError(f"{problem} the manifest.", fix)
        return digest

    def expect(self, answer: Answer, codes: set[int], what: str) -> None:
        """Raise an error with the registry's message for a status that is not among the codes.

        Raises:
            RegistryError: NotInRegistryError for status 404.
        """
        if answer.status in codes:
            return
        said = f"{self.name} answered {answer.status} when {what}: {_words(answer.body)}"
        if answer.status == HTTPStatus.NOT_FOUND:
            raise NotInRegistryError(said, "check the registry, the repository and the tag")
        fix = "check that this user may push to the repository"
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            fix = "wait, or push fewer layers at a time with --jobs 1"
        elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            fix = "check the registry's disk and log, then run this again"
        raise RegistryError(said, fix)

    def _open(
        self, method: str, url: str, repository: str, headers: Headers = None, data: Data = None
    ) -> requests.Response:
        response = self._send(method, url, repository, headers, data)
        if response.status_code in _DENIED and isinstance(data, bytes | None):
            self.authenticate(self._answer(response), repository)
            response = self._send(method, url, repository, headers, data)
            if response.status_code in _DENIED:
                raise self._refused(self._answer(response), repository)
        return response

    def _send(
        self, method: str, url: str, repository: str, headers: Headers = None, data: Data = None
    ) -> requests.Response:
        url = urljoin(self._base, url)
        for _ in range(_HOPS):
            self._refuse_downgrade(url)
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            # A location that the registry names may be on another host: no token is sent there.
            if (token := self._tokens.get(repository)) and is_same_origin(url, self._base):
                sent["Authorization"] = token
            # What the URL of a redirect itself names is for its host.
            auth = None if urlsplit(url).username else _no_netrc
            call = requests.Request(method, url, headers=sent, data=data, auth=auth)
            response = self._call(call)
            kept = response.status_code in {307, 308} and isinstance(data, bytes | None)
            if not (kept or (response.is_redirect and method in {"GET", "HEAD"})):
                return response
            response.close()
            url = urljoin(url, response.headers.get("Location", ""))
        raise RegistryError(f"{self.name} redirects more than {_HOPS} times, last to {url}.")

    def _call(self, call: requests.Request) -> requests.Response:
        session = self._session
        proxies = session.merge_environment_settings(call.url, {}, True, None, None)
        settings: dict[str, Any] = {**proxies, "timeout": _TIMEOUT, "allow_redirects": False}
        try:
            return session.send(session.prepare_request(call), **settings)
        except requests.RequestException as error:
            raise Unreachable(self.name, error) from error

    def _answer(self, response: requests.Response, limit: int = _MAX_ANSWER) -> Answer:
        body = b"".join(self._read(response, limit))[:limit]
        token = str(response.request.headers.get("Authorization", ""))
        headers = CaseInsensitiveDict(response.headers)
        return Answer(response.status_code, headers, body, response.url, token)

    def _blob_pieces(self, repository: str, digest: str, start: int) -> Iterator[bytes]:
        """Bytes of a blob from an offset, whether or not the registry supports ranges."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._open("GET", f"/v2/{repository}/blobs/{digest}", repository, headers)
        if response.status_code not in {200, 206}:
            what = f"reading blob {digest} of {repository}"
            self.expect(self._answer(response), set(), what)
        sent_from = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        skip = start - (int(sent_from[1]) if sent_from else 0)
        for piece in self._read(response, None):
            if len(piece) > skip:
                yield piece[skip:] if skip else piece
            skip = max(0, skip - len(piece))

    def _read(self, response: requests.Response, limit: int | None) -> Iterator[bytes]:
        """The body as it was sent, at least up to the limit if it is that long."""
        length = 0
        try:
            while piece := response.raw.read(_READ, decode_content=False):
                yield piece
                length += len(piece)
                if limit is not None and length >= limit:
                    break
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(self.name, error) from error
        finally:
            response.close()

    def _refuse_downgrade(self, url: str) -> None:
        parts = urlsplit(url)
        known = is_loopback(parts.hostname or "") or is_same_origin(url, self._base)
        plain = parts.scheme == "http" and self._base.startswith("http:") and known
        if parts.scheme != "https" and not plain:
            raise UnencryptedError(
                f"{self.name} leads to {url.partition('?')[0]}, which is not encrypted.",
                "use a registry whose addresses all begin with https",
            )

    def _fetch_token(self, call: requests.Request, repository: str) -> str:
        call.auth = call.auth or _no_netrc
        # A redirect is not followed, since it would take the credentials with it.
        answer = self._answer(self._call(call))
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer, repository)
        return read_token(self.name, answer.body)

    def _refused(self, answer: Answer, repository: str) -> CredentialsError:
        have = "with the credentials found" if self._has_credentials else "without credentials"
        said = f"{self.name} denies access to {repository} {have}: {_words(answer.body)}"
        return CredentialsError(said, login_command(self.name))


class UnencryptedError(RegistryError):
    """A registry leads to a place that is not encrypted."""


class Unreachable(RegistryError):
    """A registry cannot be reached, or a connection broke."""

    def __init__(self, registry: str, error: BaseException) -> None:
        # requests and urllib3 wrap the system's error three times.
        while (inner := error.__cause__ or error.__context__) is not None:
            error = inner
        said = str(error) or type(error).__name__
        fix = f"curl -i {base_url(registry)}/v2/"
        super().__init__(f"{registry} cannot be reached: {said}.", fix)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # requests would otherwise replace the token by an entry of ~/.netrc.
    return request


def _words(body: bytes) -> str:
    try:
        said = "; ".join(
            ": ".join(str(error[key]) for key in ("code", "message", "detail") if error.get(key))
            for error in json.loads(body)["errors"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = "no reason given"
    # The text is the registry's: no control codes for the terminal.
    return "".join(char if char.isprintable() else " " for char in said)[:500].rstrip(".") + "."
