"""Pulumi.yaml and the stack files: the list of stacks, and a run's copies of them.

Creating a stack rewrites its file, so a run works on copies in its folder: the committed files do
not change, and the run keeps what it used. experiment.provision.stack_settings reads their content;
this module is imported for --help and must not import infra.
"""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from experiment.errors import PlanError
from schema.errors import shortened
from schema.project_files import PROJECT_DIR, STACKS, project_files

DEADLINE_KEY = "pull-study:expiresAt"
"""The key that sets a cluster's deadline."""
_ZONES_KEY = "pull-study:zones"
_LIFETIME_KEY = "pull-study:deadlineHours"


def stack_names() -> list[str]:
    """Return all stacks that have a file, smallest cluster first."""
    names = [file[len("Pulumi.") : -len(".yaml")] for file in project_files(STACKS)]
    return sorted(names, key=lambda name: (int((re.findall(r"\d+", name) or ["0"])[0]), name))


def node_count(stack: str) -> int | None:
    """Return the measured nodes of a stack, from its file; None if not set there.

    Raises:
        PlanError: there is no such stack.
    """
    text = ""
    with suppress(OSError, UnicodeDecodeError):  # experiment.provision.stack_settings reports why
        text = require_stack(stack).read_text("utf-8")
    found = re.search(r"(?m)^\s+pull-study:nodeCount:\s*[\"']?(\d+)", text)
    return int(found[1]) if found else None


def require_stack(stack: str) -> Path:
    """Return the file of a stack: the current folder's, else the one that comes with the program.

    Raises:
        PlanError: there is none.
    """
    path = project_files(STACKS).get(f"Pulumi.{stack}.yaml")
    if path is None:
        shown = shortened(stack)
        raise PlanError(
            f"There is no stack {shown!r}: Pulumi.{shown}.yaml does not exist.",
            f"choose one of {', '.join(stack_names())}, or add Pulumi.{shown}.yaml",
        )
    return path


def copy_stack_files(stack: str, work_dir: Path) -> None:
    """Copy Pulumi.yaml and the stack's file into a run's folder.

    Raises:
        PlanError: there is no file for this stack.
    """
    # Pulumi.yaml says `main: infra/`, and Pulumi refuses a project whose main folder is missing.
    (work_dir / "infra").mkdir(parents=True, exist_ok=True)
    for path in (PROJECT_DIR / "Pulumi.yaml", require_stack(stack)):
        try:
            shutil.copyfile(path, work_dir / path.name)
        except PermissionError as error:
            raise PlanError(f"{path} cannot be read: {error.strerror}.", f"ls -l {path}") from error


def set_deadline(stack: str, work_dir: Path, until: str) -> None:
    """Write the time of the automatic deletion into a run's copy of the stack's file.

    Args:
        stack: its name.
        work_dir: holds the copies.
        until: such as 2026-11-25T03:00Z; empty for deadlineHours and the exports.

    Raises:
        PlanError: the copy cannot be read.
    """
    _configure(stack, work_dir, DEADLINE_KEY, until)


def set_lifetime(stack: str, work_dir: Path, hours: int) -> None:
    """Write the hours from creation to automatic deletion into a run's copy of the stack's file.

    Raises:
        PlanError: the copy cannot be read.
    """
    _configure(stack, work_dir, _LIFETIME_KEY, hours)


def set_zones(stack: str, work_dir: Path, zones: Sequence[str]) -> None:
    """Write the zones into a run's copy of the stack's file; the program uses the first.

    Args:
        stack: its name.
        work_dir: holds the copies.
        zones: in order of preference; not empty.

    Raises:
        PlanError: the copy cannot be read.
    """
    _configure(stack, work_dir, _ZONES_KEY, list(zones))


def _configure(stack: str, work_dir: Path, key: str, value: str | int | list[str]) -> None:
    """Set a key in a run's copy of the stack's file; remove it for an empty value."""
    path = work_dir / f"Pulumi.{stack}.yaml"
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
        config = content.setdefault("config", {})
        config.pop(key, None)
        if value:
            config[key] = value
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise PlanError(f"The stack file {path} cannot be read: {error}.", f"cat {path}") from error
    path.write_text(yaml.safe_dump(content), "utf-8")
