"""The contracts of pyproject.toml catch what they are for: one broken tree, one clean one."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.environment import ROOT, VENV

PACKAGES = ("analysis", "experiment", "images", "infra", "rehearsal", "schema", "tools")

# Each edge, and the contract that forbids it.
FORBIDDEN = [
    ("schema", "experiment", "schema: "),
    ("tools", "rehearsal", "tools: "),
    ("infra", "experiment", "infra: "),
    ("images", "infra", "images: "),
    ("analysis", "google.cloud.logging", "analysis: "),
    ("rehearsal", "infra", "rehearsal: "),
    ("experiment.plan.trial_order", "infra", "three modules call infra"),
    ("experiment.provision.pulumi_stack", "rehearsal", "one opens a rehearsal"),
    ("experiment.plan.trial_order", "pulumi", "three modules drive Pulumi"),
    ("experiment.plan.trial_order", "kubernetes", "two speak Kubernetes"),
    ("experiment.collect.ledger", "experiment.measure.trial", "experiment: rooms, one way"),
    ("experiment.provision.stack_settings", "experiment.preflight.findings", "experiment: rooms"),
]


def check_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VENV / "bin" / "lint-imports", "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_import_against_the_direction_is_refused(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert check_contracts(tmp_path).returncode == 0
    for module, imported, _ in FORBIDDEN:
        path = tmp_path / module.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        with source.open("a", encoding="utf-8") as text:
            text.write(f"\nimport {imported}\n")
    done = check_contracts(tmp_path)
    assert done.returncode == 1
    broken = " ".join(done.stdout.split()).split("Broken contracts")[1]
    assert [contract for *_, contract in FORBIDDEN if contract not in broken] == []
    edges = [f"{module} -> {imported.split('.')[0]}" for module, imported, _ in FORBIDDEN]
    assert [edge for edge in edges if edge not in broken] == []


@pytest.mark.parametrize(
    ("path", "line", "refused"),
    [
        ("experiment/plan/trial_order.py", "from google.cloud import logging", True),
        ("experiment/collect/cloud_logging.py", "from google.cloud import logging", False),
        ("infra/program.py", "from pulumi import automation", True),
        ("experiment/provision/pulumi_stack.py", "from pulumi import automation", False),
    ],
)
def test_a_third_party_client_has_one_module(path: str, line: str, *, refused: bool) -> None:
    done = subprocess.run(
        [VENV / "bin" / "ruff", "check", "--select=TID251", f"--stdin-filename={path}", "-"],
        cwd=ROOT,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == int(refused), done.stdout


def third_party_imports(folder: Path) -> set[str]:
    """Top-level packages that a folder's modules import, without Python's and the project's."""
    names: set[str] = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module or "")
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES)


def test_setup_runs_before_the_environment_on_the_standard_library_alone() -> None:
    assert third_party_imports(ROOT / "tools") == set()
    code = "import tools.setup, sys; print('pydantic' in sys.modules)"
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{path}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_schema_needs_pydantic_yaml_and_what_starts_a_program_alone() -> None:
    assert third_party_imports(ROOT / "schema") == {"pydantic", "rich", "typer", "yaml"}


# Only the named extras bring these; a run on GKE needs none of them.
EXTRAS = (
    "aiohttp.web",
    "deflate",
    "google.cloud.container_v1beta1",
    "images.registry",
    "rehearsal",
    "trustme",
    "zstandard",
)


# It imports infra.program too.
A_RUN = """
from experiment.cli.app import _cloud
with _cloud(rehearse=False):
    import experiment.cli.plan, experiment.cli.results, experiment.cli.run
import logging
assert logging.getLogger("grpc._server").level == logging.NOTSET, "imports change nothing"
"""


@pytest.mark.parametrize(
    "code",
    [
        "from experiment.cli.app import app; app(['--help'], standalone_mode=False)",
        A_RUN,
    ],
    ids=["experiment --help", "a run"],
)
def test_what_a_run_on_gke_imports_needs_no_extra(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(EXTRAS) & set(done.stdout.splitlines()) == set()
