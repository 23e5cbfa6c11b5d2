"""Credentials for a registry, found where skopeo, podman and docker store them.

In this order: `REGISTRY_AUTH_FILE` or containers' auth.json (containers-auth.json(5)), docker's
config.json; in each a credential helper, then an entry of the repository, its namespace or its
registry, then docker's store. Nothing is stored or printed.
"""

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.errors import CredentialsError
from images.registry.reference import DOCKER_HUB, DOCKER_HUB_NAMES

_HELPER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a secret; with user `<token>` the secret is an OAuth2 refresh token."""

    username: str
    secret: str = field(repr=False)

    @property
    def is_refresh_token(self) -> bool:
        """Whether to exchange the secret by OAuth2 instead of basic authentication."""
        return self.username == "<token>"

    @property
    def basic(self) -> str:
        """The header of basic authentication."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.secret}'.encode()).decode()}"


def find_credentials(registry: str, repository: str) -> Credentials | None:
    """Return the user's credentials for a repository, None if there are none.

    Raises:
        CredentialsError: credentials are configured but cannot be read.
    """
    run = os.environ.get("XDG_RUNTIME_DIR")
    session = Path(run) / "containers" if run else Path(f"/run/containers/{os.getuid()}")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    named = os.environ.get("REGISTRY_AUTH_FILE") or session / "auth.json"
    files = (Path(named), config / "containers" / "auth.json", docker / "config.json")
    each = (_from_file(path, registry, repository) for path in files)
    return next((found for found in each if found), None)


def login_command(registry: str) -> str:
    """Return the command that creates credentials for a registry."""
    if registry == "gcr.io" or registry.endswith((".gcr.io", "-docker.pkg.dev")):
        return f"gcloud auth login && gcloud auth configure-docker {registry}"
    return f"skopeo login {registry}"


def _from_file(path: Path, registry: str, repository: str) -> Credentials | None:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        helper = config.get("credHelpers", {}).get(registry)
        entries = {_key(name): entry for name, entry in config.get("auths", {}).items()}
        store = config.get("credsStore")
        if helper:
            return _ask_helper(helper, registry)
        parts = [registry, *repository.split("/")]
        for length in range(len(parts), 0, -1):
            entry = entries.get("/".join(parts[:length]))
            if entry and (found := _from_entry(entry)):
                return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = f"The credentials of {registry} in {path} cannot be read: {error}."
        raise CredentialsError(problem, f"edit {path}, or {login_command(registry)}") from error
    # docker stores credentials of Docker Hub under this URL.
    server = "https://index.docker.io/v1/" if registry == DOCKER_HUB else registry
    return _ask_helper(store, server) if store else None


def _key(name: str) -> str:
    # docker writes URLs, containers/image writes paths.
    _, scheme, rest = name.partition("://")
    key = rest.partition("/")[0] if scheme else name
    return DOCKER_HUB if key in DOCKER_HUB_NAMES else key


def _from_entry(entry: dict[str, str]) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials("<token>", entry["identitytoken"])
    if entry.get("username") and entry.get("password"):
        return Credentials(entry["username"], entry["password"])
    if not entry.get("auth"):
        return None
    user, _, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    return Credentials(user, secret.strip("\0"))


def _ask_helper(helper: str, server: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    fix = f"echo {server} | {program} get"
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": _HELPER_SECONDS}
    try:
        answer = subprocess.run([program, "get"], input=server, check=False, **settings)
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = f"The credential helper of {server} cannot be run: {error}."
        raise CredentialsError(problem, f"install {program}; to test: {fix}") from error
    # In the helpers' protocol, this text on standard output means that it has none.
    if answer.returncode and "credentials not found" in answer.stdout + answer.stderr:
        return None
    try:
        found = json.loads(answer.stdout)
        return Credentials(found["Username"], found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{program} failed, or did not return credentials for {server}."
        raise CredentialsError(problem, fix) from error
