"""Stack and study files: those of the current folder, else those that come with the program.

They come with it in its checkout, or as data of its wheel, where the build hook puts them.
Pulumi.yaml is never the current folder's: it declares the settings that this version reads.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_IN_WHEEL = Path(__file__).with_name("files")

IS_CHECKOUT = not _IN_WHEEL.is_dir()
"""Whether the program runs from a checkout, not from an installed wheel."""
PROJECT_DIR = Path(__file__).parents[1] if IS_CHECKOUT else _IN_WHEEL
"""Folder of the Pulumi.yaml, stack files and studies that come with the program."""
SETUP = "make setup" if IS_CHECKOUT else "make setup, in a checkout of this program"
"""The fix for programs that only a checkout can build."""
STACKS = "Pulumi.*.yaml"
STUDIES = "studies/*.yaml"

_SETTING = b"pull-study:"
"""In every stack file of this program, and in none of another Pulumi project."""


def project_files(pattern: str) -> dict[str, Path]:
    """Return the files that match STACKS or STUDIES, by name: the current folder's come first.

    A stack file of another Pulumi project in the current folder is none.
    """
    found = {_name(path, PROJECT_DIR): path for path in PROJECT_DIR.glob(pattern)}
    with suppress(FileNotFoundError):  # of a current folder that was removed
        here = Path.cwd()
        found |= {_name(path, here): path for path in _own(here, pattern)}
    return dict(sorted(found.items()))


def is_own(path: Path) -> bool:
    """Whether a file of `project_files` does not come with the program."""
    return not path.is_relative_to(PROJECT_DIR)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _own(folder: Path, pattern: str) -> Iterator[Path]:
    for path in folder.glob(pattern):
        with suppress(OSError):  # who reads it says why it cannot be read
            if pattern == STACKS and _SETTING not in path.read_bytes():
                continue
        yield path
