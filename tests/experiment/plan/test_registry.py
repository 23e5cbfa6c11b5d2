import json
import re

import pytest

from experiment.errors import PreflightError, RegistryError
from experiment.plan import registry
from experiment.plan.registry import _fix, resolve_image, resolve_images
from schema.names import REMOVER_DIGEST_VARIABLE
from schema.study import ImageSet, Study
from tests.experiment.cells import layered_image


def test_a_registry_that_does_not_answer_is_an_error_with_its_fix() -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1/a:t cannot be read") as caught:
        resolve_image("127.0.0.1:1/a", "t")
    assert "skopeo" in caught.value.fix


D = f"sha256:{'0' * 64}"
LAYER = {"digest": D, "size": 1}


@pytest.mark.parametrize(
    ("manifest", "config", "problem"),
    [
        ("[" * 100_000, {}, "is no image: the whole: Invalid JSON"),
        ("[1]", {}, "is no image: the whole: Input should be an object"),
        ({"manifests": {}}, {}, "is no image: manifests: Input should be"),
        (
            {"manifests": [{"platform": None}]},
            {},
            "manifests.0.digest: Field required",
        ),
        (
            {"layers": [{"digest": f"{D}\n{D} {D}", "size": 1}]},
            {},
            "layers.0.digest: String should",
        ),
        ({"layers": [{"digest": D, "size": 1e99}]}, {}, "layers.0.size: Unable to parse"),
        ({"layers": [LAYER]}, {"rootfs": []}, "is no image: rootfs: Input should be"),
        ({"layers": [LAYER]}, {"rootfs": {"diff_ids": ["$(id)"]}}, "rootfs.diff_ids.0: String"),
        ({"layers": [LAYER]}, {}, "lists 1 layers and its config 0"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, manifest: object, config: object, problem: str
) -> None:
    def answer(_name: str, what: str) -> bytes:
        data = config if what == "--config" else manifest
        return (data if isinstance(data, str) else json.dumps(data)).encode()

    monkeypatch.setattr(registry, "_skopeo", answer)
    with pytest.raises(RegistryError, match=re.escape(problem)) as refused:
        resolve_image("ghcr.io/a/b", "t")
    assert len(refused.value.problem) < 300


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of what the registry has under the remover's tag."""
    monkeypatch.delenv(REMOVER_DIGEST_VARIABLE, raising=False)
    found = layered_image("busybox", "x")
    monkeypatch.setattr(registry, "resolve_image", lambda *_: found)
    return found.digest


def test_another_image_under_the_tag_of_the_remover_is_refused(pulled: str) -> None:
    with pytest.raises(RegistryError, match=f"is {pulled} in its registry, not sha256:a9155b1"):
        registry.resolve_remover()


@pytest.mark.parametrize("accepted", ["", "its own"])
def test_a_digest_that_the_user_names_is_accepted(
    pulled: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOVER_DIGEST_VARIABLE, accepted and pulled)
    assert registry.resolve_remover().digest == pulled


def test_the_known_image_of_the_remover_is_accepted(
    pulled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "REMOVER_DIGEST", pulled)
    assert registry.resolve_remover().digest == pulled


def test_without_skopeo_the_fix_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    study = Study(name="s", images=(ImageSet(repository="ghcr.io/a/b", tags=("t",)),))
    with pytest.raises(PreflightError, match="skopeo is not on PATH"):
        resolve_images(study)
    with pytest.raises(PreflightError, match="skopeo is not on PATH"):
        resolve_image("ghcr.io/a/b", "t")  # as a resumed run does for the image that removes others


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("dial tcp: lookup ghcr.io on 127.0.0.11:53: no such host", "connect to the network"),
        ("dial tcp: lookup ghcr.io: Temporary failure in name resolution", "connect to the"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown", "SSL_CERT_FILE"),
        ("dial tcp 140.82.121.34:443: connect: network is unreachable", "HTTPS_PROXY"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "HTTPS_PROXY"),
        ("unauthorized: authentication required", "skopeo login ghcr.io"),
        ("open /run/containers/1001/auth.json: permission denied", "XDG_RUNTIME_DIR"),
        ("reading manifest x in ghcr.io/a/b: manifest unknown", "correct the image's name"),
        ("something else", "skopeo login ghcr.io, or correct the study"),
    ],
)
def test_each_cause_has_its_own_fix(reason: str, fix: str) -> None:
    assert fix in _fix(reason, "ghcr.io")
