"""The local registry that stands for ghcr.io and Artifact Registry: Debian's docker-registry.

It holds the images that were made for a scale, also after the rehearsal, so that they are made
once; nodes run some of them with all rights. So it wants the rehearsal's own password, to write as
to read. Nodes pull from it directly. skopeo and the like are pointed to the mirror
(rehearsal.real_nodes.mirror), which first makes what is missing.
"""

import base64
import http.client
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import yaml

from rehearsal.machine import processes
from rehearsal.machine.home import RehearsalError, write_json
from tools import packages
from tools.programs import cache_root

MIRRORED = ("ghcr.io", "gcr.io", "registry.k8s.io", "*.pkg.dev")
"""Registries that a rehearsal replaces, as prefixes in registries.conf."""

USER = "rehearsal"
_START_S = 20.0
_PAUSE = "pull-study/pause"


@dataclass(frozen=True, slots=True)
class LocalRegistry:
    """A running registry."""

    address: str
    """host:port on loopback, plain http."""
    storage: Path
    log: Path
    password: str = field(repr=False)

    @property
    def pause_image(self) -> str:
        """Reference of the image of pods' sandboxes."""
        return f"{self.address}/{_PAUSE}:pause"

    @property
    def url(self) -> str:
        """With user and password."""
        return f"http://{USER}:{self.password}@{self.address}"


def storage_of(scale: float) -> Path:
    """Return where images of a scale are kept from one rehearsal to the next."""
    return cache_root() / "registry" / f"scale-{scale:g}"


def start(folder: Path, storage: Path) -> LocalRegistry:
    """Start a registry; `wait_until_up` before using it.

    From then on this process finds its password where `images` looks for one, to push to it.
    """
    registry = _start(folder, storage, secrets.token_urlsafe(32), {})
    login = authorization(registry.password).removeprefix("Basic ")
    logins = folder / "registry-auth.json"  # containers-auth.json(5)
    write_json(logins, {"auths": {registry.address: {"auth": login}}})
    os.environ["REGISTRY_AUTH_FILE"] = str(logins)
    return registry


def start_cache(folder: Path, images: LocalRegistry, upstream: str) -> LocalRegistry:
    """Start a registry that fetches what it lacks from `upstream`; it has the password of `images`.

    It is read-only (distribution's `proxy`); `wait_until_up` before using it.
    """
    return _start(folder, folder / "storage", images.password, {"proxy": {"remoteurl": upstream}})


def _start(folder: Path, storage: Path, password: str, more: Mapping[str, object]) -> LocalRegistry:
    program = next(each for each in packages.PACKAGES if each.name == "docker-registry")
    if not program.path():
        raise RehearsalError(
            "docker-registry is not installed, and without a registry nothing can be pulled.",
            packages.install_command([program]),
        )
    storage.mkdir(parents=True, exist_ok=True)
    (port,) = processes.free_ports(1)
    config, users = folder / "registry.yaml", folder / "registry.users"
    configuration = {**_configuration(port, storage, users), **more}
    config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    registry = LocalRegistry(f"127.0.0.1:{port}", storage, folder / "registry.log", password)
    # the cheapest: each request is checked, and a random password is guessed no sooner
    hashed = bcrypt.hashpw(registry.password.encode(), bcrypt.gensalt(rounds=4))
    users.write_text(f"{USER}:{hashed.decode('ascii')}\n", encoding="ascii")
    # it would take every such variable, skopeo's for one, for a setting of its own
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    processes.start(
        [program.path(), "serve", config], folder, log=registry.log, environment=environment
    )
    return registry


def authorization(password: str) -> str:
    """Return the header of basic authentication."""
    return f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode('ascii')}"


def write_registries_conf(path: Path, mirror: str) -> None:
    """Write the containers-registries.conf(5) that points skopeo to the mirror."""
    entries = [
        f"""
[[registry]]
prefix = "{prefix}"
location = "{mirror}"
insecure = true
"""
        for prefix in MIRRORED
    ]
    path.write_text("".join(entries), encoding="utf-8")


def _configuration(port: int, storage: Path, users: Path) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json"},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": False},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "rehearsal", "path": str(users)}},
    }


def wait_until_up(registry: LocalRegistry) -> None:
    if not processes.poll(lambda: _answers(registry), _START_S):
        raise RehearsalError(
            f"docker-registry did not start: {processes.log_tail(registry.log)}.",
            f"see {registry.log}",
        )


def _answers(registry: LocalRegistry) -> bool:
    connection = http.client.HTTPConnection(registry.address, timeout=2)
    try:
        connection.request(
            "GET", "/v2/", headers={"Authorization": authorization(registry.password)}
        )
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
