"""Unpacks archives of recordings (tar, also compressed, and zip) into a temporary folder.

Only plain files with names of data are unpacked, within bounds: an archive is foreign. The folder
is removed when the program ends.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Self

from analysis.read.lines import MAX_RATIO, UnreadableFileError, most_unpacked

_ARCHIVE = re.compile(r".*\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_MEMBER = re.compile(r".*\.(json|jsonl|ndjson|log|txt|ya?ml|parquet)(\.(gz|bz2|xz))?$")
_MOST_MEMBERS = 100_000
_CHUNK = 1 << 18
_LONGEST_HEADER = 1 << 20
_LONG_HEADERS = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}

_folders: list[TemporaryDirectory[str]] = []


def is_archive(path: Path) -> bool:
    """Return whether a file has an archive's name."""
    return bool(_ARCHIVE.fullmatch(path.name)) and path.is_file()


def unpacked(path: Path) -> Path:
    """Unpack an archive and return the folder, which has the archive's name.

    Raises:
        UnreadableFileError: it is damaged, or unpacks to more than any recording does.
    """
    temporary = TemporaryDirectory(prefix="pull-study-")
    _folders.append(temporary)
    folder = Path(temporary.name).resolve() / path.name
    folder.mkdir()
    try:
        _unpack(path, folder)
    except UnreadableFileError:
        raise
    except Exception as error:  # tarfile and zipfile raise errors of many kinds for damaged input
        raise _refused(path, f"it is damaged: {error}") from error
    return folder


def _unpack(path: Path, folder: Path) -> None:
    most = left = most_unpacked(path.stat().st_size)
    for number, (name, source) in enumerate(_members(path, most)):
        if number >= _MOST_MEMBERS:
            raise _refused(path, f"it has more than {_MOST_MEMBERS} files")
        target = folder.joinpath(*_safe(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while data := source.read(_CHUNK):
                left -= len(data)
                if left < 0:
                    raise _refused(path, f"it unpacks to more than {MAX_RATIO} times its size")
                file.write(data)


class _Member(tarfile.TarInfo):
    """A member whose header does not fill the memory: tarfile reads long names as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _LONG_HEADERS and member.size > _LONGEST_HEADER:
            raise ValueError(f"a header of {member.size} bytes")
        return member


def _members(path: Path, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and _MEMBER.fullmatch(entry.filename):
                    with archive.open(entry) as opened:
                        yield entry.filename, opened
        return
    with tarfile.open(path, "r|*", tarinfo=_Member) as tar:
        for member in tar:
            size = 0 if member.issparse() else member.size
            if member.offset_data + size > most:  # what is passed over is unpacked too
                raise _refused(path, f"it unpacks to more than {MAX_RATIO} times its size")
            plain = member.isreg() and not member.issparse()
            source = tar.extractfile(member) if plain and _MEMBER.fullmatch(member.name) else None
            if source is not None:
                yield member.name, source


def _safe(name: str) -> tuple[str, ...]:
    """Return the parts of a member's name that stay within a folder."""
    return tuple(part for part in PurePosixPath(name).parts if part not in {"/", "..", "."})


def _refused(path: Path, why: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"The archive {path} cannot be read ({why}): its events are missing.",
        f"unpack it and name its folder: tar xf {path}",
    )
