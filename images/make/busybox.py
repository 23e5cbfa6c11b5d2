"""The files of the default base: this machine's static busybox as a root file system.

The first layer's digest depends on the version of the installed package. The image's config names
the binary's SHA-256; the other layers do not depend on it.
"""

import hashlib
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from images.errors import BaseError

_ELF_MACHINES = {0x3E: "amd64", 0xB7: "arm64"}
_PT_INTERP = 3
"""Program header that names a loader, which the image will not have."""
_FIX = "apt-get install busybox-static"
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}


@dataclass(frozen=True, slots=True)
class Busybox:
    """A static busybox of this machine.

    Attributes:
        binary: the program.
        sha256: of the program, hexadecimal.
        architecture: OCI name: amd64 or arm64.
        applets: names of its commands.
    """

    binary: bytes
    sha256: str
    architecture: str
    applets: tuple[str, ...]

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the root file system, parents first."""
        return _FOLDERS

    @property
    def files(self) -> dict[str, bytes]:
        """Small files of the root file system by path."""
        return _FILES


@cache
def find_busybox() -> Busybox:
    """Return the static busybox of this machine.

    Raises:
        BaseError: there is none, it is linked dynamically, or its processor is unknown.
    """
    path = shutil.which("busybox")
    if path is None:
        raise BaseError("There is no busybox on this machine, which is the images' base.", _FIX)
    binary = Path(path).read_bytes()
    architecture = _static_architecture(binary, path)
    listing = subprocess.run([path, "--list"], check=True, capture_output=True, text=True)
    applets = tuple(sorted(set(listing.stdout.split()) - {"busybox"}))
    return Busybox(binary, hashlib.sha256(binary).hexdigest(), architecture, applets)


def _static_architecture(binary: bytes, path: str) -> str:
    machine = struct.unpack_from("<H", binary, 18)[0] if binary[:5] == b"\x7fELF\x02" else 0
    if machine not in _ELF_MACHINES:
        raise BaseError(f"{path} is not a program for amd64 or arm64.", _FIX)
    header, entry_size, entries = (
        *struct.unpack_from("<Q", binary, 32),
        *struct.unpack_from("<HH", binary, 54),
    )
    kinds = (struct.unpack_from("<I", binary, header + i * entry_size)[0] for i in range(entries))
    if _PT_INTERP in kinds:
        raise BaseError(f"{path} is linked dynamically, so it cannot run alone in an image.", _FIX)
    return _ELF_MACHINES[machine]
