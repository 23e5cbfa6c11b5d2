"""References to images, REGISTRY/REPOSITORY[:TAG][@DIGEST], always with the registry named.

There is no default registry: a study that pushes gigabytes says where to.
"""

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
    """An image in a registry, or the place where one is to be.

    Attributes:
        registry: host, with port where it is not the usual one.
        repository: path in the registry.
        tag: empty where the image's own tag is to be used, or where only a digest is named.
        digest: `sha256:...`, empty where the tag decides.
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
        """What the registry's API is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def base_url(self) -> str:
        """Where the registry answers: plain http on loopback only, https everywhere else."""
        scheme = "http" if is_loopback(self.registry) else "https"
        return f"{scheme}://{self.registry}"

    def with_tag(self, tag: str) -> "Target":
        """The same repository under another tag."""
        return replace(self, tag=tag, digest="")


def parse_target(text: str) -> Target:
    """Read a reference such as `127.0.0.1:5000/chonks:9-layers-size-1176249324-bytes`.

    Raises:
        BadReferenceError: the text does not name a registry and a repository.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not _names_a_host(match["registry"]):
        raise BadReferenceError(
            f"{text!r} does not name a registry and a repository, so it is unknown where the "
            "image is.",
            "write it as REGISTRY/REPOSITORY:TAG, the repository in lower case, for example "
            "ghcr.io/my-org/chonks:9-layers-size-1176249324-bytes",
        )
    return Target(match["registry"], match["repository"], match["tag"] or "", match["digest"] or "")


def is_loopback(registry: str) -> bool:
    """Whether a registry's host can only be this machine."""
    host = registry.rsplit(":", 1)[0] if not registry.endswith("]") else registry
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_a_host(registry: str) -> bool:
    # As docker decides: `library/busybox` is a path, `localhost/busybox` has a registry.
    return "." in registry or ":" in registry or registry == "localhost"
