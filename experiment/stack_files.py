"""Pulumi.yaml and the stack files: which stacks there are, and a run's own copies of them.

Creating a stack rewrites its file, so a run works on copies in its folder: committed files stay as
they are, and the run keeps what was used. What the files say is read in experiment.stacks.
"""

import re
import shutil
from pathlib import Path

from experiment.errors import PlanError

PROJECT_DIR = Path(__file__).parent.parent
"""Where Pulumi.yaml and the stack files are."""


def stack_names() -> list[str]:
    """All stacks that have a file, smallest cluster first."""
    names = [
        path.name[len("Pulumi.") : -len(".yaml")] for path in PROJECT_DIR.glob("Pulumi.*.yaml")
    ]
    return sorted(names, key=lambda name: (int((re.findall(r"\d+", name) or ["0"])[0]), name))


def require_stack(stack: str) -> Path:
    """The committed file of a stack.

    Raises:
        PlanError: there is none.
    """
    path = PROJECT_DIR / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise PlanError(
            f"There is no stack {stack!r}: no file {path.name} says what its cluster is.",
            f"choose one of {', '.join(stack_names())}, or add {path.name}",
        )
    return path


def copy_stack_files(stack: str, work_dir: Path) -> None:
    """Put Pulumi.yaml and the stack's file into a run's folder.

    Raises:
        PlanError: there is no file for this stack.
    """
    # Pulumi.yaml says `main: infra/`, and Pulumi refuses a project whose main folder is missing.
    (work_dir / "infra").mkdir(parents=True, exist_ok=True)
    for path in (PROJECT_DIR / "Pulumi.yaml", require_stack(stack)):
        shutil.copyfile(path, work_dir / path.name)
