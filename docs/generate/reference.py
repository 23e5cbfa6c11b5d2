"""docs/reference.md, from the programs' own help, exit codes and failures."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from experiment.errors import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference.md"
_PROGRAMS = {
    "pull-study": "experiment.cli.app",
    "pull-study-analysis": "analysis.cli",
    "pull-study-images": "images.cli",
    "pull-study-rehearsal": "rehearsal.cli",
}
_HEAD = """\
# Reference

Every command, option, exit code and failure. Written by `make docs`; a test fails if it is stale.

"""


def updated(_page: str = "") -> str:
    """Return the whole page."""
    parts = [_HEAD, _exit_codes(), _failures()]
    for program, module in _PROGRAMS.items():
        command = [sys.executable, "-m", "typer", module, "utils", "docs"]
        done = subprocess.run(
            [*command, "--name", program],
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        text = done.stdout.replace("&#x27;", "'").replace("&quot;", '"')
        parts.append(text.replace("\n#", "\n##").replace("# `", "## `", 1).strip() + "\n\n")
    return "".join(parts).rstrip() + "\n"


def _exit_codes() -> str:
    """A table of schema.errors.ExitCode: name, number, docstring."""
    tree = ast.parse((ROOT / "schema" / "errors.py").read_text("utf-8"))
    body = next(
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "ExitCode"
    )
    rows = ["## Exit codes\n", "| code | name | meaning |", "|---|---|---|"]
    for assignment, text in pairwise(body):
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr):
            name = ast.unparse(assignment.targets[0])
            meaning = " ".join(str(ast.literal_eval(text.value)).split())
            rows.append(f"| {ast.unparse(assignment.value)} | {name} | {meaning} |")
    return "\n".join(rows) + "\n\n"


def _failures() -> str:
    """A table of experiment.errors.CATALOGUE."""
    rows = [
        "## Failures\n",
        "Each failure has a name, which the error message shows, and an exit code.\n",
        "| failure | exit code | meaning | retried | fix |",
        "|---|---|---|---|---|",
        *(
            f"| {failure} | {entry.exit_code.value} | {entry.meaning} | {entry.retried} | "
            f"{entry.fix} |"
            for failure, entry in CATALOGUE.items()
        ),
    ]
    return "\n".join(rows) + "\n\n"
