"""Reads a compressed layer: its tar and files, in constant memory."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

import zstandard

from images.make.plan import Compression

_READ = 1 << 20
_BROKEN = (tarfile.TarError, zstandard.ZstdError, gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True, slots=True)
class TarFile:
    """A regular file of a layer.

    Attributes:
        name: path in the image.
        size: bytes.
        sha256: of the bytes, hexadecimal.
    """

    name: str
    size: int
    sha256: str


class Unpacked:
    """A layer read from its compressed pieces.

    After `files` was read to its end, `diff_id` and `size` describe the whole tar.
    """

    def __init__(self, pieces: Iterator[bytes], compression: Compression) -> None:
        """Nothing is read yet.

        Args:
            pieces: the compressed layer.
            compression: of the pieces.
        """
        self._pieces = pieces
        self._compression = compression
        self._sha = hashlib.sha256()
        self.size = 0

    @property
    def diff_id(self) -> str:
        """Digest of the tar as far as it has been read."""
        return f"sha256:{self._sha.hexdigest()}"

    def files(self) -> Iterator[TarFile]:
        """The regular files in order.

        Raises:
            UnpackError: the pieces are not a compressed tar.
        """
        try:
            with _decompress(_Pieces(self._pieces), self._compression) as plain:
                counted = _Counted(plain, self._count)
                with tarfile.open(fileobj=counted, mode="r|", bufsize=_READ) as tar:
                    for member in tar:
                        source = tar.extractfile(member) if member.isfile() else None
                        if source is not None:
                            yield TarFile(member.name, member.size, _sha256(source))
                # Read to the end, so that the source checks its digest.
                while counted.read(_READ):
                    pass
        except _BROKEN as error:
            raise UnpackError(str(error)) from error

    def _count(self, piece: bytes) -> None:
        self._sha.update(piece)
        self.size += len(piece)


class UnpackError(Exception):
    """A layer is not a compressed tar."""


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._source = pieces
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._held = piece
        taken = self._held[: len(buffer)]
        buffer[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)


class _Counted(io.RawIOBase):
    """A file whose bytes are counted as they are read."""

    def __init__(self, source: _Readable, count: Callable[[bytes], None]) -> None:
        self._source = source
        self._count_bytes = count

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self._count_bytes(piece)
        return piece


@contextmanager
def _decompress(source: _Pieces, compression: Compression) -> Iterator[_Readable]:
    buffered = io.BufferedReader(source, _READ)
    match compression:
        case Compression.GZIP:
            with gzip.GzipFile(fileobj=buffered) as plain:
                yield plain
        case Compression.ZSTD:
            with zstandard.ZstdDecompressor().stream_reader(
                buffered, read_across_frames=True
            ) as frames:
                yield frames
        case Compression.NONE:
            yield buffered


def _sha256(source: IO[bytes]) -> str:
    sha = hashlib.sha256()
    while piece := source.read(_READ):
        sha.update(piece)
    return sha.hexdigest()
