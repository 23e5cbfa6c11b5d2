from pathlib import Path

import pytest

from images.errors import RegistryError
from images.make.build import build_image
from images.make.remote import open_remote
from images.registry.config import Source, find_sources
from images.registry.reference import parse_target
from schema.image_tag import ImageTag
from tests.images.local_registry import LocalRegistry

CONF = """
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.gcr.io"
[[registry]]
prefix = "ghcr.io/org"
location = "inside.example.com/ghcr"
mirror-by-digest-only = true
[[registry.mirror]]
location = "10.0.0.1:5000/m"
insecure = true
[[registry]]
prefix = "bad.io"
blocked = true
"""
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    return path


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("quay.io/x:1", ["quay.io/x:1"]),
        ("docker.io/busybox:1", ["mirror.gcr.io/library/busybox:1", "docker.io/library/busybox:1"]),
        ("ghcr.io/org/x:1", ["inside.example.com/ghcr/x:1"]),
        ("ghcr.io/organ/x:1", ["ghcr.io/organ/x:1"]),
        (
            f"ghcr.io/org/x@{DIGEST}",
            [f"10.0.0.1:5000/m/x@{DIGEST}", f"inside.example.com/ghcr/x@{DIGEST}"],
        ),
    ],
)
def test_mirrors_come_before_the_registry(conf: Path, name: str, places: list[str]) -> None:
    insecure = [place.startswith("10.") for place in places]
    assert find_sources(parse_target(name)) == [
        Source(parse_target(place), plain) for place, plain in zip(places, insecure, strict=True)
    ]


def test_a_blocked_registry_and_a_broken_file_are_errors(conf: Path) -> None:
    with pytest.raises(RegistryError, match="blocked"):
        find_sources(parse_target("bad.io/x"))
    conf.write_text("[[")
    with pytest.raises(RegistryError, match="cannot be read"):
        find_sources(parse_target("quay.io/x"))


def test_an_image_is_read_from_the_first_mirror_that_has_it(
    registry: LocalRegistry, conf: Path
) -> None:
    built = build_image(ImageTag(1, 10), registry.target("mirrored"))
    mirrors = [f"{registry.name}/none", f"{registry.name}/mirrored"]
    lines = [f'[[registry.mirror]]\nlocation = "{mirror}"\n' for mirror in mirrors]
    conf.write_text('[[registry]]\nlocation = "a.invalid/x"\n' + "".join(lines))
    with open_remote(parse_target(f"a.invalid/x:{built.target.tag}")) as remote:
        assert str(remote.target) == f"a.invalid/x:{built.target.tag}@{built.digest}"
