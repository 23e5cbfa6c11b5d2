"""Pull-through caches of real nodes: Debian's docker-registry as a proxy, one a remote repository.

Each fetches what it lacks from the rehearsal's mirror and keeps it, so the first pull of an image
and later ones differ as with a real cache, by what a loopback connection and a local disk leave.
"""

import hashlib
import shutil
import threading
from pathlib import Path

from rehearsal.machine import processes
from rehearsal.real_nodes import registry
from rehearsal.real_nodes.registry import LocalRegistry

_REVISIONS = "docker/registry/v2/repositories"


class RegistryCaches:
    """The caches of a rehearsal (a rehearsal.google.artifact_registry.Cache).

    Args:
        folder: of the rehearsal.
        images: the registry, whose users the caches have.
        upstream: URL of the mirror.
    """

    def __init__(self, folder: Path, images: LocalRegistry, upstream: str) -> None:
        self._folder = folder
        self._images = images
        self._upstream = upstream
        self._running: dict[str, LocalRegistry] = {}
        self._lock = threading.Lock()

    def open(self, repository: str) -> None:
        """Start an empty cache.

        Raises:
            RehearsalError: docker-registry does not start.
        """
        self.close(repository)
        folder = self._place(repository)
        folder.mkdir(parents=True)
        cache = registry.start_cache(folder, self._images, self._upstream)
        registry.wait_until_up(cache)
        with self._lock:
            self._running[repository] = cache

    def close(self, repository: str) -> None:
        """Stop a cache and delete what it holds."""
        with self._lock:
            self._running.pop(repository, None)
        processes.stop(self._place(repository))
        shutil.rmtree(self._place(repository), ignore_errors=True)

    def close_all(self) -> None:
        """Stop all."""
        for repository in list(self._running):
            self.close(repository)

    def target(self, repository: str, path: str) -> str:
        """Return the URL of a path in a cache."""
        return f"{self._running[repository].url}/v2/{path}"

    def images(self, repository: str) -> list[tuple[str, str]]:
        """Return (image, digest) of the manifests that a cache has stored."""
        root = self._running[repository].storage / _REVISIONS
        return sorted(
            (str(link.relative_to(root)).partition("/_manifests/")[0], f"sha256:{link.parent.name}")
            for link in root.glob("**/_manifests/revisions/sha256/*/link")
        )

    def _place(self, repository: str) -> Path:
        return self._folder / "caches" / hashlib.sha256(repository.encode()).hexdigest()[:12]
