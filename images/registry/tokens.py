"""What a registry asks for when it refuses a request, and the token that answers it."""

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from images.errors import RegistryError
from images.registry.credentials import Credentials
from images.registry.reference import is_loopback

_CHALLENGE = re.compile(r'(\w+)\s+((?:\w+\s*=\s*(?:"[^"]*"|[^\s",]+)\s*,?\s*)+)')
_FIELD = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s",]+))')


def read_challenges(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the fields of each challenge of an answer by its scheme, in lower case."""
    found = _CHALLENGE.findall(headers.get("WWW-Authenticate", ""))
    return {
        scheme.lower(): {name: quoted or plain for name, quoted, plain in _FIELD.findall(fields)}
        for scheme, fields in found
    }


def token_request(
    registry: str,
    challenge: Mapping[str, str],
    known: Credentials | None,
    repository: str,
    actions: set[str],
) -> requests.Request:
    """Return the request for a repository's bearer token, after a challenge of its registry.

    `actions` (`pull`, `push`) are requested beside those of the challenge: some registries do not
    challenge again when a token that allows to pull is used to push.

    Raises:
        RegistryError: the token server is not encrypted.
    """
    realm = challenge.get("realm", "")
    place = urlsplit(realm)
    if place.scheme != "https" and not (place.scheme == "http" and is_loopback(place.netloc)):
        raise RegistryError(
            f"{registry} requests credentials for {realm}, which is not encrypted.",
            "use a registry whose token server uses https",
        )
    scopes = _scopes(challenge.get("scope", ""), repository, actions)
    service = challenge.get("service", registry)
    if known is not None and known.is_refresh_token:
        fields = {"grant_type": "refresh_token", "refresh_token": known.secret}
        fields |= {"client_id": "pull-study", "service": service, "scope": " ".join(scopes)}
        return requests.Request("POST", realm, data=fields)
    # One parameter per scope: a mount needs two repositories.
    params = [("service", service), *(("scope", scope) for scope in scopes)]
    auth = (known.username, known.secret) if known else None
    return requests.Request("GET", realm, params=params, auth=auth)


def read_token(registry: str, body: bytes) -> str:
    """Return the token in a token server's answer, or raise a RegistryError."""
    try:
        found = json.loads(body)
        return str(found.get("token") or found["access_token"])
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise RegistryError(f"The token server of {registry} returned no token.") from error


def _scopes(wanted: str, repository: str, actions: set[str]) -> list[str]:
    own, others = set(actions), []
    for scope in wanted.split():
        kind, _, rest = scope.partition(":")
        name, _, named = rest.rpartition(":")
        if (kind, name) == ("repository", repository):
            own |= set(named.split(","))
        else:
            others.append(scope)
    return [f"repository:{repository}:{','.join(sorted(own))}", *others]
