"""The wheel in an environment of its own, used from an empty folder; no checkout is on its path."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from schema.errors import ExitCode
from tests.infra.stack_files import ROOT, stack_files
from tests.live.harness import Place
from tests.live.simulated.conftest import STUDY

pytestmark = pytest.mark.live
SMOKE = "studies/smoke.yaml"


@dataclass(frozen=True)
class Installed:
    """The environment's programs, run from a folder."""

    place: Place
    programs: Path

    def run(self, *arguments: str, program: str = "pull-study") -> tuple[int, str]:
        """Return exit code and output."""
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.place.folder,
            env=self.place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    def succeed(self, *arguments: str, program: str = "pull-study") -> str:
        code, output = self.run(*arguments, program=program)
        assert code == 0, output
        return output


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and installed as a user does, but without a network.

    Its dependencies are those of this environment: a .pth file adds the folder, whose own .pth
    files, as that of the editable checkout, count for nothing then.
    """
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    offline = ("--offline", "--no-config", "--quiet")

    def run(*arguments: str | Path) -> None:
        subprocess.run([uv, *arguments, *offline], cwd=folder, check=True, timeout=100)

    run("build", "--wheel", "--no-build-isolation", "--python", sys.executable,
        "--out-dir", folder, ROOT)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    run("venv", "--no-python-downloads", "--python", sys.executable, folder / "own")
    run("pip", "install", "--no-deps", "--python", folder / "own", wheel)
    (packages,) = (folder / "own" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return folder / "own" / "bin"


@pytest.fixture
def installed(environment: Path, simulated: Place, tmp_path: Path) -> Installed:
    """In an empty folder, beside a local Google and a registry."""
    return Installed(replace(simulated, folder=tmp_path), environment)


def test_no_module_is_the_checkouts(environment: Path, tmp_path: Path) -> None:
    modules = "analysis, experiment, images, infra, rehearsal, schema, tools"
    code = f"import {modules}; print(*(m.__file__ for m in ({modules})))"
    command = [str(environment / "python"), "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(Path(file).is_relative_to(environment.parent) for file in done.stdout.split())


def test_every_stack_and_study_comes_with_it(installed: Installed) -> None:
    names = {path.name for path in stack_files()} | {
        f"studies/{path.name}" for path in (ROOT / "studies").glob("*.yaml")
    }
    assert files(installed) == dict.fromkeys(names, False)
    smoke = ROOT / "studies" / "smoke.yaml"
    assert installed.succeed("files", "studies/smoke.yaml") == smoke.read_text("utf-8")


def test_it_plans_its_own_stack_and_study_in_an_empty_folder(installed: Installed) -> None:
    assert planned(installed, "size-4") == ("smoke", {"size-4": (4, 100)})
    assert not list(installed.place.folder.iterdir())


@pytest.mark.full  # tests/schema/test_project_files.py holds the rule
def test_files_of_the_current_folder_come_first(installed: Installed) -> None:
    folder = installed.place.folder
    (folder / "studies").mkdir()
    (folder / SMOKE).write_text(STUDY, "utf-8")
    disk = "config:\n  pull-study:diskSizeGb: 321\n"
    text = installed.succeed("files", "Pulumi.size-4.yaml").replace("config:\n", disk)
    (folder / "Pulumi.size-4.yaml").write_text(text, "utf-8")
    (folder / "Pulumi.five.yaml").write_text('config: {pull-study:nodeCount: "5"}', "utf-8")
    (folder / "Pulumi.size-8.yaml").write_text('config: {other:nodeCount: "9"}', "utf-8")
    study, stacks = planned(installed, "size-4", "five", "size-8")
    assert (study, stacks) == ("shared", {"size-4": (4, 321), "five": (5, 100), "size-8": (8, 100)})
    own = [name for name, is_own in files(installed).items() if is_own]
    assert own == ["Pulumi.five.yaml", "Pulumi.size-4.yaml", SMOKE]


@pytest.mark.full
def test_preflight_and_preview_need_no_file_either(installed: Installed) -> None:
    said = installed.succeed("preview", "--stack", "size-4", "--output", "json")
    rows = json.loads(said[said.index("[") :])
    stacks = [(row["stack"], row["problem"]) for row in rows if row["table"] == "stacks"]
    assert stacks == [("size-4", "")]
    installed.succeed("preflight", "--stack", "size-4", "--study", SMOKE)


@pytest.mark.full
def test_analysis_and_images_answer(installed: Installed) -> None:
    version = f"pull-study {importlib.metadata.version('pull-study')}\n"
    for program in ("pull-study", "pull-study-analysis", "pull-study-images"):
        assert installed.succeed("--version", program=program) == version
    code, said = installed.run("report", "none.json", "--out", "r", program="pull-study-analysis")
    assert code == ExitCode.USAGE, said


def test_what_needs_a_checkout_says_so(installed: Installed, tmp_path: Path) -> None:
    code, said = installed.run("preview", "--stack", "size-4", "--against", "main")
    assert code == ExitCode.PREFLIGHT
    assert "compares with another revision of a checkout" in said
    machine = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    bare = replace(installed, place=replace(installed.place, variables=machine))
    fix = "make setup, in a checkout of this program"
    for program, *arguments in (("pull-study-rehearsal", "doctor"), ("python", "-m", "tools")):
        code, said = bare.run(*arguments, program=program)
        assert code == ExitCode.PREFLIGHT
        assert fix in " ".join(said.split()), said


def planned(installed: Installed, *stacks: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """Plan the study smoke; return its name, and nodes and disk in GB of each stack."""
    named = [word for stack in stacks for word in ("--stack", stack)]
    rows = json.loads(installed.succeed("plan", *named, "--study", SMOKE, "--output", "json"))
    (study,) = (row["study"] for row in rows if row["table"] == "study")
    clusters = [row for row in rows if row["table"] == "clusters"]
    return study, {row["stack"]: (row["nodes"], row["disk_gb"]) for row in clusters}


def files(installed: Installed) -> dict[str, bool]:
    """List the files, and which of them are the folder's own."""
    rows = json.loads(installed.succeed("files", "--output", "json"))
    return {row["file"]: row["from"] == "this folder" for row in rows}
