"""What is known of an image that somebody asks about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
from analysis.ask.image_facts import UnknownImageError, find_image
from images.make.build import build_image
from schema.image_tag import ImageTag
from tests.analysis.ask.test_similarity import saved
from tests.analysis.recorded import IMAGES, write_study
from tests.images.local_registry import LocalRegistry, run_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_a_recorded_image_is_known_by_name_or_tag(tmp_path: Path) -> None:
    frames = analysis.load([write_study(tmp_path, (4,))])
    for reference in (IMAGES[0], "9-layers-size-1176249324-bytes"):
        found = find_image(reference, frames, None)
        assert (found.layers, found.unpacked_bytes, found.wire_bytes) == (9, 1176249324, 3369495)


def test_saved_manifests_go_first(tmp_path: Path) -> None:
    found = find_image("x/y:3-layers-size-3000-bytes", None, saved(tmp_path))
    assert (found.layers, found.unpacked_bytes, found.wire_bytes) == (4, 3000, 400)


def test_a_tag_of_the_study_says_what_it_claims() -> None:
    found = find_image("9-layers-size-5000-bytes", None, None)
    assert (found.layers, found.unpacked_bytes, found.wire_bytes) == (9, 5000, None)


def test_what_is_given_outright_goes_before_what_is_found() -> None:
    found = find_image("9-layers-size-5000-bytes", None, None, layers=3, compressed_bytes=7)
    assert (found.layers, found.unpacked_bytes, found.wire_bytes) == (3, 5000, 7)


def test_any_other_image_is_looked_up_in_its_registry(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = build_image(ImageTag(3, 3_000_000), registry.target("asked"))
    digest = f"{registry.name}/asked@{built.digest}"
    found = find_image(digest, None, None)
    assert found.layers == 3
    assert found.wire_bytes is not None
    assert 1_000_000 < found.wire_bytes < 4_000_000


def test_an_image_that_no_registry_has_is_an_error(registry: LocalRegistry) -> None:
    with pytest.raises(UnknownImageError, match=r"are unknown: There is no image"):
        find_image(f"{registry.name}/none:x", None, None)
