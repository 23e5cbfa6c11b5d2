import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.environment import ROOT, VENV

PACKAGES = ("analysis", "experiment", "images", "infra", "rehearsal", "schema", "tools")
SINGLE_MODULES = ("cli", "collect", "kube", "plan", "stacks")

FORBIDDEN = [
    ("schema", "import experiment.plan.trial_order", "schema: "),
    ("tools", "import rehearsal", "tools: "),
    ("infra", "import experiment.plan.trial_order", "infra: "),
    ("images", "import infra", "images: "),
    ("analysis", "import google.cloud.logging", "analysis: "),
    ("analysis", "import experiment.plan.trial_order", "analysis: "),
    ("rehearsal", "import experiment.plan.trial_order", "rehearsal: "),
    ("rehearsal", "import infra", "rehearsal: "),
    (
        "experiment.plan.trial_order",
        "import infra",
        "infra is called from experiment.provision.pulumi_stack alone",
    ),
    (
        "experiment.provision.pulumi_stack",
        "import rehearsal",
        "rehearsal is opened from experiment.cli.app alone",
    ),
    ("experiment.plan.trial_order", "import pulumi", "Pulumi has one module"),
    ("experiment.plan.trial_order", "import kubernetes", "the Kubernetes client has one module"),
]
ALLOWED = [
    ("analysis", "import schema"),
    ("experiment.provision.pulumi_stack", "import infra, pulumi.automation"),
    ("experiment.cli.app", "import rehearsal, analysis"),
    ("experiment.kube", "import kubernetes.client"),
    ("rehearsal", "import images, schema, tools, kubernetes"),
]


def check_contracts(folder: Path, module: str, line: str) -> subprocess.CompletedProcess[str]:
    """Holds the project's contracts against packages whose only import is this one."""
    for package in PACKAGES:
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for name in SINGLE_MODULES:
        (folder / "experiment" / f"{name}.py").touch()
    path = folder / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    source.write_text(f"{line}\n", encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return subprocess.run(
        [VENV / "bin" / "lint-imports", "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("module", "line", "contract"), FORBIDDEN)
def test_an_import_against_the_direction_is_refused(
    module: str, line: str, contract: str, tmp_path: Path
) -> None:
    done = check_contracts(tmp_path, module, line)
    words = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert contract in words.split("Broken contracts")[1]


@pytest.mark.parametrize(("module", "line"), ALLOWED)
def test_an_import_in_the_direction_is_allowed(module: str, line: str, tmp_path: Path) -> None:
    done = check_contracts(tmp_path, module, line)
    assert done.returncode == 0, done.stdout


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
    """The top-level packages imported by a folder's modules that are neither Python's nor ours."""
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


def test_schema_needs_pydantic_and_yaml_alone() -> None:
    assert third_party_imports(ROOT / "schema") == {"pydantic", "yaml"}


def test_what_setup_needs_of_schema_is_on_the_standard_library_alone() -> None:
    code = "import tools.setup, sys; print('pydantic' in sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
