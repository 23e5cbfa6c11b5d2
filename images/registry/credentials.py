"""Credentials for a registry, as stored by docker and gcloud.

In this order: docker's config.json (inline or by a credential helper), gcloud's credential helper
for Artifact Registry and gcr.io, GITHUB_TOKEN for ghcr.io. None means to try without. Nothing is
stored or printed. `docker login` and `gcloud auth login` create credentials.
"""

import base64
import binascii
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.errors import CredentialsError

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


def find_credentials(registry: str) -> Credentials | None:
    """Return the user's credentials for a registry, None if there are none.

    Raises:
        CredentialsError: credentials are configured but cannot be read.
    """
    return _from_docker(registry) or _from_google(registry) or _from_github(registry)


def login_command(registry: str) -> str:
    """Return the command that creates credentials for a registry."""
    if _is_google(registry):
        return f"gcloud auth login && gcloud auth configure-docker {registry}"
    return f"docker login {registry}"


def _from_docker(registry: str) -> Credentials | None:
    path = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "config.json"
    config = _read_config(path)
    helper = config.get("credHelpers", {}).get(registry)
    if helper:
        return _ask_helper(helper, registry)
    for key in (
        registry,
        f"https://{registry}",
        f"https://{registry}/v1/",
        f"https://{registry}/v2/",
    ):
        entry = config.get("auths", {}).get(key)
        if entry and (found := _from_entry(entry, registry, path)):
            return found
    store = config.get("credsStore")
    return _ask_helper(store, registry) if store else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CredentialsError(
            f"Docker's configuration {path} cannot be read: {error}.", f"edit {path}"
        ) from error
    if not isinstance(config, dict):
        message = f"Docker's configuration {path} is not a JSON object."
        raise CredentialsError(message, f"edit {path}")
    return config


def _from_entry(entry: dict[str, str], registry: str, path: Path) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials("<token>", entry["identitytoken"])
    if entry.get("username") and entry.get("password"):
        return Credentials(entry["username"], entry["password"])
    if not entry.get("auth"):
        return None
    try:
        user, _, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"The entry of {registry} in {path} is not base64.", login_command(registry)
        ) from error
    return Credentials(user, secret.strip("\0"))


def _ask_helper(helper: str, registry: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    try:
        answer = subprocess.run(
            [program, "get"],
            input=registry,
            capture_output=True,
            text=True,
            check=False,
            timeout=_HELPER_SECONDS,
        )
    except FileNotFoundError as error:
        raise CredentialsError(
            f"Docker's configuration names the credential helper {program} for {registry}, but it "
            "is not on PATH.",
            f"install {program}, or remove it from ~/.docker/config.json",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CredentialsError(
            f"{program} did not answer for {registry} within {_HELPER_SECONDS} s.",
            f"echo {registry} | {program} get",
        ) from error
    if answer.returncode != 0:
        # In the helpers' protocol, this text on standard output means that it has none.
        if "credentials not found" in answer.stdout + answer.stderr:
            return None
        raise CredentialsError(
            f"{program} failed for {registry}.", f"echo {registry} | {program} get"
        )
    try:
        found = json.loads(answer.stdout)
        return Credentials(found["Username"], found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise CredentialsError(
            f"{program} did not return credentials for {registry}.",
            f"echo {registry} | {program} get",
        ) from error


def _from_google(registry: str) -> Credentials | None:
    # gcloud ships the helper; with it a user of gcloud needs no docker configuration.
    if _is_google(registry) and shutil.which("docker-credential-gcloud"):
        return _ask_helper("gcloud", registry)
    return None


def _from_github(registry: str) -> Credentials | None:
    token = os.environ.get("GITHUB_TOKEN", "")
    # ghcr.io only checks the token.
    return Credentials("token", token) if registry == "ghcr.io" and token else None


def _is_google(registry: str) -> bool:
    return registry == "gcr.io" or registry.endswith((".gcr.io", "-docker.pkg.dev"))
