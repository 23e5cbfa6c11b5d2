"""Removes what a rehearsal left on the machine, whether it ended or was killed.

All of it carries the home's name: processes by a variable of their environment, mounts by their
path, control groups by a name made of the home's path, files by being in the home's folder. What
has no such mark is not touched. The registry's storage is a cache elsewhere and stays.
"""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from rehearsal.machine import cgroups, processes
from rehearsal.machine.home import Home, RehearsalError

_MOUNTS = Path("/proc/self/mountinfo")


def clear(home: Home, *, whole: bool = True) -> None:
    """Remove everything of a home that this process has locked. Idempotent."""
    try:
        processes.stop(home.folder)
        if cgroups.ROOT.is_dir():
            cgroups.remove(home.control_group)
        for point in sorted(mounts_below(home.folder), reverse=True):
            subprocess.run(["umount", "--lazy", str(point)], check=True, capture_output=True)
        _remove_files(home, whole=whole)
    except (
        processes.StillRunningError,
        cgroups.ControlGroupError,
        subprocess.CalledProcessError,
        OSError,
    ) as error:
        raise RehearsalError(
            f"The rehearsal in {home.folder} could not be removed entirely: {error}.",
            "python -m rehearsal down, as the user who started it",
        ) from error


def mounts_below(folder: Path, mounts: str | None = None) -> list[Path]:
    """Mount points at or below a folder."""
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8") if _MOUNTS.exists() else ""
    points = (Path(unescape_mount(line.split()[4])) for line in mounts.splitlines())
    return [point for point in points if point.is_relative_to(folder)]


def unescape_mount(path: str) -> str:
    r"""A path as proc(5) writes it in mountinfo, blanks and the like as \040."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path)


def _remove_files(home: Home, *, whole: bool) -> None:
    for entry in list(home.folder.iterdir()) if home.folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif whole or entry != home.mark:
            entry.unlink()
    if not whole:
        return
    home.folder.rmdir()
    with suppress(OSError):  # not empty: something else of ours is there
        if home.folder.parent.name == "pull-study":
            os.rmdir(home.folder.parent)  # noqa: PTH106
