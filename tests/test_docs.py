"""What the documents say is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.generate.reference import PAGE, ROOT, updated
from experiment.errors import CATALOGUE, Failure
from schema.errors import ExitCode

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def test_the_reference_is_what_help_says() -> None:
    assert PAGE.read_text("utf-8") == updated(), "stale: make docs"


def test_every_exit_code_is_explained() -> None:
    text = PAGE.read_text("utf-8")
    for code in ExitCode:
        assert f"| {code.value} | {code.name} |" in text


def test_every_failure_is_in_the_reference_with_its_code_and_its_fix() -> None:
    text = PAGE.read_text("utf-8")
    assert set(CATALOGUE) == set(Failure)
    for failure, entry in CATALOGUE.items():
        assert f"| {failure} | {entry.exit_code.value} |" in text
        assert entry.fix in text
        assert entry.retried in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_page_is_empty(document: Path) -> None:
    text = document.read_text("utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) > 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_project_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", ["README.md", "docs/design.md", "docs/contributing.md"])
def test_every_path_of_the_project_that_is_named_exists(document: str) -> None:
    packages = (
        "infra|experiment|analysis|images|rehearsal|schema|studies|tools|benchmarks|tests|docs"
    )
    named = re.findall(rf"`((?:{packages})/[\w./]*)`", (ROOT / document).read_text("utf-8"))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []


PACKAGES = ("analysis", "experiment", "images", "infra", "rehearsal", "schema", "tools")
MODULE = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+\b")
FILE = re.compile(r"(?<![\w/.-])[a-z_][\w/]*\.py\b")
NO_MODULE = re.compile(r"\.(md|csv|json|jsonl|log|yaml|invalid)$")


def docstrings(path: Path) -> str:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    values = [node.value for node in nodes if isinstance(node, ast.Expr)]
    return "\n".join(
        value.value
        for value in values
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or defined at the top level of one."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent.with_suffix(".py")
    return module.exists() and bool(
        re.search(rf"(?m)^(?:def |class )?{path.name}\b", module.read_text("utf-8"))
    )


def test_every_module_that_a_docstring_names_exists() -> None:
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    files = {path.name for path in sources}
    wrong: list[str] = []
    checked = 0
    for path in sources:
        text = docstrings(path)
        names = [name for name in MODULE.findall(text) if not NO_MODULE.search(name)]
        named = FILE.findall(text)
        checked += len(names) + len(named)
        wrong += [f"{path}: {name}" for name in names if not is_there(name)]
        wrong += [f"{path}: {name}" for name in named if Path(name).name not in files]
    assert checked > 50
    assert wrong == []


def test_the_make_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"(?m)(?:`|^)make ([a-z]+)", (ROOT / "README.md").read_text("utf-8")))
    assert {"rehearsal", "test", "setup", "doctor", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
