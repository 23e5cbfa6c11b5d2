"""A copy of this repository's program that tests may break, under git, with the engine at hand."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.infra.stack_files import ROOT, stack_of

_FOLDERS = ("experiment", "infra", "schema", "analysis")
_GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")


@dataclass(frozen=True)
class Result:
    """What the command ended with."""

    exit_code: int
    out: str
    err: str

    @property
    def stacks(self) -> dict[str, dict[str, Any]]:
        """Of `--output json`, by name, with their changes."""
        rows = json.loads(self.out)
        return {
            row["stack"]: row
            | {
                "changes": [
                    r for r in rows if (r["table"], r.get("stack")) == ("changes", row["stack"])
                ]
            }
            for row in rows
            if row["table"] == "stacks"
        }


class Root:
    """The copy, as committed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for path in ROOT.glob("Pulumi*.yaml"):
            shutil.copyfile(path, folder / path.name)
        self.git("init", "--quiet")
        self.git("add", "infra", "schema", *(path.name for path in folder.glob("Pulumi*.yaml")))
        self.git("commit", "--quiet", "--message", "base")

    def stacks(self) -> list[str]:
        """The stacks that have a file."""
        return [stack_of(path) for path in self.folder.glob("Pulumi.*.yaml")]

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that the file has."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def restore(self) -> None:
        """Undo all edits."""
        self.git("checkout", "--quiet", "--", ".")
        self.git("clean", "--quiet", "--force", "--", "*.yaml")

    def preview(self, *arguments: str, variables: dict[str, str] | None = None) -> Result:
        """Run `pull-study preview` of the copy."""
        done = subprocess.run(
            [sys.executable, "-m", "experiment", "preview", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def git(self, *arguments: str) -> None:
        """Run git in the copy."""
        subprocess.run([*_GIT, "-C", str(self.folder), *arguments], check=True, timeout=60)
