"""A layer as a tar stream: fixed times, owners and modes, generated content.

Only the current block is in memory, whatever the layer's size.
"""

import tarfile
from collections.abc import Iterable, Iterator

from images.make.content import Piece, file_content
from images.make.plan import LayerPlan

_RECORD = tarfile.BLOCKSIZE
_FOLDER = "pull-study"
_END = bytes(2 * _RECORD)


def layer_tar(layer: LayerPlan, base: Iterable[Piece] = ()) -> Iterator[Piece]:
    """Yield the uncompressed layer after the tar members of its base, in pieces of about 1 MiB."""
    yield from base
    yield tar_header(_FOLDER, kind=tarfile.DIRTYPE, mode=0o755)
    for number, size in enumerate(layer.file_sizes(), layer.first_file):
        yield tar_header(_content_path(number), size=size)
        yield from file_content(layer.seed, number, size, layer.compressibility)
        yield padding(size)
    yield _END


def tar_size(layer: LayerPlan) -> int:
    """Return the bytes of `layer_tar(layer)`, without making it."""
    files = enumerate(layer.file_sizes(), layer.first_file)
    return (
        _RECORD
        + sum(
            len(tar_header(_content_path(number), size=size)) + size + len(padding(size))
            for number, size in files
        )
        + len(_END)
    )


def tar_header(
    name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, mode: int = 0o644, link: str = ""
) -> bytes:
    """Return the header of a member without time and owner."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, size, mode, link
    # pax only for a file above the 8 GiB of the plain header.
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """Return the zeros after a file of that size."""
    return bytes(-size % _RECORD)


def gather(pieces: Iterable[Piece], least: int) -> Iterator[Piece]:
    """Yield the same bytes in pieces of at least `least` bytes, except the last."""
    held: list[Piece] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= least:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, length = [], 0
    if length:
        yield b"".join(held)


def _content_path(number: int) -> str:
    return f"{_FOLDER}/{number:08d}"
