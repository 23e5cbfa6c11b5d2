"""A copy of this checkout's programs, with this environment, for tests of what belongs to it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.infra.stack_files import ROOT

_FOLDERS = ("analysis", "experiment", "images", "infra", "rehearsal", "schema", "studies", "tools")


def copy_checkout(folder: Path) -> Path:
    """Copy the programs, and link .venv; return the folder."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "Makefile", *ROOT.glob("Pulumi*.yaml")):
        shutil.copyfile(path, folder / path.name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder
