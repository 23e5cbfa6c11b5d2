import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import zstandard

from images.errors import TagExistsError
from images.make.build import build_image, build_pause
from images.make.plan import Compression
from images.make.push import BuiltImage
from images.registry.reference import Target
from schema.image_tag import ImageTag, parse_tag
from tests.images.local_registry import LocalRegistry


def blob(target: Target, digest: str) -> bytes:
    answer = requests.get(
        f"http://{target.registry}/v2/{target.repository}/blobs/{digest}", timeout=30
    )
    assert answer.status_code == 200
    assert digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    return answer.content


def manifest(built: BuiltImage) -> dict[str, Any]:
    target = built.target
    answer = requests.get(
        f"http://{target.registry}/v2/{target.repository}/manifests/{target.tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        timeout=30,
    )
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == built.digest
    return dict(answer.json())


def members(raw: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: member for member in tar}


def test_image_has_the_layers_sizes_and_diff_ids_that_it_claims(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(3, 5_000_001), registry.target("claims"))
    entries = manifest(built)["layers"]
    assert len(entries) == 3
    total = 0
    for entry, layer in zip(entries, built.layers, strict=True):
        packed = blob(built.target, entry["digest"])
        assert len(packed) == entry["size"]
        unpacked = gzip.decompress(packed)
        assert f"sha256:{hashlib.sha256(unpacked).hexdigest()}" == layer.diff_id
        found = members(unpacked)
        total += sum(m.size for name, m in found.items() if name.startswith("pull-study/"))
        assert {(m.uid, m.gid, m.mtime) for m in found.values()} == {(0, 0, 0)}
    assert total == 5_000_001


def test_the_first_layer_is_a_root_file_system(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(2, 2), registry.target("rootfs"))
    found = members(gzip.decompress(blob(built.target, built.layers[0].digest)))
    assert found["bin/busybox"].mode == 0o755
    assert {found[f"bin/{name}"].linkname for name in ("sh", "sleep", "true")} == {"busybox"}
    config = json.loads(blob(built.target, manifest(built)["config"]["digest"]))
    assert config["config"]["Cmd"] == ["/bin/true"]
    assert config["architecture"] in {"amd64", "arm64"}


@pytest.mark.parametrize("compression", list(Compression))
def test_same_arguments_give_the_same_digest_in_another_registry_path(
    registry: LocalRegistry,
    compression: Compression,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    first = build_image(
        ImageTag(4, 3_000_000), registry.target(f"same-a-{compression}"), compression=compression
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another-machine"))
    second = build_image(
        ImageTag(4, 3_000_000), registry.target(f"same-b-{compression}"), compression=compression
    )
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("compression", "digest"),
    [
        (
            Compression.GZIP,
            "sha256:6669b34b42bb8404a308f5b03756288b1c99f69b1fd26e28d101b857c33af223",
        ),
        (
            Compression.ZSTD,
            "sha256:0c37bcaf22beae46bafbb345b2ceb36a413e96ab4d42377a3cdc222eb7c12f50",
        ),
        (
            Compression.NONE,
            "sha256:5b28a7466620b0c847ef32e0869e5e57c34d9f107f172451f694df6bfa28a78e",
        ),
    ],
)
def test_a_layer_has_the_same_digest_on_every_machine(
    registry: LocalRegistry, compression: Compression, digest: str
) -> None:
    # Pinned: if it changes, images.make.compression.FORMAT must go up. The first layer, which has
    # this machine's busybox, is another matter.
    target = registry.target(f"pinned-{compression}")
    built = build_image(ImageTag(2, 3_000_000), target, compression=compression)
    assert built.layers[1].digest == digest


def test_another_salt_shares_no_layer(registry: LocalRegistry) -> None:
    tag = "9-layers-size-400000-bytes"
    built = [
        build_image(parse_tag(name), registry.target("salted"))
        for name in (tag, f"{tag}-b", f"{tag}-c")
    ]
    digests = [layer.digest for image in built for layer in image.layers]
    diff_ids = [layer.diff_id for image in built for layer in image.layers]
    assert len(set(digests)) == len(set(diff_ids)) == 27


@pytest.mark.parametrize("other", [ImageTag(4, 500_000), ImageTag(5, 400_000)], ids=str)
def test_images_of_a_matrix_share_no_layer(registry: LocalRegistry, other: ImageTag) -> None:
    built = [
        build_image(tag, registry.target(f"matrix-{other}"))
        for tag in (ImageTag(4, 400_000), other)
    ]
    assert not {x.diff_id for x in built[0].layers} & {x.diff_id for x in built[1].layers}


def test_compression_changes_the_blobs_and_not_the_content(registry: LocalRegistry) -> None:
    built = [
        build_image(ImageTag(3, 900_000), registry.target(f"packed-{kind}"), compression=kind)
        for kind in Compression
    ]
    assert len({tuple(x.diff_id for x in image.layers) for image in built}) == 1
    assert len({tuple(x.digest for x in image.layers) for image in built}) == 3
    packed = blob(built[1].target, built[1].layers[1].digest)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True)
    assert f"sha256:{hashlib.sha256(reader.read()).hexdigest()}" == built[1].layers[1].diff_id


def test_an_image_that_stands_is_not_sent_again(registry: LocalRegistry) -> None:
    tag, target = ImageTag(3, 300_000), registry.target("again")
    first = build_image(tag, target)
    second = build_image(tag, target)
    assert (second.digest, second.sent) == (first.digest, 0)
    assert second.layers == first.layers


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
    assert manifest(first)
    second = build_image(ImageTag(1, 2000), target, overwrite=True)
    assert second.digest != first.digest


def test_different_images_may_be_built_at_once(registry: LocalRegistry) -> None:
    tags = [ImageTag(5, 1_000_000 + n) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda tag: build_image(tag, registry.target("at-once")), tags))
    alone = [build_image(tag, registry.target("one-by-one")) for tag in tags]
    assert [x.digest for x in together] == [x.digest for x in alone]


def test_progress_counts_every_content_byte_once(registry: LocalRegistry) -> None:
    for repository in ("told", "told-again"):
        told: list[int] = []
        build_image(ImageTag(3, 12_345_678), registry.target(repository), on_bytes=told.append)
        assert sum(told) == 12_345_678


def test_scale_shrinks_the_content_and_keeps_the_tag(registry: LocalRegistry) -> None:
    built = build_image(parse_tag("9-layers-size-48702097-bytes"), registry.target(), scale=0.001)
    assert built.size == 48_702
    assert built.target.tag == "9-layers-size-48702097-bytes"


def test_pause_image_sleeps(registry: LocalRegistry) -> None:
    built = build_pause(registry.target("pause"))
    assert str(built.target).endswith("/pause:pause")
    assert build_pause(registry.target("pause")).digest == built.digest
    config = json.loads(blob(built.target, _config_digest(built)))
    assert config["config"]["Cmd"] == ["/bin/sleep", "infinity"]


def test_skopeo_reads_the_image(registry: LocalRegistry, tmp_path: Path) -> None:
    built = build_image(ImageTag(7, 20_000_000), registry.target("skopeo"))
    copy = f"oci:{tmp_path / 'oci'}:copy"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", f"docker://{built.target}", copy],
        check=True,
        timeout=120,
    )
    index = json.loads((tmp_path / "oci" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == built.digest


def _config_digest(built: BuiltImage) -> str:
    return str(manifest(built)["config"]["digest"])
