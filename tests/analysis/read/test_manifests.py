"""Files of manifests from elsewhere are read within bounds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from analysis.read.manifests import ManifestError, read_manifests

TAG = "1-layers-size-48702097-bytes"


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifests.json.gz"
    saved = {"manifests": {TAG: {"layers": [{"digest": "sha256:a", "size": 7}]}}}
    path.write_bytes(gzip.compress(json.dumps(saved).encode()))
    (image,) = read_manifests(path)
    assert image.compressed_bytes == 7


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "manifests.json.gz"
    path.write_bytes(gzip.compress(b" " * (200 << 20)))
    with pytest.raises(ManifestError, match="unpacks to more than 250 times its size"):
        read_manifests(path)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"{", b"\xff\xfe{"], ids=["deep", "cut", "utf-16"]
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "manifests.json"
    path.write_bytes(text)
    with pytest.raises(ManifestError, match="is not JSON"):
        read_manifests(path)


def test_a_device_is_refused() -> None:
    with pytest.raises(ManifestError, match="no file of manifests"):
        read_manifests(Path("/dev/zero"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="There is no file"):
        read_manifests(tmp_path / "none")


@pytest.mark.parametrize("size", ["many", -1, 1e400, 10**30, None, [1]])
def test_a_size_that_is_none_counts_as_zero(tmp_path: Path, size: object) -> None:
    path = tmp_path / "manifests.json"
    layers = [{"digest": "sha256:a", "size": size}, {"digest": "sha256:b", "size": 5}]
    path.write_text(json.dumps({"manifests": {TAG: {"layers": layers}}}))
    (image,) = read_manifests(path)
    assert image.compressed_bytes == 5
