"""References to images, REGISTRY/REPOSITORY[:TAG][@DIGEST]; there is no default registry."""

import ipaddress
import re
from dataclasses import dataclass, replace

from images.errors import BadReferenceError

_HOST = r"(?P<registry>(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?)"
_PATH = r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
_REFERENCE = re.compile(
    rf"{_HOST}/{_PATH}(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """An image in a registry, or the destination of one.

    Attributes:
        registry: host, with port unless it is the default.
        repository: path in the registry.
        tag: empty to use the image's own tag, or if only a digest is given.
        digest: `sha256:...`, empty if the tag identifies the image.
    """

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

    @property
    def base_url(self) -> str:
        """The registry's URL: http for loopback, https for all other hosts."""
        scheme = "http" if is_loopback(self.registry) else "https"
        return f"{scheme}://{self.registry}"

    def with_tag(self, tag: str) -> "Target":
        """Return the same repository with another tag."""
        return replace(self, tag=tag, digest="")


def parse_target(text: str) -> Target:
    """Parse a reference such as `127.0.0.1:5000/chonks:9-layers-size-1176249324-bytes`.

    Raises:
        BadReferenceError: the text does not name a registry and a repository.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not _names_a_host(match["registry"]):
        raise BadReferenceError(
            f"{text!r} does not name a registry and a repository.",
            "write it as REGISTRY/REPOSITORY:TAG, the repository in lower case, for example "
            "ghcr.io/my-org/chonks:9-layers-size-1176249324-bytes",
        )
    return Target(match["registry"], match["repository"], match["tag"] or "", match["digest"] or "")


def is_loopback(registry: str) -> bool:
    """Return whether a registry's host is this machine's loopback."""
    host = registry.rsplit(":", 1)[0] if not registry.endswith("]") else registry
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_a_host(registry: str) -> bool:
    # As in docker: `library/busybox` is a path, `localhost/busybox` has a registry.
    return "." in registry or ":" in registry or registry == "localhost"
