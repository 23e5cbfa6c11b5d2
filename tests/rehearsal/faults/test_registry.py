from __future__ import annotations

import json

import pytest

from rehearsal.faults.faults import Faults
from rehearsal.faults.proxy import Answer, Request
from rehearsal.faults.registry import RegistryRules

DIGEST = f"sha256:{'a' * 64}"
MANIFEST = Request("HEAD", f"/v2/owner/image/manifests/{DIGEST}?ns=ghcr.io", b"")
BLOB = Request("HEAD", f"/v2/owner/image/blobs/{DIGEST}?ns=ghcr.io", b"")
LAYER = Request("GET", f"/v2/owner/image/blobs/sha256:{'b' * 64}", b"")


def trial_of(digest: str) -> int:
    return 2 if digest == DIGEST else 0


def test_a_missing_image_is_not_found_by_tag_or_digest() -> None:
    requested = Faults.read(["pull:how=404,trial=2,node=1"])
    one = RegistryRules(requested, "n-0001", trial_of)
    for request in (MANIFEST, BLOB, MANIFEST):
        answer = one.before(request)
        assert isinstance(answer, Answer)
        assert answer.status == 404
        assert json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert len(requested.injected) == 1
    assert RegistryRules(requested, "n-0002", trial_of).before(MANIFEST) == MANIFEST


def test_a_missing_view_is_found_on_no_node() -> None:
    requested = Faults.read(["view-missing"])
    one = RegistryRules(requested, "n-0001", trial_of)
    view = Request("GET", f"/v2/owner/flux-view-ubuntu/manifests/{DIGEST}", b"")
    answer = one.before(view)
    assert isinstance(answer, Answer)
    assert answer.status == 404
    assert one.before(MANIFEST) == MANIFEST


def test_layers_and_images_of_no_trial_pass() -> None:
    requested = Faults.read(["pull:how=down,trial=0,tries=0", "pull:how=404,trial=0"])
    one = RegistryRules(requested, "n-0001", trial_of)
    pause = Request("HEAD", "/v2/pull-study/pause/manifests/pause", b"")
    for request in (LAYER, pause, Request("GET", "/v2/", b"")):
        assert one.before(request) == request
    assert requested.injected == []


@pytest.mark.parametrize(("tries", "fails"), [(1, [True, True, False]), (0, [True] * 3)])
def test_the_first_tries_are_throttled(
    tries: int, fails: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rehearsal.faults.registry.time.monotonic", lambda: now[0])
    requested = Faults.read([f"pull:how=429,trial=2,tries={tries}"])
    one = RegistryRules(requested, "n-0001", trial_of)
    answers = []
    for at in (100.0, 100.5, 110.5):  # two requests of a first try, then the kubelet's next
        now[0] = at
        answers.append(isinstance(one.before(MANIFEST), Answer))
    assert answers == fails
