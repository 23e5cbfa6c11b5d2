import hashlib

import deflate
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from images.make.content import UNIT, file_content, random_bytes_per_unit

MIB = 1 << 20
BLOCK = 512 * UNIT

sizes = st.one_of(
    st.integers(0, 3 * BLOCK),
    st.sampled_from([0, 1, 7, 8, 9, UNIT - 1, UNIT, UNIT + 1, BLOCK - 1, BLOCK, BLOCK + 1]),
)
shares = st.floats(0, 1)


def content(seed: str, number: int, size: int, compressibility: float = 0.5) -> bytes:
    return b"".join(file_content(seed, number, size, compressibility))


@given(sizes, shares)
def test_a_file_has_exactly_the_requested_bytes(size: int, compressibility: float) -> None:
    assert len(content("s", 0, size, compressibility)) == size


@given(sizes, sizes, shares)
def test_a_shorter_file_is_the_beginning_of_a_longer_one(
    one: int, two: int, compressibility: float
) -> None:
    shorter, longer = sorted((one, two))
    assert content("s", 3, longer, compressibility).startswith(
        content("s", 3, shorter, compressibility)
    )


def test_the_bytes_are_the_same_on_every_machine() -> None:
    # Pinned: another value here means that every digest ever published is another.
    found = hashlib.sha256(content("9-layers-size-1000000-bytes", 4, 1_000_001)).hexdigest()
    assert found == "e3d115b19d95228aa7e0ceb832872fb39143390aed6f3edb1d3f303ffc6d0b29"


@pytest.mark.parametrize("compressibility", [0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    "compress",
    [
        pytest.param(lambda data: deflate.gzip_compress(data, 1), id="gzip-1"),
        pytest.param(lambda data: deflate.gzip_compress(data, 6), id="gzip-6"),
        pytest.param(lambda data: deflate.gzip_compress(data, 12), id="gzip-12"),
        pytest.param(zstandard.ZstdCompressor(level=3).compress, id="zstd-3"),
        pytest.param(zstandard.ZstdCompressor(level=19).compress, id="zstd-19"),
    ],
)
def test_compression_saves_the_requested_share(compressibility: float, compress) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    data = content("ratio", 0, MIB, compressibility)
    assert len(compress(data)) / len(data) == pytest.approx(1 - compressibility, abs=0.02)


@settings(max_examples=25)
@given(st.sampled_from([0.0, 0.25, 0.5, 0.9]), st.integers(2, 6))
def test_no_block_repeats_within_or_across_files(compressibility: float, files: int) -> None:
    size = 64 * UNIT
    blocks = [
        data[start : start + UNIT]
        for number in range(files)
        for data in [content("dup", number, size, compressibility)]
        for start in range(0, size, UNIT)
    ]
    assert len(set(blocks)) == len(blocks)


@given(st.integers(1, 2), st.integers(2, 200))
def test_the_shortest_files_differ_too(size: int, files: int) -> None:
    made = {content("tiny", number, size) for number in range(files)}
    assert len(made) == files


def test_another_seed_shares_no_block() -> None:
    one, two = content("a", 0, 100 * UNIT), content("b", 0, 100 * UNIT)
    assert not {one[i : i + 64] for i in range(64, len(one), 64)} & {
        two[i : i + 64] for i in range(64, len(two), 64)
    }


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="not within 0 and 1"):
        random_bytes_per_unit(share)
