import gzip
import hashlib
import io
import itertools
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images.errors import TagExistsError
from images.make.build import build_image, build_pause
from images.make.plan import Compression
from images.make.push import BuiltImage
from images.make.remote import RemoteImage, open_remote
from images.registry.reference import Target
from schema.image_tag import ImageTag, parse_tag
from tests.images.faulty_proxy import Fault, Proxy
from tests.images.local_registry import LocalRegistry


def read(built: BuiltImage) -> tuple[RemoteImage, list[bytes]]:
    """The image and its layers as they are in the registry."""
    with open_remote(built.target) as remote:
        assert remote.target.digest == built.digest
        return remote, [b"".join(remote.open_layer(layer)) for layer in remote.image.layers]


def members(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {member.name: member for member in tar}


def test_image_has_the_layers_sizes_and_diff_ids_that_it_claims(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(3, 5_000_001), registry.target("claims"))
    remote, layers = read(built)
    assert remote.image.layers == built.layers
    assert len(layers) == 3
    total = 0
    for packed, layer in zip(layers, built.layers, strict=True):
        assert f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}" == layer.diff_id
        found = members(packed)
        total += sum(m.size for name, m in found.items() if name.startswith("pull-study/"))
        assert {(m.uid, m.gid, m.mtime) for m in found.values()} == {(0, 0, 0)}
    assert total == 5_000_001


def test_the_first_layer_is_a_root_file_system(registry: LocalRegistry) -> None:
    remote, layers = read(build_image(ImageTag(2, 2), registry.target("rootfs")))
    found = members(layers[0])
    assert found["bin/busybox"].mode == 0o755
    assert {found[f"bin/{name}"].linkname for name in ("sh", "sleep", "true")} == {"busybox"}
    assert remote.image.command == ("/bin/true",)
    assert remote.image.config["architecture"] in {"amd64", "arm64"}


@pytest.mark.parametrize(
    ("compression", "digest"),
    [
        (Compression.GZIP, "6669b34b42bb8404a308f5b03756288b1c99f69b1fd26e28d101b857c33af223"),
        (Compression.ZSTD, "0c37bcaf22beae46bafbb345b2ceb36a413e96ab4d42377a3cdc222eb7c12f50"),
        (Compression.NONE, "5b28a7466620b0c847ef32e0869e5e57c34d9f107f172451f694df6bfa28a78e"),
    ],
)
def test_same_arguments_give_the_same_digest_everywhere(
    registry: LocalRegistry,
    compression: Compression,
    digest: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Pinned: if it changes, images.make.compression.FORMAT must go up. The first layer, which has
    # this machine's busybox, is another matter.
    built = []
    for place in ("one-machine", "another-machine"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        target = registry.target(f"{place}-{compression}")
        built.append(build_image(ImageTag(2, 3_000_000), target, compression=compression))
    assert built[0].digest == built[1].digest
    assert built[0].layers[1].digest == f"sha256:{digest}"


@pytest.mark.parametrize(
    "tags",
    [
        [parse_tag(f"9-layers-size-400000-bytes{salt}") for salt in ("", "-b", "-c")],
        [ImageTag(4, 400_000), ImageTag(4, 500_000), ImageTag(5, 400_000)],
    ],
    ids=["salts", "a matrix"],
)
def test_other_images_share_no_layer(registry: LocalRegistry, tags: list[ImageTag]) -> None:
    built = [build_image(tag, registry.target("shares")) for tag in tags]
    layers = [layer for image in built for layer in image.layers]
    count = sum(tag.layers for tag in tags)
    assert len({x.digest for x in layers}) == len({x.diff_id for x in layers}) == count


def test_an_image_that_is_there_is_not_sent_again(registry: LocalRegistry) -> None:
    tag, target = ImageTag(3, 300_000), registry.target("again")
    first, second = build_image(tag, target), build_image(tag, target)
    assert (second.digest, second.sent, second.layers) == (first.digest, 0, first.layers)


def test_layers_of_another_repository_are_mounted(registry: LocalRegistry) -> None:
    first = build_image(ImageTag(3, 30_000_000), registry.target("mount-from"))
    second = build_image(ImageTag(3, 30_000_000), registry.target("mount-to"))
    assert second.digest == first.digest
    assert second.sent < 10_000  # the config alone


def test_a_tag_of_another_image_is_refused_without_overwrite(registry: LocalRegistry) -> None:
    target = registry.target("taken", tag="latest")
    first = build_image(ImageTag(1, 1000), target)
    with pytest.raises(TagExistsError, match="already names another image"):
        build_image(ImageTag(1, 2000), target)
    assert read(first)
    second = build_image(ImageTag(1, 2000), target, overwrite=True)
    assert second.digest != first.digest


def test_different_images_may_be_built_at_once(registry: LocalRegistry) -> None:
    tags = [ImageTag(5, 1_000_000 + n) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda tag: build_image(tag, registry.target("at-once")), tags))
    alone = [build_image(tag, registry.target("one-by-one")) for tag in tags]
    assert [x.digest for x in together] == [x.digest for x in alone]


def test_progress_counts_every_content_byte_once(
    registry: LocalRegistry, proxy: Proxy, no_sleep: list[float]
) -> None:
    proxy.faults.append(Fault("PATCH", "uploads", cut_after=1_500_000))
    for name, repository in itertools.product((proxy.name, registry.name), ("first", "second")):
        counted: list[int] = []
        build_image(ImageTag(3, 12_345_678), Target(name, repository), on_bytes=counted.append)
        assert sum(counted) == 12_345_678


def test_scale_shrinks_the_content_and_keeps_the_tag(registry: LocalRegistry) -> None:
    built = build_image(parse_tag("9-layers-size-48702097-bytes"), registry.target(), scale=0.001)
    assert built.size == 48_702
    assert built.target.tag == "9-layers-size-48702097-bytes"


def test_pause_image_sleeps(registry: LocalRegistry) -> None:
    built = build_pause(registry.target("pause"))
    assert str(built.target).endswith("/pause:pause")
    assert build_pause(registry.target("pause")).digest == built.digest
    assert read(built)[0].image.command == ("/bin/sleep", "infinity")


def test_skopeo_copies_the_image_from_a_registry_that_hiccups(
    registry: LocalRegistry, proxy: Proxy
) -> None:
    # The command of images/README.md. Debian's skopeo 1.9 does not retry a broken download itself,
    # so the command is run again; layers that were complete are not read again.
    built = build_image(ImageTag(7, 20_000_000), registry.target("skopeo"))
    proxy.faults += [Fault("GET", "blobs/sha256", cut_answer=300_000) for _ in range(2)]
    command = ["skopeo", "copy", "--preserve-digests", "--retry-times", "5"]
    command += ["--src-tls-verify=false", "--dest-tls-verify=false"]
    command += [f"docker://{proxy.name}/skopeo:{built.target.tag}"]
    command += [f"docker://{registry.name}/copied:x"]
    codes: list[int] = []
    while 0 not in codes and len(codes) < 3:
        codes.append(subprocess.run(command, check=False, timeout=120).returncode)
    assert codes[-1] == 0
    assert not proxy.faults
    with open_remote(registry.target("copied", tag="x")) as remote:
        assert remote.target.digest == built.digest
