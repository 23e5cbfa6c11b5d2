from __future__ import annotations

import json

import pytest

from rehearsal.faults.faults import Faults
from rehearsal.faults.proxy import Answer, ConnectionReset, Request
from rehearsal.faults.registry import RegistryRules

DIGEST = f"sha256:{'a' * 64}"
MANIFEST = Request("HEAD", f"/v2/owner/image/manifests/{DIGEST}?ns=ghcr.io", b"")
BLOB = Request("HEAD", f"/v2/owner/image/blobs/{DIGEST}?ns=ghcr.io", b"")
LAYER = Request("GET", f"/v2/owner/image/blobs/sha256:{'b' * 64}", b"")


def trial_of(digest: str) -> int:
    return 2 if digest == DIGEST else 0


def test_a_missing_image_is_not_found_in_any_way() -> None:
    asked = Faults.read(["image-missing:trial=2,node=1"])
    one = RegistryRules(asked, "n-0001", trial_of)
    for request in (MANIFEST, BLOB, MANIFEST):
        answer = one.before(request)
        assert isinstance(answer, Answer)
        assert answer.status == 404
        assert json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert len(asked.struck) == 1
    assert RegistryRules(asked, "n-0002", trial_of).before(MANIFEST) == MANIFEST


def test_layers_and_images_of_no_trial_pass() -> None:
    asked = Faults.read(["registry-down:trial=0,tries=0", "image-missing:trial=0"])
    one = RegistryRules(asked, "n-0001", trial_of)
    pause = Request("HEAD", "/v2/pull-study/pause/manifests/pause", b"")
    for request in (LAYER, pause, Request("GET", "/v2/", b"")):
        assert one.before(request) == request
    assert asked.struck == []


@pytest.mark.parametrize(("tries", "struck"), [(1, [True, True, False]), (0, [True] * 3)])
def test_so_many_tries_are_throttled(
    tries: int, struck: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rehearsal.faults.registry.time.monotonic", lambda: now[0])
    asked = Faults.read([f"registry-throttled:trial=2,tries={tries}"])
    one = RegistryRules(asked, "n-0001", trial_of)
    answers = []
    for at in (100.0, 100.5, 110.5):  # two requests of a first try, then the kubelet's next
        now[0] = at
        answers.append(isinstance(one.before(MANIFEST), Answer))
    assert answers == struck


def test_a_registry_that_is_down_resets_connections() -> None:
    one = RegistryRules(Faults.read(["registry-down:trial=2"]), "n-0001", trial_of)
    with pytest.raises(ConnectionReset):
        one.before(MANIFEST)
