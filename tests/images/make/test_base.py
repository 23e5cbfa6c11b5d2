"""Images on a base: files and programs of another image in the first layer."""

import gzip
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import BadImageError, PlanError
from images.make.build import build_image
from images.make.remote import open_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import upload_bytes
from images.verify import verify_image
from schema.image_tag import ImageTag
from tests.images.local_registry import LocalRegistry

OCI = "application/vnd.oci.image"


def tar_of(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        fill(tar)
    return made.getvalue()


def files(**contents: str) -> bytes:
    def fill(tar: tarfile.TarFile) -> None:
        for name, content in contents.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))

    return tar_of(fill)


def push_base(target: Target, *layers: bytes, **config: object) -> Target:
    with Registry(target.registry, push=True) as client:
        blobs = [upload_bytes(client, target.repository, gzip.compress(tar)) for tar in layers]
        settings = {"architecture": "amd64", "os": "linux", "config": config}
        settings["rootfs"] = {
            "type": "layers",
            "diff_ids": [f"sha256:{n:064d}" for n in range(len(blobs))],
        }
        stored = upload_bytes(client, target.repository, json.dumps(settings).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {
                "mediaType": f"{OCI}.config.v1+json",
                "digest": stored.digest,
                "size": stored.size,
            },
            "layers": [
                {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": each.digest, "size": each.size}
                for each in blobs
            ],
        }
        raw = json.dumps(manifest).encode()
        client.put_manifest(target, f"{OCI}.manifest.v1+json", raw)
    return target


def bash_and_glibc() -> bytes:
    """This machine's bash with its libraries, under the paths that bash names."""
    bash = str(Path(shutil.which("bash") or "").resolve())
    linked = subprocess.run(["ldd", bash], capture_output=True, text=True, check=True).stdout
    paths = [bash, *re.findall(r"(/\S+)", linked)]

    def fill(tar: tarfile.TarFile) -> None:
        for path in paths:
            tar.add(Path(path).resolve(), arcname=path)
        link = tarfile.TarInfo("bin/true")
        link.type, link.linkname = tarfile.SYMTYPE, bash
        tar.addfile(link)

    return tar_of(fill)


def read_tar(target: Target, index: int) -> tarfile.TarFile:
    with open_remote(target) as remote:
        packed = b"".join(remote.open_layer(remote.image.layers[index]))
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed)))


def test_the_first_layer_has_the_files_of_all_layers_of_the_base(registry: LocalRegistry) -> None:
    base = push_base(
        registry.target("base", tag="two"),
        files(etc__version="old", etc__kept="yes"),
        files(etc__version="new"),
        Env=["LANG=C"],
        Entrypoint=["/x"],
    )
    built = build_image(ImageTag(3, 300_001), registry.target("on-base"), base=str(base))
    with read_tar(built.target, 0) as tar:
        contents = {m.name: tar.extractfile(m) for m in tar if m.isfile()}
        assert {name: file and file.read() for name, file in contents.items() if "etc" in name} == {
            "etc/version": b"new",
            "etc/kept": b"yes",
        }
    with open_remote(built.target) as remote:
        assert remote.image.config["config"] == {"Env": ["LANG=C"], "Cmd": ["/bin/true"]}
        assert remote.image.plan
        assert remote.image.plan.base.startswith(f"{base}@sha256:")
        assert verify_image(remote).content == 300_001
    again = build_image(ImageTag(3, 300_001), registry.target("again"), base=str(base))
    assert again.digest == built.digest


def test_images_on_one_base_share_no_layer(registry: LocalRegistry) -> None:
    base = push_base(registry.target("base", tag="bash"), bash_and_glibc())
    tags = [ImageTag(1, 1000), ImageTag(1, 2000), ImageTag(3, 1000), ImageTag(3, 1000, "b")]
    built = [build_image(tag, registry.target("shared"), base=str(base)) for tag in tags]
    with open_remote(base) as remote:
        of_base = [layer.digest for layer in remote.image.layers]
    digests = [layer.digest for image in built for layer in image.layers]
    assert len({*of_base, *digests}) == 1 + 1 + 1 + 3 + 3
    with read_tar(built[0].target, 0) as tar:
        names = tar.getnames()
        assert any(name.endswith("bin/bash") for name in names)
        assert any("libc.so.6" in name for name in names)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([files(a="1"), files(**{".wh.a": ""})], "a later layer removes files of another"),
        ([files(**{"d" * 200 + "__.wh.a": ""})], "a later layer removes files of another"),
        ([b"no tar" * 1000], "cannot be put into one layer"),
        ([files(a="x" * 9000)[:5000]], "its tar ends within a"),
    ],
)
def test_what_cannot_be_one_layer_is_refused(
    registry: LocalRegistry, layers: list[bytes], reason: str, request: pytest.FixtureRequest
) -> None:
    name = re.sub("[^a-z0-9]", "", request.node.name.lower())
    base = push_base(registry.target("unsuitable", tag=name), *layers)
    with pytest.raises(PlanError, match=reason) as refused:
        build_image(ImageTag(1, 10), registry.target("unsuitable"), base=str(base))
    assert "an image of one layer" in refused.value.fix


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_long_header_is_not_read(registry: LocalRegistry, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 8 << 20
    layer = info.tobuf(tarfile.GNU_FORMAT) + bytes(info.size + 1024)
    base = push_base(registry.target("bomb", tag=f"t{kind.hex()}"), layer)
    with pytest.raises(PlanError, match="a header of its tar claims 8388608 bytes"):
        build_image(ImageTag(1, 10), registry.target("bomb"), base=str(base))


def test_a_base_that_is_not_there_is_named(registry: LocalRegistry) -> None:
    with pytest.raises(PlanError, match="no-such-base:x does not exist"):
        build_image(ImageTag(2, 5000), registry.target(), base=f"{registry.name}/no-such-base:x")


def test_what_is_no_image_is_replaced_with_overwrite(registry: LocalRegistry) -> None:
    target = registry.target("artifact", tag="x")
    with Registry(registry.name, push=True) as client:
        blob = upload_bytes(client, "artifact", b"not an image config")
        config = f'{{"mediaType": "text/plain", "digest": "{blob.digest}", "size": {blob.size}}}'
        kind = f"{OCI}.manifest.v1+json"
        raw = f'{{"schemaVersion": 2, "mediaType": "{kind}", "config": {config}, "layers": []}}'
        client.put_manifest(target, kind, raw.encode())
    with pytest.raises(BadImageError, match="is not a container image"):
        build_image(ImageTag(1, 1000), target)
    assert build_image(ImageTag(1, 1000), target, overwrite=True).digest
