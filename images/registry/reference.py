"""References, REGISTRY/REPOSITORY[:TAG][@DIGEST]; those of images that are read may be short."""

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from images.errors import BadReferenceError

_HOST = r"(?P<registry>(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?)"
_PATH = r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
_REFERENCE = re.compile(
    rf"{_HOST}/{_PATH}(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
DOCKER_HUB = "docker.io"
DOCKER_HUB_NAMES = {DOCKER_HUB, "index.docker.io", "registry-1.docker.io"}
_DOCKER_HUB_API = "registry-1.docker.io"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """An image in a registry, or the destination of one; tag or digest may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def version(self) -> str:
        """The digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def with_tag(self, tag: str) -> "Target":
        """Return the same repository with another tag."""
        return replace(self, tag=tag, digest="")


def parse_target(text: str) -> Target:
    """Parse a reference such as `127.0.0.1:5000/chonks:9-layers-size-1176249324-bytes`.

    As for docker, `docker.io/busybox` is `docker.io/library/busybox`.

    Raises:
        BadReferenceError: the text does not name a registry and a repository.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not _names_a_host(match["registry"]):
        problem = f"{text!r} does not name a registry and a repository."
        fix = "write it as REGISTRY/REPOSITORY:TAG, for example ghcr.io/my-org/chonks:1"
        raise BadReferenceError(problem, f"{fix}; the repository is in lower case")
    registry, repository = match["registry"], match["repository"]
    if registry.lower() in DOCKER_HUB_NAMES:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Target(registry, repository, match["tag"] or "", match["digest"] or "")


def parse_source(text: str) -> Target:
    """Parse a reference to an image that is read, which may be short as for docker.

    `python:3.12` is `docker.io/library/python:3.12`. A destination names its registry.

    Raises:
        BadReferenceError: the text is no reference.
    """
    first, slash, _ = text.partition("/")
    short = not (slash and _names_a_host(first))
    return parse_target(f"{DOCKER_HUB}/{text}" if short else text)


def base_url(registry: str, *, plain_http: bool = False) -> str:
    """Return a registry's URL: https, except on loopback or if `plain_http` allows http."""
    scheme = "http" if plain_http or is_loopback(registry) else "https"
    return f"{scheme}://{_DOCKER_HUB_API if registry == DOCKER_HUB else registry}"


def is_same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port; case does not matter."""
    return _origin(one) == _origin(other)


def is_loopback(registry: str) -> bool:
    """Return whether a registry's host is this machine's loopback."""
    host = urlsplit(f"//{registry}").hostname
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _names_a_host(registry: str) -> bool:
    # As in docker: `library/busybox` is a path, `localhost/busybox` has a registry.
    return "." in registry or ":" in registry or registry == "localhost"
