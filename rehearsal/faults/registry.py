"""Faults between a real node and the registry: rules of a proxy, one a node.

They affect the requests for the manifest of a trial's image, by which a pull starts; the image of
the pods' sandboxes passes. Simulated nodes ask rehearsal.faults.nodes instead.
"""

import json
import re
import time
from collections.abc import Callable

from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Request, Rules

_MANIFEST = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs)/(?P<digest>sha256:[0-9a-f]{64})")
VIEW = "flux-view"
"""Part of the names of images of Flux."""
_ONE_ATTEMPT_S = 2.0
"""Requests closer together belong to one attempt: a kubelet waits 10 s before the next."""


class RegistryRules(Rules):
    """The rules of one node; `trial_of` returns the trial of an image's digest, 0 for none."""

    def __init__(self, faults: Faults, node: str, trial_of: Callable[[str], int]) -> None:
        self._faults = faults
        self._node = node
        self._trial_of = trial_of
        self._drawn: dict[tuple[str, str], Fault | None] = {}
        self._attempts: dict[str, tuple[int, float]] = {}

    def before(self, request: Request) -> Request | Answer:
        match = _MANIFEST.fullmatch(request.path)
        if match and VIEW in match["name"] and self._faults.inject("view-missing", node=self._node):
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        trial = self._trial_of(match["digest"]) if match else 0
        if match is None or not trial:
            return request
        image = f"{match['name']}@{match['digest']}"
        how = failure(self._attempt(image), lambda how: self._draw(how, trial, image))
        if how == "404":
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if how == "429":
            return _error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
        if how == "down":
            raise ConnectionReset
        return request

    def _draw(self, how: str, trial: int, image: str) -> Fault | None:
        key = (how, image)
        if key not in self._drawn:
            self._drawn[key] = self._faults.inject(
                "pull", how=how, trial=trial, node=self._node, image=image
            )
        return self._drawn[key]

    def _attempt(self, image: str) -> int:
        number, last = self._attempts.get(image, (0, float("-inf")))
        now = time.monotonic()
        number += now - last > _ONE_ATTEMPT_S
        self._attempts[image] = (number, now)
        return number


def failure(attempt: int, draw: Callable[[str], Fault | None]) -> str:
    """Return how this attempt of a pull fails, counted from 1: 404, 429 or down; empty if not."""
    for how in ("404", "429", "down"):
        fault = draw(how)
        if fault is None:
            continue
        tries = fault.number("tries")
        if how == "404" or not tries or attempt <= tries:
            return how
    return ""


def _error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json"})
