"""The files that an image has beside its content, in its first layer.

Of an image in a registry, the files of all layers go into one, so images on the same base share no
layer with it or with each other, and a node that has pulled one is cold for the others.
"""

import atexit
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

from images.errors import DigestError, NotInRegistryError, PlanError
from images.make.compression import UnpackError, decompressed
from images.make.layer_tar import padding
from images.make.remote import open_remote
from images.registry.reference import parse_source

_MAX_BYTES = 4 << 30
_MAX_HEADER = 1 << 20
_READ = 1 << 20
_LONG_NAMES = {tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME}


@dataclass(frozen=True, slots=True)
class Base:
    """The files of a base and the settings of its containers: environment, user etc."""

    name: str
    """busybox, or a reference with a digest."""
    id: str
    """Determines the files: busybox's SHA-256, or the reference."""
    architecture: str
    tar: Callable[[], Iterator[bytes]] = field(repr=False)
    """Yields the files as tar members; may be called repeatedly and from several threads."""
    config: dict[str, Any] = field(default_factory=dict)


@cache
def find_base(reference: str) -> Base:
    """Read an image as a base; its files are kept in an unnamed temporary file.

    Raises:
        PlanError: the image does not exist, is damaged, or cannot be one layer.
        RegistryError: the registry fails.
    """
    files = tempfile.TemporaryFile()  # noqa: SIM115 - kept as long as the base
    atexit.register(files.close)
    try:
        with open_remote(parse_source(reference)) as remote:
            for layer in remote.image.layers:
                _append(files, decompressed(remote.open_layer(layer), layer.compression))
    except NotInRegistryError as error:
        problem = f"The base {reference} does not exist: {error.problem}"
        raise PlanError(problem, error.fix) from error
    except (tarfile.TarError, UnpackError, DigestError, _UnsuitableError) as error:
        raise PlanError(
            f"The base {reference} cannot be put into one layer: {error}.",
            "use an image of one layer, for example docker.io/library/debian:12-slim",
        ) from error
    return Base(
        name=str(remote.target),
        id=str(remote.target),
        architecture=str(remote.image.config.get("architecture", "amd64")),
        tar=lambda: _read_all(files),
        config=remote.image.config.get("config") or {},
    )


class _UnsuitableError(Exception):
    """An image that is no base."""


def _append(files: IO[bytes], blocks: Iterator[bytes]) -> None:
    """Append the members of a layer's tar, without its end.

    On a node, a later member replaces an earlier one of the same path, as later layers do.
    """
    begin = files.seek(0, os.SEEK_END)
    for block in blocks:
        if files.tell() + len(block) > _MAX_BYTES:
            raise _UnsuitableError(f"it unpacks to more than {_MAX_BYTES} bytes")
        files.write(block)
    size = files.tell()
    files.seek(begin)
    while (header := files.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        end = files.tell() + info.size + len(padding(info.size))
        if not files.tell() <= end <= size:
            raise _UnsuitableError(f"its tar ends within {info.name}")
        long_name = info.type in _LONG_NAMES
        if long_name and info.size > _MAX_HEADER:
            raise _UnsuitableError(f"a header of its tar claims {info.size} bytes")
        names = files.read(info.size) if long_name else info.name.encode(errors="surrogateescape")
        if b"/.wh." in b"/" + names:
            raise _UnsuitableError("a later layer removes files of another (.wh.*)")
        files.seek(end)
    files.truncate(files.tell() - len(header))
    files.flush()


def _read_all(file: IO[bytes]) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(file.fileno(), _READ, offset):
        yield block
        offset += len(block)
