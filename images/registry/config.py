"""Where images are read from: containers-registries.conf(5), as skopeo and podman read it.

As in these programs, mirrors and other locations apply to reading, never to pushing.
"""

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from images.errors import RegistryError
from images.registry.reference import Target, parse_target

_SYSTEM = Path("/etc/containers")


class Source(NamedTuple):
    """A place to read an image from; `plain_http`: it may be asked without encryption."""

    target: Target
    plain_http: bool = False


def find_sources(target: Target) -> list[Source]:
    """Return where to read an image from, in order: mirrors, then the registry or its location.

    Raises:
        RegistryError: the registry is blocked, or a file cannot be read.
    """
    name = f"{target.registry}/{target.repository}"
    entries = {_prefix(entry): entry for file in _files() for entry in _read(file)}
    prefix = max(
        (each for each in entries if f"{name}/".startswith(f"{each}/")), key=len, default=""
    )
    if not prefix:
        return [Source(target)]
    entry = entries[prefix]
    if entry.get("blocked"):
        problem = f"{name} is blocked by containers-registries.conf."
        raise RegistryError(problem, "remove blocked = true there")
    mirrors = entry.get("mirror", [])
    if entry.get("mirror-by-digest-only") and not target.digest:
        mirrors = []
    sources = []
    for place in [*mirrors, entry]:
        physical = parse_target(place.get("location", prefix) + name.removeprefix(prefix))
        named = replace(physical, tag=target.tag, digest=target.digest)
        sources.append(Source(named, bool(place.get("insecure"))))
    return sources


def _files() -> list[Path]:
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers"
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    main = [Path(named)] if named else [own / "registries.conf", _SYSTEM / "registries.conf"]
    parts = [sorted((each / "registries.conf.d").glob("*.conf")) for each in (_SYSTEM, own)]
    return [path for path in main if path.is_file()][:1] + parts[0] + parts[1]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return list(tomllib.loads(path.read_text(encoding="utf-8")).get("registry", []))
    except (OSError, ValueError) as error:
        raise RegistryError(f"{path} cannot be read: {error}.", f"edit {path}") from error


def _prefix(entry: dict[str, Any]) -> str:
    return str(entry.get("prefix") or entry.get("location"))
