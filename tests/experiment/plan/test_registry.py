import pytest

from experiment.errors import PreflightError, RegistryError
from experiment.plan.registry import resolve_image, resolve_images
from schema.study import ImageSet, Study


def test_a_registry_that_does_not_answer_is_an_error_with_its_fix() -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1/a:t cannot be read") as caught:
        resolve_image("127.0.0.1:1/a", "t")
    assert "skopeo" in caught.value.fix


def test_without_skopeo_the_fix_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    study = Study(name="s", images=(ImageSet(repository="ghcr.io/a/b", tags=("t",)),))
    with pytest.raises(PreflightError, match="skopeo is not on PATH"):
        resolve_images(study)
    with pytest.raises(PreflightError, match="skopeo is not on PATH"):
        resolve_image("ghcr.io/a/b", "t")  # as a resumed run does for the image that removes others
