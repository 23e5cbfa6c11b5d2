"""A layer as a tar stream: fixed times, owners and modes, content made on the way.

Nothing is held but the present block, whatever the layer's size.
"""

import tarfile
from collections.abc import Iterable, Iterator

from images.make.busybox import Busybox
from images.make.content import Piece, file_content
from images.make.plan import LayerPlan

_RECORD = tarfile.BLOCKSIZE
_FOLDER = "pull-study"


def layer_tar(layer: LayerPlan, busybox: Busybox | None = None) -> Iterator[Piece]:
    """The uncompressed layer, in pieces of about 1 MiB at most.

    Args:
        layer: its content.
        busybox: put into the layer before the content: for the first layer of an image.
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
    """Where a content file stands; numbers are the image's, so no file hides another layer's."""
    return f"{_FOLDER}/{number:08d}"


def gather(pieces: Iterable[Piece], least: int) -> Iterator[Piece]:
    """The same bytes in pieces of at least `least`, the last apart; large ones are not copied."""
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
    # pax only where a file has more than the 8 GiB that the plain header can say.
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _RECORD)
