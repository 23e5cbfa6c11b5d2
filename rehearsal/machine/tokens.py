"""Access tokens of the clusters' administrator; they end after half a minute, on GKE after an hour.

The programs' gke-gcloud-auth-plugin prints them: SECRET.END, END in seconds since 1970. As the real
plugin, it gives the same token until 10 s before its end. The API servers ask the rehearsal's web
server whether a token is valid, by Kubernetes' TokenReview API, as GKE's ask Google
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication).
"""

import hmac
import json
import time
from collections.abc import Callable

from aiohttp import web

from rehearsal.machine.home import Home
from rehearsal.machine.web import Call, route

PATH = "/token-review"
LAST_S = 30
"""Longest life of a token, less the 10 s before its end in which the next one is given."""
OVERLAP_S = 10


def is_valid(token: str, secret: str, at: float) -> bool:
    """Return whether a token is this secret's and has not ended."""
    given, _, end = token.rpartition(".")
    return hmac.compare_digest(given, secret) and end.isdigit() and at < int(end)


def token_route(home: Home, clock: Callable[[], float] = time.time) -> web.RouteDef:
    """Return the route by which API servers have a token reviewed."""

    def review(call: Call) -> web.Response:
        request = json.loads(call.raw)
        secret = home.token_secret.read_text("ascii")
        status: dict[str, object] = {"authenticated": False}
        if is_valid(str(request["spec"].get("token", "")), secret, clock()):
            user = {"username": "rehearsal-user", "groups": ["system:masters"]}
            status = {"authenticated": True, "user": user}
        kind = {key: request[key] for key in ("apiVersion", "kind")}
        return web.json_response({**kind, "status": status})

    return route("POST", PATH, review)
