import gzip
import hashlib
import json
import re

import pytest

from images.errors import BadImageError, NotInRegistryError
from images.make.build import build_image
from images.make.layer_stream import OnBytes, ignore
from images.make.manifest import MAKING, read_image
from images.make.push import BuiltImage
from images.make.remote import open_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import upload_bytes
from images.verify import CheckedImage, verify_image
from schema.image_tag import ImageTag
from tests.images.faulty_proxy import Fault, Proxy
from tests.images.local_registry import LocalRegistry


def verify(target: Target, on_bytes: OnBytes = ignore) -> CheckedImage:
    with open_remote(target) as remote:
        return verify_image(remote, on_bytes=on_bytes)


@pytest.mark.parametrize("salt", ["", "v2x2", "files100", "gzip9", "zstd19", "none"])
def test_a_sound_image_has_no_fault(registry: LocalRegistry, salt: str) -> None:
    built = build_image(ImageTag(4, 3_000_001, salt), registry.target("sound"))
    checked: list[int] = []
    found = verify(built.target, checked.append)
    assert (found.faults, found.content) == (((),) * 4, 3_000_001)
    assert sum(checked) == built.compressed


@pytest.mark.parametrize("change", ["altered", "cut", "longer"])
def test_a_damaged_blob_is_a_fault(registry: LocalRegistry, change: str) -> None:
    built = build_image(ImageTag(2, 2_000_000), registry.target(f"damaged-{change}"))
    path = registry.blob_path(built.layers[1].digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= change == "altered"
    path.write_bytes({"cut": data[:500_000], "longer": data + b"x"}.get(change, data))
    found = verify(built.target)
    assert [len(faults) for faults in found.faults] == [0, 1]
    assert found.content == 0


def test_a_download_that_breaks_goes_on_where_it_broke(
    registry: LocalRegistry, proxy: Proxy, no_sleep: list[float]
) -> None:
    built = build_image(ImageTag(1, 9_000_000), registry.target("hiccups"))
    proxy.faults += [Fault("GET", "blobs/sha256", cut_answer=3_000_000) for _ in range(2)]
    proxy.faults.append(Fault("GET", "blobs/sha256", cut_answer=0))
    proxy.faults.insert(0, Fault("GET", "manifests"))  # the config is read before the layer
    target = Target(proxy.name, "hiccups", built.target.tag)
    assert verify(target).content == 9_000_000
    assert not proxy.faults
    assert no_sleep


def forge(registry: LocalRegistry, built: BuiltImage, change: str) -> CheckedImage:
    """Push an image that claims to be `built` and is not, with digests that agree."""
    with open_remote(built.target) as remote:
        config = json.loads(json.dumps(remote.image.config))
        tar = bytearray(gzip.decompress(b"".join(remote.open_layer(built.layers[1]))))
    with Registry(registry.name, push=True) as client:
        found = client.find_manifest(built.target)
        assert found
        manifest = json.loads(found.raw)
        if change == "byte":
            tar[1600] ^= 1
        elif change == "name":
            tar[512 + 18 : 512 + 19] = b"9"
        elif change == "bomb":
            tar += bytes(100_000_000)
        if change == "seed":
            config[MAKING]["origin"]["plan"]["layers"][1]["seed"] += "x"
        elif change != "diff id":
            config["rootfs"]["diff_ids"][1] = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        else:
            config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64
        layer = upload_bytes(client, built.target.repository, gzip.compress(tar))
        manifest["layers"][1] |= {"digest": layer.digest, "size": layer.size}
        stored = upload_bytes(client, built.target.repository, json.dumps(config).encode())
        manifest["config"] |= {"digest": stored.digest, "size": stored.size}
        target = built.target.with_tag("forged")
        client.put_manifest(target, manifest["mediaType"], json.dumps(manifest).encode())
    return verify(target)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("byte", "does not hold the bytes of its seed"),
        ("seed", "does not hold the bytes of its seed"),
        ("name", "does not hold the bytes of its seed"),
        ("diff id", "its config says sha256:0000"),
        ("bomb", "unpacks to more than the [0-9]+ bytes"),
    ],
)
def test_a_forged_image_is_found_out(registry: LocalRegistry, change: str, fault: str) -> None:
    name = f"forged-{change.replace(' ', '-')}"
    built = build_image(ImageTag(2, 200_000), registry.target(name))
    first, second = forge(registry, built, change).faults
    assert first == ()
    assert re.search(fault, second[0])


def test_an_absent_image_is_an_error_and_no_fault(registry: LocalRegistry) -> None:
    with pytest.raises(NotInRegistryError):
        verify(registry.target("absent", tag="x"))


@pytest.mark.parametrize("digest", ["\x1b[2J", "sha256:1", "../../x", 1])
def test_what_is_no_digest_is_no_image(digest: object) -> None:
    layer = {"digest": digest, "size": 1, "mediaType": "tar"}
    manifest = json.dumps({"config": {"digest": "x", "size": 1}, "layers": [layer]}).encode()
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}).encode()
    with pytest.raises(BadImageError, match=r"not of SHA-256|expected string"):
        read_image("x", manifest, config)
