"""A client of a registry's HTTP API: blobs by digest, manifests by name.

Own code on `requests`, because no Python library sends a blob whose digest is unknown before its
last byte: oras-py and docker's need a file. It authenticates as the registry requests, waits (429
and Retry-After), and checks every digest. `images.registry.upload` sends layers with it.
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from images.errors import CredentialsError, DigestError, NotInRegistryError, RegistryError
from images.registry.credentials import Credentials, find_credentials, login_command
from images.registry.reference import Target, is_loopback

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_TIMEOUT = (10, 300)
"""Seconds to connect and to wait for bytes: a registry may hash gigabytes before it answers."""
_TRIES = 6
_LONGEST_WAIT = 300
_MAX_MANIFEST = 4 << 20
"""Bytes; the limit of the distribution specification."""
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as the registry sent it, with a checked digest."""

    digest: str
    media_type: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Body:
    headers: Mapping[str, str] | None
    data: bytes | Iterator[bytes] | None
    params: Mapping[str, str] | None
    stream: bool


class Registry:
    """One registry; safe to use from several threads."""

    def __init__(
        self, name: str, *, connections: int = 16, credentials: Credentials | None = None
    ) -> None:
        """Connects lazily; credentials are looked up when the registry requires them."""
        self.name = name
        self._base = Target(name, "").base_url
        self._session = requests.Session()
        # PATCH is not retried: images.registry.upload first asks how much has arrived.
        retry = Retry(
            total=_TRIES,
            connect=3,
            read=3,
            backoff_factor=0.5,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=frozenset({"GET", "HEAD", "POST", "PUT"}),
            respect_retry_after_header=True,
            retry_after_max=_LONGEST_WAIT,
            raise_on_status=False,
        )
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=retry)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._credentials = credentials
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        repository: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send a request, with a token if the registry requires one.

        A body that is an iterator is sent once; the caller then handles a 401 with `authenticate`.

        Raises:
            CredentialsError: the registry denies access.
            RegistryError: it cannot be reached.
        """
        url = urljoin(self._base, url)
        body = _Body(headers, data, params, stream)
        replayable = data is None or isinstance(data, bytes)
        for second in (False, True):
            response = self._send(method, url, repository, body)
            again = replayable and not second
            if response.status_code != requests.codes.unauthorized or not again:
                break
            response.close()
            self.authenticate(response, repository)
        if response.status_code in {401, 403} and replayable:
            raise self._refused(response, repository)
        return response

    def authenticate(self, response: requests.Response, repository: str) -> None:
        """Get the token that a 401 requests; later requests for the repository send it.

        Raises:
            CredentialsError: there are no credentials, or they are not accepted.
        """
        challenge = response.headers.get("WWW-Authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        with self._lock:
            if self._credentials is None:
                self._credentials = find_credentials(self.name)
            known = self._credentials
        if scheme.lower() == "basic" and known is not None:
            token = requests.auth._basic_auth_str(known.username, known.secret)  # noqa: SLF001
        elif scheme.lower() == "bearer" and fields.get("realm"):
            token = f"Bearer {self._fetch_token(fields, known, repository)}"
        else:
            raise self._refused(response, repository)
        with self._lock:
            self._tokens[repository] = token

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether the repository has a blob."""
        response = self.request("HEAD", f"/v2/{repository}/blobs/{digest}", repository=repository)
        if response.status_code == requests.codes.not_found:
            return False
        self.expect(response, {200}, f"looking for blob {digest} in {repository}")
        return True

    def open_blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """Yield a blob in pieces of about 1 MiB; size and digest are checked at the end.

        Raises:
            DigestError: the bytes do not match size or digest.
            NotInRegistryError: the blob does not exist.
        """
        what = f"reading blob {digest} of {repository}"
        response = self.request(
            "GET", f"/v2/{repository}/blobs/{digest}", repository=repository, stream=True
        )
        self.expect(response, {200}, what)
        sha, length = hashlib.sha256(), 0
        try:
            for piece in response.iter_content(_READ):
                sha.update(piece)
                length += len(piece)
                yield piece
        except requests.RequestException as error:
            raise RegistryError(
                f"The connection to {self.name} broke while {what}: {error}.",
                "run the same command again",
            ) from error
        finally:
            response.close()
        if (found := f"sha256:{sha.hexdigest()}") != digest or length != size:
            raise DigestError(
                f"{self.name} sent {length} bytes with digest {found} for blob {digest} of {size} "
                f"bytes in {repository}: the image is damaged.",
                "delete it in the registry and build it again, or build it under another --salt",
            )

    def get_manifest(self, target: Target) -> Manifest:
        """Return an image's manifest.

        Raises:
            NotInRegistryError: there is none with that name.
            DigestError: it does not match its digest.
        """
        response = self.request(
            "GET",
            f"/v2/{target.repository}/manifests/{target.version}",
            repository=target.repository,
            headers={"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))},
        )
        self.expect(response, {200}, f"reading the manifest of {target}")
        raw = response.content
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        promised = target.digest or response.headers.get("Docker-Content-Digest", digest)
        if digest != promised or len(raw) > _MAX_MANIFEST:
            raise DigestError(
                f"{self.name} returns a manifest of {target} whose digest is {digest}, not "
                f"{promised}: it cannot be trusted.",
                "delete it in the registry and build it again, or build it under another --salt",
            )
        return Manifest(digest, response.headers.get("Content-Type", "").split(";")[0], raw)

    def find_manifest(self, target: Target) -> Manifest | None:
        """Like `get_manifest`, but None if there is none."""
        try:
            return self.get_manifest(target)
        except NotInRegistryError:
            return None

    def put_manifest(self, target: Target, media_type: str, raw: bytes) -> str:
        """Store a manifest with the target's tag; return its digest.

        Raises:
            DigestError: the registry stored it under another digest.
        """
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        response = self.request(
            "PUT",
            f"/v2/{target.repository}/manifests/{target.tag or digest}",
            repository=target.repository,
            headers={"Content-Type": media_type},
            data=raw,
        )
        self.expect(response, {201}, f"storing the manifest of {target}")
        stored = response.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise DigestError(
                f"{self.name} stored {target} with digest {stored}, not {digest}: it altered the "
                "manifest, so the image cannot be named by digest.",
                "use a registry that stores manifests unchanged",
            )
        return digest

    def expect(self, response: requests.Response, codes: set[int], what: str) -> None:
        """Raise an error for an unexpected status, with the registry's message.

        Raises:
            NotInRegistryError: status 404.
            RegistryError: any other status that is not among the codes.
        """
        if response.status_code in codes:
            return
        said = f"{self.name} answered {response.status_code} when {what}: {_words(response)}"
        if response.status_code == requests.codes.not_found:
            raise NotInRegistryError(said, "check the registry, the repository and the tag")
        if response.status_code == requests.codes.too_many_requests:
            raise RegistryError(said, "wait, or push fewer layers at a time with --jobs 1")
        if response.status_code >= requests.codes.internal_server_error:
            raise RegistryError(said, "check the registry's disk and log, then run this again")
        raise RegistryError(said, "check that this user may push to the repository")

    def _send(self, method: str, url: str, repository: str, body: _Body) -> requests.Response:
        headers = dict(body.headers or {})
        # A location that the registry names may be on another host: no token is sent there.
        if (token := self._tokens.get(repository)) and url.startswith(self._base + "/"):
            headers["Authorization"] = token
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                data=body.data,
                params=body.params,
                stream=body.stream,
                timeout=_TIMEOUT,
                auth=_no_netrc,
            )
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
            raise RegistryError(f"{self.name} returns an invalid URL: {url}.") from error
        except requests.RequestException as error:
            raise Unreachable(self.name, error) from error

    def _fetch_token(
        self, challenge: dict[str, str], known: Credentials | None, repository: str
    ) -> str:
        realm = challenge["realm"]
        place = urlsplit(realm)
        if place.scheme != "https" and not is_loopback(place.netloc):
            raise RegistryError(
                f"{self.name} requests credentials for {realm}, which is not encrypted.",
                "use a registry whose token server uses https",
            )
        scope = challenge.get("scope") or f"repository:{repository}:pull,push"
        service = ("service", challenge.get("service", self.name))
        try:
            if known is not None and known.is_refresh_token:
                fields = {"grant_type": "refresh_token", "client_id": "pull-study", "scope": scope}
                fields |= {"refresh_token": known.secret, service[0]: service[1]}
                answer = self._session.post(realm, data=fields, timeout=_TIMEOUT, auth=_no_netrc)
            else:
                # One parameter per scope: a mount needs two repositories.
                params = [service, *(("scope", part) for part in scope.split(" "))]
                auth = (known.username, known.secret) if known else _no_netrc
                answer = self._session.get(realm, params=params, timeout=_TIMEOUT, auth=auth)
        except requests.RequestException as error:
            raise Unreachable(self.name, error) from error
        if answer.status_code != requests.codes.ok:
            raise self._refused(answer, repository)
        found: dict[str, Any] = answer.json()
        return str(found.get("token") or found.get("access_token"))

    def _refused(self, response: requests.Response, repository: str) -> CredentialsError:
        have = "without credentials" if self._credentials is None else "with the credentials found"
        return CredentialsError(
            f"{self.name} denies access to {repository} {have}: {_words(response)}",
            login_command(self.name),
        )


class Unreachable(RegistryError):
    """A registry cannot be reached, or a connection broke."""

    def __init__(self, registry: str, error: Exception) -> None:
        super().__init__(
            f"{registry} cannot be reached: {_innermost(error)}.",
            f"curl -i {Target(registry, '').base_url}/v2/",
        )


def _innermost(error: BaseException) -> str:
    # requests and urllib3 wrap the system's error three times.
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # requests would otherwise replace the token by an entry of ~/.netrc.
    return request


def _words(response: requests.Response) -> str:
    try:
        errors = response.json()["errors"]
        said = "; ".join(
            ": ".join(str(error[key]) for key in ("code", "message", "detail") if error.get(key))
            for error in errors
        )
    except (ValueError, KeyError, TypeError, requests.RequestException):
        said = response.reason or "no reason given"
    return f"{said[:500]}."
