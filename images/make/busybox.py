"""The default base: this machine's static busybox as a root file system.

The first layer's digest depends on the version of the installed package. The image's config names
the binary's SHA-256; the other layers do not depend on it.
"""

import hashlib
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from images.errors import PlanError
from images.make.base import Base
from images.make.layer_tar import padding, tar_header
from images.make.plan import BUSYBOX

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FIX = "apt-get install busybox-static"
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}


@cache
def find_busybox() -> Base:
    """Return this machine's static busybox, or raise a PlanError; `id` is its SHA-256."""
    path = shutil.which("busybox")
    if path is None:
        raise PlanError("There is no busybox on this machine, which is the images' base.", _FIX)
    # ldd succeeds for a program that names a loader, which the image will not have.
    if subprocess.run(["ldd", path], check=False, capture_output=True).returncode == 0:
        raise PlanError(f"{path} is linked dynamically, so it cannot run alone in an image.", _FIX)
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise PlanError(f"{path} is not a program for amd64 or arm64.", _FIX)
    binary = Path(path).read_bytes()
    listing = subprocess.run([path, "--list"], check=True, capture_output=True, text=True)
    applets = sorted(set(listing.stdout.split()) - {"busybox"})
    return Base(
        name=BUSYBOX,
        id=hashlib.sha256(binary).hexdigest(),
        architecture=architecture,
        tar=lambda: _root_files(binary, applets),
    )


def _root_files(binary: bytes, applets: list[str]) -> Iterator[bytes]:
    for folder in _FOLDERS:
        mode = 0o1777 if folder == "tmp" else 0o755
        yield tar_header(folder, kind=tarfile.DIRTYPE, mode=mode)
    for path, text in _FILES.items():
        yield tar_header(path, size=len(text)) + text + padding(len(text))
    size = len(binary)
    yield tar_header("bin/busybox", size=size, mode=0o755) + binary + padding(size)
    for applet in applets:
        yield tar_header(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777, link="busybox")
