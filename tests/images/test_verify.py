import gzip
import hashlib
import json
import re

import pytest

from images.errors import NotInRegistryError
from images.make.build import build_image
from images.make.manifest import MAKING
from images.make.plan import Compression
from images.make.push import BuiltImage
from images.make.remote import read_remote
from images.registry.client import Registry
from images.registry.upload import upload_bytes
from images.verify import CheckedImage, verify_image
from schema.image_tag import ImageTag, parse_tag
from tests.images.local_registry import LocalRegistry


def verify(built: BuiltImage) -> CheckedImage:
    with Registry(built.target.registry) as client:
        return verify_image(client, built.target)


@pytest.mark.parametrize("compression", list(Compression))
def test_a_sound_image_has_no_fault(registry: LocalRegistry, compression: Compression) -> None:
    target = registry.target(f"sound-{compression}")
    found = verify(build_image(ImageTag(4, 3_000_001), target, compression=compression))
    assert found.faults == ()
    assert found.seeded
    assert sum(layer.content for layer in found.layers) == 3_000_001


@pytest.mark.parametrize("salt", ["v2x2", "files100", "gzip9", "zstd19", "none", "b"])
def test_every_variant_is_sound(registry: LocalRegistry, salt: str) -> None:
    found = verify(build_image(parse_tag(f"3-layers-size-600000-bytes-{salt}"), registry.target()))
    assert found.faults == ()
    assert sum(layer.content for layer in found.layers) == 600_000


def test_progress_counts_the_compressed_bytes(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(4, 100_000), registry.target("told"))
    told: list[int] = []
    with Registry(registry.name) as client:
        verify_image(client, built.target, on_bytes=told.append)
    assert sum(told) == built.compressed


def test_a_blob_that_was_altered_is_a_fault(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(2, 2_000_000), registry.target("altered"))
    digest = built.layers[1].digest[7:]
    path = registry.data / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = verify(built)
    assert found.layers[0].faults == ()
    assert len(found.layers[1].faults) == 1


def test_a_blob_that_was_cut_is_a_fault(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(1, 2_000_000), registry.target("cut"))
    digest = built.layers[0].digest[7:]
    path = registry.data / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
    path.write_bytes(path.read_bytes()[:500_000])
    assert len(verify(built).faults) == 1


def forge(registry: LocalRegistry, built: BuiltImage, change: str) -> CheckedImage:
    """Push an image that claims to be `built` and is not, with digests that agree."""
    with Registry(registry.name) as client:
        remote = read_remote(client, built.target)
        config = json.loads(json.dumps(remote.image.config))
        manifest = json.loads(remote.manifest)
        raw = b"".join(
            client.open_blob(built.target.repository, built.layers[1].digest, built.layers[1].size)
        )
        tar = bytearray(gzip.decompress(raw))
        if change == "byte":
            tar[1600] ^= 1
        elif change == "name":
            tar[512 + 18 : 512 + 19] = b"9"
        blob = gzip.compress(tar)
        if change == "seed":
            config[MAKING]["origin"]["plan"]["layers"][1]["seed"] += "x"
        elif change != "diff id":
            config["rootfs"]["diff_ids"][1] = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        else:
            config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64
        layer = upload_bytes(client, built.target.repository, blob)
        manifest["layers"][1] |= {"digest": layer.digest, "size": layer.size}
        stored = upload_bytes(client, built.target.repository, json.dumps(config).encode())
        manifest["config"] |= {"digest": stored.digest, "size": stored.size}
        target = built.target.with_tag("forged")
        client.put_manifest(target, manifest["mediaType"], json.dumps(manifest).encode())
        return verify_image(client, target)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("byte", "does not hold the bytes of its seed"),
        ("seed", "does not hold the bytes of its seed"),
        ("diff id", "its config says sha256:0000"),
        ("name", "is not a|lacks the file|does not"),
    ],
)
def test_a_forged_image_is_found_out(registry: LocalRegistry, change: str, fault: str) -> None:
    name = f"forged-{change.replace(' ', '-')}"
    built = build_image(ImageTag(2, 200_000), registry.target(name))
    found = forge(registry, built, change)
    assert found.layers[0].faults == ()
    assert found.layers[1].faults
    assert re.search(fault, found.layers[1].faults[0])


def test_an_absent_image_is_an_error_and_no_fault(registry: LocalRegistry) -> None:
    with Registry(registry.name) as client, pytest.raises(NotInRegistryError):
        verify_image(client, registry.target("absent", tag="x"))
