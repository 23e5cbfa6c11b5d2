"""A file as lines of UTF-8, whatever its compression and encoding.

Every read is bounded: a line, what a compressed file unpacks to, and the wait for a pipe. What is
beyond a bound is noted as unreadable, and the rest is read.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import select
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from schema.errors import UserError

MAX_TEXT = 1 << 28
"""Bytes of the longest line or JSON document that is decoded."""

MAX_RATIO = 250
"""Unpacked bytes per packed byte; events that repeat have 20 to 60, a bomb a thousand."""

_UNSUSPECTED = 1 << 26
"""Unpacked bytes that are always read."""

_SKIPPED = 1 << 30
"""Bytes of a line that are read to find its end."""

_CHUNK = 1 << 18
_WAIT_S = 10.0
"""How long a named pipe without a writer is waited for."""

_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)

_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = {b"\x28\xb5\x2f\xfd": "compressed by zstd", b"PAR1": "a Parquet file"}

NoteDamage = Callable[[int, str], None]
"""Called with a line number and what could not be read there."""


def most_unpacked(packed: int) -> int:
    """Return the bytes that so many packed bytes may unpack to."""
    return max(_UNSUSPECTED, MAX_RATIO * packed)


class UnreadableFileError(UserError):
    """A file cannot be read at all."""


class _Reader(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Counted(io.RawIOBase):
    """A stream that counts what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.stream.read(len(buffer))
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_lines(path: Path, damage: NoteDamage) -> Iterator[Iterator[bytes]]:
    """Yield a file's lines without their ends, unpacked and in UTF-8.

    Raises:
        UnreadableFileError: the file cannot be opened, or has a form that is not read.
    """
    try:
        stream = _open(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    with stream:
        yield _lines(stream, path, damage)


def _open(path: Path) -> io.BufferedReader:
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        # A pipe that the shell made has a writer; a named one may never get one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not select.select([descriptor], [], [], _WAIT_S)[0]:
            os.close(descriptor)
            raise _unreadable(path, f"it is a pipe, and nothing came in {_WAIT_S:g} s")
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(mode):
        raise _unreadable(path, "it is no file with text")
    return path.open("rb")


def _lines(stream: io.BufferedReader, path: Path, damage: NoteDamage) -> Iterator[bytes]:
    start = stream.peek(8)[:8]
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise _unreadable(path, f"it is {what}")
    unpacked, packed = _unpacked(stream, start)
    start = _peek(unpacked) if packed else start
    for mark, encoding in _ENCODINGS:
        if start.startswith(mark):
            yield from _decoded(unpacked, packed, encoding, damage)
            return
    yield from _split(unpacked, packed, damage)


def _unpacked(stream: io.BufferedReader, start: bytes) -> tuple[_Reader, _Counted | None]:
    counted = _Counted(stream)
    source = cast("BinaryIO", counted)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=source), counted
    if start.startswith(b"BZh"):
        return bz2.BZ2File(source), counted
    if start.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(source), counted
    return stream, None


def _peek(stream: _Reader) -> bytes:
    try:
        return bytes(cast("io.BufferedReader", stream).peek(8)[:8])
    except _DAMAGE:
        return b""  # it is noted when it is read


def _decoded(
    stream: _Reader, packed: _Counted | None, encoding: str, damage: NoteDamage
) -> Iterator[bytes]:
    kept: list[bytes] = []
    size = 0
    for data in _chunks(stream, packed, lambda what: damage(1, what)):
        size += len(data)
        if size > MAX_TEXT:
            damage(1, f"a text in {encoding} of more than {MAX_TEXT >> 20} MiB: not read on")
            break
        kept.append(data)
    yield from b"".join(kept).decode(encoding, "replace").encode().split(b"\n")


def _split(stream: _Reader, packed: _Counted | None, damage: NoteDamage) -> Iterator[bytes]:
    pieces: list[bytes] = []  # of the last line, which may go on
    number, length = 1, 0
    damaged: list[str] = []
    for data in _chunks(stream, packed, damaged.append):
        first, *lines = data.split(b"\n")
        length += len(first)
        if length <= MAX_TEXT:
            pieces.append(first)
        elif pieces:
            damage(number, f"a line of more than {MAX_TEXT >> 20} MiB")
            pieces = []
        if length > _SKIPPED:
            damage(number, "a line without an end: not read on")
            return
        if lines:
            yield b"".join(pieces)  # an empty line instead of one that is too long
            yield from lines[:-1]
            number += len(lines)
            pieces, length = [lines[-1]], len(lines[-1])
    if any(pieces):
        yield b"".join(pieces)
    for what in damaged:
        damage(number, what)


def _chunks(
    stream: _Reader, packed: _Counted | None, damage: Callable[[str], None]
) -> Iterator[bytes]:
    """Yield what can be read, up to the first damage."""
    unpacked = 0
    try:
        while data := stream.read1(_CHUNK):
            unpacked += len(data)
            if packed and unpacked > most_unpacked(packed.count):
                damage(f"it unpacks to more than {MAX_RATIO} times its size: not read on")
                return
            yield data
    except _DAMAGE as error:
        damage(f"data is truncated or damaged: {error}")


def collect(lines: Iterable[bytes], damage: NoteDamage, number: int) -> bytes:
    """Return lines as one text; lines beyond MAX_TEXT are noted and left out."""
    kept: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > MAX_TEXT:
            damage(number, f"a document of more than {MAX_TEXT >> 20} MiB: not read on")
            break
        kept.append(line)
    return b"\n".join(kept)


def _unreadable(path: Path, why: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"The file {path} cannot be read ({why}): its events are missing.", f"ls -l {path}"
    )
