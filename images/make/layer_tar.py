"""A layer as a tar stream: fixed times, owners and modes, generated content.

Only the current block is in memory, whatever the layer's size.
"""

import tarfile
from collections.abc import Iterable, Iterator

from images.make.busybox import Busybox
from images.make.content import Piece, file_content
from images.make.plan import LayerPlan

_RECORD = tarfile.BLOCKSIZE
_FOLDER = "pull-study"


def layer_tar(layer: LayerPlan, busybox: Busybox | None = None) -> Iterator[Piece]:
    """Yield the uncompressed layer, in pieces of at most about 1 MiB.

    Args:
        layer: its content.
        busybox: precedes the content in the first layer of an image.
    """
    if busybox is not None:
        yield from _rootfs(busybox)
    yield _header(_FOLDER, kind=tarfile.DIRTYPE, mode=0o755)
    for number, size in enumerate(layer.file_sizes(), layer.first_file):
        yield _header(content_path(number), size=size)
        yield from file_content(layer.seed, number, size, layer.compressibility)
        yield _padding(size)
    yield bytes(2 * _RECORD)


def content_path(number: int) -> str:
    """Return the path of a content file; its number is unique in the image."""
    return f"{_FOLDER}/{number:08d}"


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


def _rootfs(busybox: Busybox) -> Iterator[bytes]:
    for folder in busybox.folders:
        mode = 0o1777 if folder == "tmp" else 0o755
        yield _header(folder, kind=tarfile.DIRTYPE, mode=mode)
    for path, text in busybox.files.items():
        yield _header(path, size=len(text)) + text + _padding(len(text))
    size = len(busybox.binary)
    yield _header("bin/busybox", size=size, mode=0o755) + busybox.binary + _padding(size)
    for applet in busybox.applets:
        yield _header(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777, link="busybox")


def _header(
    name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, mode: int = 0o644, link: str = ""
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, size, mode, link
    # pax only for a file above the 8 GiB of the plain header.
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _RECORD)
