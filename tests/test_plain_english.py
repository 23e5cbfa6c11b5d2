"""User-facing text avoids words that a technical reader would have to read twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.environment import ROOT

BANNED = re.compile(
    r"\b(anew|begun|cures?|cured|mend(s|ed|ing)?|nobody|of which|told|what came of|for ever"
    r"|somebody|at hand|all the same|asked for)\b",
    re.IGNORECASE,
)
PACKAGES = ("analysis", "experiment", "images", "infra", "rehearsal", "schema", "tools")
PAGES = [
    ROOT / "README.md",
    ROOT / "Makefile",
    ROOT / "Pulumi.yaml",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in ROOT.glob("*/README.md")),
    *sorted(path for path in (ROOT / "analysis").rglob("*") if path.suffix in {".html", ".j2"}),
]


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield texts of several words that are no docstring, and docstrings of commands, by line."""
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            command = any(
                "command" in ast.unparse(each) for each in getattr(node, "decorator_list", ())
            )
            if not command:
                docstrings.add(body[0].value)
        docstrings |= {
            statement.value
            for statement in (body if isinstance(body, list) else ())
            if isinstance(node, ast.ClassDef | ast.Module) and isinstance(statement, ast.Expr)
        }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and node not in docstrings else None
        if isinstance(node, ast.Constant) and isinstance(text, str) and " " in text:
            yield node.lineno, text


def found(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    lines = sentences(ast.parse(text)) if path.suffix == ".py" else enumerate(text.splitlines(), 1)
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r} in {' '.join(line.split())[:90]}"
        for number, line in lines
        if (match := BANNED.search(" ".join(line.split())))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_and_help(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert [line for path in paths for line in found(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_and_templates(page: Path) -> None:
    assert found(page) == []


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ('raise UserError("The run was begun twice.")', True),
        ('def f():\n    """A docstring that is told anew."""', False),
        ('@app.command()\ndef f():\n    """Help that is told anew."""', True),
        ('x = 1\n"""Of a constant, told to developers."""', False),
    ],
)
def test_of_docstrings_only_help_is_searched(code: str, *, caught: bool) -> None:
    texts = [text for _, text in sentences(ast.parse(code))]
    assert any(map(BANNED.search, texts)) is caught
