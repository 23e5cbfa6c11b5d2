"""The bytes of a file: seeded, of a known compressibility, the same on every machine.

A file is a sequence of units of 1024 bytes. The first bytes of a unit are pseudo-random, the rest
repeats them. The share of random bytes sets the ratio: a compressor keeps them and reduces the
rest to a few bytes. Each unit has other random bytes, so deduplication of blocks of a unit or more
saves nothing. The random bytes are the AES-256-CTR key stream of the seed's SHA-256, which is the
same on every machine.

The content does not imitate real files: real layers may unpack at another speed.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Piece = bytes | memoryview
"""A block of bytes; never changed after it was yielded."""

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]

UNIT = 1024
"""Bytes of a unit; short enough for the 32 KiB window of gzip at any ratio."""

_PIECE = 512 * UNIT
_LEAST_RANDOM = 8
"""Enough random bytes to make each unit unique: 8 bytes give 2^64 different ones."""
_OVERHEAD = 6
"""Bytes that gzip -6 and zstd -3 spend per unit beyond its random bytes (measured: 5 to 8)."""
_VERSION = b"pull-study content 1\0"


def random_bytes_per_unit(compressibility: float) -> int:
    """Return the random bytes per unit of 1024 for which compression saves that share, 0 to 1.

    At the usual levels of gzip and zstd the ratio is within 0.02 of `1 - compressibility`.
    """
    if not 0 <= compressibility <= 1:
        raise ValueError(f"compressibility {compressibility} is not within 0 and 1")
    if compressibility == 0:
        return UNIT
    return max(_LEAST_RANDOM, round((1 - compressibility) * UNIT) - _OVERHEAD)


def file_content(seed: str, number: int, size: int, compressibility: float) -> Iterator[Piece]:
    """Yield the `size` bytes of one file, in pieces of at most 512 KiB.

    Another seed gives entirely different bytes. The file starts with the low bytes of its number
    in its image, so that no two files of an image are equal, however short.
    """
    random = random_bytes_per_unit(compressibility)
    key = hashlib.sha256(_VERSION + f"{seed}\0{number}".encode()).digest()
    # A key is used for one file only, so the counter may start at zero.
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    head = np.frombuffer(struct.pack("<Q", number)[: min(8, size)], dtype=np.uint8)
    for start in range(0, size, _PIECE):
        units = min(_PIECE, size - start + UNIT - 1) // UNIT
        source = np.frombuffer(stream.update(bytes(units * random)), dtype=np.uint8)
        piece = _repeat(source.reshape(units, random))
        if start == 0:
            piece[: len(head)] = head
        yield piece.data[: size - start]


def _repeat(random: _Bytes) -> _Bytes:
    units, length = random.shape
    block = np.empty((units, UNIT), dtype=np.uint8)
    for start in range(0, UNIT, length):
        end = min(start + length, UNIT)
        block[:, start:end] = random[:, : end - start]
    return block.reshape(-1)
