"""Compression of layers, with the same output on every machine.

The system's zlib is not used: its output differs between zlib, zlib-ng and others. libdeflate
(package `deflate`) and libzstd (package `zstandard`) come with their packages, which are pinned
exactly, and each gives one output per version and level, whatever the processor.

Each block of about 512 KiB becomes its own gzip member or zstd frame, and a layer is their
sequence. Every runtime reads that (eStargz and zstd:chunked layers are made so too). It lets
several cores work on one layer, and memory does not depend on the layer's size.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version

import deflate
import zstandard

from images.make.content import Piece
from images.make.plan import Compression

BLOCK = 1 << 19
"""Uncompressed bytes, at least, that are compressed at a time."""

FORMAT = 1
"""Increment whenever the same plan gives other bytes, compressed or not."""

Compress = Callable[[Piece], bytes]

_READ = 1 << 20
_PACKAGES = {Compression.GZIP: "deflate", Compression.ZSTD: "zstandard"}


class UnpackError(Exception):
    """A layer is not compressed as its media type says."""


def compressor(compression: Compression, level: int) -> Compress:
    """Return a thread-safe function that makes a gzip member, zstd frame or copy of its input."""
    functions = {Compression.GZIP: _gzip, Compression.ZSTD: _zstd, Compression.NONE: _copy}
    return partial(functions[compression], level)


def compressor_name(compression: Compression) -> str:
    """Return the library and version, which with the level determine the compressed bytes."""
    package = _PACKAGES.get(compression)
    return f"{package} {version(package)}" if package else "none"


def decompressed(pieces: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """Yield what compressed pieces unpack to, in blocks of at most 1 MiB; reads all pieces.

    Raises:
        UnpackError: the pieces are not of this compression.
    """
    source = io.BufferedReader(_Pieces(pieces), _READ)
    plain: io.BufferedIOBase | zstandard.ZstdDecompressionReader = source
    if compression is Compression.GZIP:
        plain = gzip.GzipFile(fileobj=source)
    elif compression is Compression.ZSTD:
        plain = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    try:
        while block := plain.read(_READ):
            yield block
    except (zstandard.ZstdError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UnpackError(f"not compressed by {compression}: {error}") from error
    for _ in pieces:  # so that their source checks its digest
        pass


def _gzip(level: int, block: Piece) -> bytes:
    # libdeflate writes no time and no name into the header.
    return bytes(deflate.gzip_compress(block, level))


def _zstd(level: int, block: Piece) -> bytes:
    # A compressor is not thread-safe, and creating one is cheap.
    return zstandard.ZstdCompressor(level=level).compress(block)


def _copy(_: int, block: Piece) -> bytes:
    return bytes(block)


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._source = pieces
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._held = self._held or next(self._source, b"")
        taken = self._held[: len(buffer)]
        buffer[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)
