"""Compression of layers, with the same output on every machine.

The system's zlib is not used: its output differs between zlib, zlib-ng and others. libdeflate
(package `deflate`) and libzstd (package `zstandard`) come with their packages, which are pinned
exactly, and each gives one output per version and level, whatever the processor.

Each block of about 512 KiB becomes its own gzip member or zstd frame, and a layer is their
sequence. Every runtime reads that (eStargz and zstd:chunked layers are made so too). It lets
several cores work on one layer, and memory does not depend on the layer's size.
"""

from collections.abc import Callable
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


def compressor(compression: Compression, level: int) -> Compress:
    """Return a function that makes a complete gzip member, zstd frame or copy of its input.

    It is thread-safe and releases the interpreter lock.
    """
    match compression:
        case Compression.GZIP:
            return partial(_gzip, level)
        case Compression.ZSTD:
            return partial(_zstd, level)
        case Compression.NONE:
            return bytes


def compressor_name(compression: Compression) -> str:
    """Return the library and version, which with the level determine the compressed bytes."""
    match compression:
        case Compression.GZIP:
            return f"deflate {version('deflate')}"
        case Compression.ZSTD:
            return f"zstandard {version('zstandard')}"
        case Compression.NONE:
            return "none"


def _gzip(level: int, block: Piece) -> bytes:
    # libdeflate writes no time and no name into the header.
    return bytes(deflate.gzip_compress(block, level))


def _zstd(level: int, block: Piece) -> bytes:
    # A compressor is not thread-safe, and creating one is cheap.
    return zstandard.ZstdCompressor(level=level).compress(block)
