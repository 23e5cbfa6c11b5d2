"""What strikes a real node's pulls on their way to the registry: rules of a front, one a node.

Struck are the requests for the manifest of a trial's image, by which a pull begins; the image of
the pods' sandboxes passes. Simulated nodes ask rehearsal.faults.nodes instead.
"""

import json
import re
import time
from collections.abc import Callable

from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Emit, Request

KINDS = ("image-missing", "registry-throttled", "registry-down")

_BEGINNING = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs)/(?P<digest>sha256:[0-9a-f]{64})")
_ONE_TRY_S = 2.0
"""Requests closer together belong to one try: a kubelet waits 10 s before the next."""


class RegistryRules:
    """The rules (rehearsal.faults.proxy.Rules) of one node.

    Args:
        faults: that were asked for.
        node: the node.
        trial_of: the trial of an image by its digest, 0 for none.
    """

    def __init__(self, faults: Faults, node: str, trial_of: Callable[[str], int]) -> None:
        self._faults = faults
        self._node = node
        self._trial_of = trial_of
        self._drawn: dict[tuple[str, str], Fault | None] = {}
        self._tries: dict[str, tuple[int, float]] = {}

    def before(self, request: Request) -> Request | Answer:
        """Strike a request; see front.Rules."""
        match = _BEGINNING.fullmatch(request.path)
        trial = self._trial_of(match["digest"]) if match else 0
        if match is None or not trial:
            return request
        image = f"{match['name']}@{match['digest']}"
        attempt = self._attempt(image)
        if self._draw("image-missing", trial, image):
            return _refused(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if self._strikes("registry-throttled", trial, image, attempt):
            return _refused(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
        if self._strikes("registry-down", trial, image, attempt):
            raise ConnectionReset
        return request

    def open_stream(self, _request: Request, _emit: Emit, _cut: Callable[[], None]) -> Emit | None:
        """A registry's answers are no streams of lines."""
        return None

    def body(self, _request: Request, body: bytes) -> bytes:
        """Bytes of images are left alone."""
        return body

    def _strikes(self, name: str, trial: int, image: str, attempt: int) -> bool:
        fault = self._draw(name, trial, image)
        return fault is not None and (not fault.number("tries") or attempt <= fault.number("tries"))

    def _draw(self, name: str, trial: int, image: str) -> Fault | None:
        key = (name, image)
        if key not in self._drawn:
            self._drawn[key] = self._faults.strike(name, trial=trial, node=self._node, image=image)
        return self._drawn[key]

    def _attempt(self, image: str) -> int:
        number, last = self._tries.get(image, (0, float("-inf")))
        now = time.monotonic()
        number += now - last > _ONE_TRY_S
        self._tries[image] = (number, now)
        return number


def _refused(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json"})
