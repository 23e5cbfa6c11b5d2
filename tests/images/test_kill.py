"""A push that is killed, and one that runs into a full disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import RegistryError
from images.make.build import build_image
from images.make.remote import open_remote
from images.registry.client import Registry
from images.registry.reference import Target
from images.verify import verify_image
from schema.image_tag import ImageTag
from tests.images.local_registry import LocalRegistry, run_registry

ROOT = Path(__file__).parents[2]
TAG = ImageTag(12, 120_000_000)


def start(target: Target) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "images", "build", "--layers", str(TAG.layers)]
    command += ["--size", str(TAG.size_bytes), "--to", str(target), "--jobs", "2"]
    return subprocess.Popen(command, cwd=ROOT, stdout=-3, stderr=-3)


def await_layers(registry: LocalRegistry, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(registry.requests("PUT", "blobs/uploads")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_push_leaves_no_tag_and_is_completed_by_the_next(tmp_path: Path) -> None:
    with run_registry(tmp_path / "killed") as own, Registry(own.name) as client:
        target = own.target("killed")
        process = start(target)
        await_layers(own, 6)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert client.find_manifest(target.with_tag(str(TAG))) is None
        sent_before = len(own.requests("PUT", "blobs/uploads"))

        built = build_image(TAG, target)
        sent_after = len(own.requests("PUT", "blobs/uploads")) - sent_before
        # Complete layers are not sent again, but for the 2 at work, whose digests may not have
        # been written down when the end came; the config is one more.
        assert sent_after <= TAG.layers + 1 - (6 - 2)
        with open_remote(built.target) as remote:
            assert verify_image(remote).content == TAG.size_bytes

    with run_registry(tmp_path / "undisturbed") as other:
        assert build_image(TAG, other.target("killed")).digest == built.digest


def test_an_interrupted_push_ends_with_130_and_no_tag(tmp_path: Path) -> None:
    with run_registry(tmp_path / "interrupted") as own, Registry(own.name) as client:
        target = own.target("interrupted")
        process = start(target)
        await_layers(own, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert client.find_manifest(target.with_tag(str(TAG))) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_at_the_registry_leaves_no_tag(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.registry.upload.time.sleep", lambda _: None)
    with run_registry(small_disk) as full, Registry(full.name) as client:
        with pytest.raises(RegistryError, match=r"500|no space left") as refused:
            build_image(ImageTag(3, 60_000_000), full.target())
        assert "disk" in refused.value.fix
        assert client.find_manifest(full.target(tag="3-layers-size-60000000-bytes")) is None
