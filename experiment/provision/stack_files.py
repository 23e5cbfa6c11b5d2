"""Pulumi.yaml and the stack files: which stacks there are, and a run's own copies of them.

Creating a stack rewrites its file, so a run works on copies in its folder: committed files stay as
they are, and the run keeps what was used. What the files say is read in
experiment.provision.stack_settings.
"""

import re
import shutil
from pathlib import Path

import yaml

from experiment.errors import PlanError

PROJECT_DIR = Path(__file__).parents[2]
"""Where Pulumi.yaml and the stack files are."""

DEADLINE_KEY = "pull-study:expiresAt"
"""The key by which a user sets a cluster's deadline."""


def stack_names(root: Path = PROJECT_DIR) -> list[str]:
    """All stacks that have a file, smallest cluster first."""
    names = [path.name[len("Pulumi.") : -len(".yaml")] for path in root.glob("Pulumi.*.yaml")]
    return sorted(names, key=lambda name: (int((re.findall(r"\d+", name) or ["0"])[0]), name))


def node_count(stack: str) -> int | None:
    """Measured nodes of a stack, as its file has them; None where it does not say.

    Raises:
        PlanError: there is no such stack.
    """
    text = require_stack(stack).read_text("utf-8")
    found = re.search(r"(?m)^\s+pull-study:nodeCount:\s*[\"']?(\d+)", text)
    return int(found[1]) if found else None


def require_stack(stack: str, root: Path = PROJECT_DIR) -> Path:
    """The committed file of a stack.

    Raises:
        PlanError: there is none.
    """
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise PlanError(
            f"There is no stack {stack!r}: no file {path.name} says what its cluster is.",
            f"choose one of {', '.join(stack_names(root))}, or add {path.name}",
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


def set_deadline(stack: str, work_dir: Path, until: str) -> None:
    """Put the time at which the cluster deletes itself into a run's own copy of the stack's file.

    Args:
        stack: its name.
        work_dir: holds the copies.
        until: such as 2026-11-25T03:00Z; empty to leave it to deadlineHours and the exports.

    Raises:
        PlanError: the copy cannot be read.
    """
    path = work_dir / f"Pulumi.{stack}.yaml"
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
        config = content.setdefault("config", {})
        config.pop(DEADLINE_KEY, None)
        if until:
            config[DEADLINE_KEY] = until
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise PlanError(f"The stack file {path} cannot be read: {error}.", f"cat {path}") from None
    path.write_text(yaml.safe_dump(content), "utf-8")
