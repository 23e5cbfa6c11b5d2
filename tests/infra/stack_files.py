"""The committed Pulumi.yaml and stack files, read as the Pulumi CLI reads them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PREFIX = "pull-study:"


def stack_files() -> list[Path]:
    """Every Pulumi.STACK.yaml."""
    return sorted(ROOT.glob("Pulumi.*.yaml"))


def committed_checksums(root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of what a Pulumi command could rewrite: Pulumi.yaml and every stack file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.glob("Pulumi*.yaml")
    }


def stack_of(path: Path) -> str:
    """The stack's name."""
    return path.name.removeprefix("Pulumi.").removesuffix(".yaml")


def stacks() -> list[str]:
    """The names of all committed stacks."""
    return [stack_of(path) for path in stack_files()]


def in_ci_or_full(names: list[str]) -> list[Any]:
    """Stacks as parameters of a slow test: two of them run in CI."""
    few = {"size-4", "size-16-streaming"}
    return [pytest.param(each, marks=() if each in few else pytest.mark.full) for each in names]


def declared_keys() -> dict[str, dict[str, Any]]:
    """Pulumi.yaml's keys of this project, without namespace."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    return {key.removeprefix(PREFIX): schema for key, schema in project["config"].items()}


def values_of(stack: str) -> dict[str, str]:
    """A stack's configuration as the program gets it: defaults and the stack file, as text."""
    content = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
    own = {key.removeprefix(PREFIX): value for key, value in content["config"].items()}
    defaults = {
        key: schema["default"] for key, schema in declared_keys().items() if "default" in schema
    }
    return {key: _text(value) for key, value in (defaults | own).items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
