import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from experiment.cli.app import app
from schema.errors import ExitCode, UserError

ROOT = Path(__file__).parents[3]
SMOKE = str(ROOT / "studies" / "smoke.yaml")


@pytest.mark.parametrize(
    ("arguments", "sentence", "fix"),
    [
        ((), "A new run needs --study", "--stack size-4"),
        (("--stack", "size-5", "--study", SMOKE), "There is no stack 'size-5'", "size-4"),
        (
            ("--stack", "size-4", "--study", "no.yaml"),
            "There is no study at no.yaml",
            "pull-study files",
        ),
        (
            ("--stack", "size-4", "--study", SMOKE, "--rehearse", "--scale", "2"),
            "--scale must be above 0",
            "0.01",
        ),
        (
            ("--stack", "size-4", "--study", SMOKE, "--rehearse", "--scale", "0"),
            "--scale must be above 0",
            "0.01",
        ),
        (("--stack", "size-4", "--study", SMOKE, "--speed", "20"), "requires --rehearse", "out"),
        (
            ("--stack", "size-4", "--study", SMOKE, "--rehearse", "--speed", "20"),
            "requires simulated nodes",
            "--nodes simulated",
        ),
        (
            ("--all-sizes", "--stack", "size-4", "--study", SMOKE),
            "--all-sizes and --stack exclude",
            "leave",
        ),
        (
            ("--kubeconfig", "none", "--study", SMOKE),
            "There is no kubeconfig at none",
            "ls -l none",
        ),
        (("--resume", "x", "--stack", "size-4"), "cannot be combined with", "leave them out"),
        (
            ("--stack", "size-4", "--study", SMOKE, "--rehearse", "--run-id", "../x"),
            "cannot name Kubernetes objects",
            "--run-id my-run-1",
        ),
        (
            ("--stack", "size-4", "--stack", "size-8", "--study", SMOKE, "--run-id", "a" * 46),
            "cannot name Kubernetes objects",
            "--run-id my-run-1",
        ),
        (("--stack", "size-4", "--study", SMOKE, "--zone", "../x"), "is not a zone", "--zone us"),
        (("--stack", "s" * 5000, "--study", SMOKE), "(5000 characters)", "size-4"),
        (("--rehearse", "--resume", "r" * 5000), "(5000 characters)", "ls data/runs"),
    ],
    ids=[
        "nothing",
        "stack",
        "study",
        "scale-2",
        "scale-0",
        "speed",
        "real-speed",
        "sizes",
        "kubeconfig",
        "resume",
        "run-id",
        "run-ids",
        "zone",
        "long-stack",
        "long-run",
    ],
)
def test_bad_input_is_one_sentence_and_its_fix(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
    fix: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", *arguments])
    assert isinstance(done.exception, UserError), done.output
    assert done.exception.exit_code == ExitCode.USAGE
    assert sentence in done.exception.problem
    assert fix in done.exception.fix
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_has_no_dry_run() -> None:
    done = CliRunner().invoke(app, ["run", "--resume", "x", "--dry-run"])
    assert isinstance(done.exception, UserError)
    assert "--dry-run shows the plan of a new run" in done.exception.problem


def test_a_dry_run_shows_the_plan_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[tuple[object, ...]] = []
    monkeypatch.setattr("experiment.cli.plan.show_plans", lambda *a, **_: shown.append(a))
    done = CliRunner().invoke(app, ["run", "--stack", "size-4", "--study", SMOKE, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert len(shown) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_folder_of_all_runs_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("PULL_STUDY_RUNS", str(tmp_path if by == "variable" else "elsewhere"))
    option = ["--runs", str(tmp_path)] if by == "option" else []
    done = CliRunner().invoke(app, [*option, "ledger", "x"])
    assert isinstance(done.exception, UserError)
    assert done.exception.problem == f"There is no run 'x' in {tmp_path}."


def test_standing_settings_come_from_variables() -> None:
    commands = get_group(app).commands
    found = {
        variable: parameter.name
        for parameter in commands["run"].params
        if isinstance(variable := parameter.envvar, str)
    }
    assert found == {
        "PULL_STUDY_PARALLEL": "parallel",
        "PULL_STUDY_BUDGET_USD": "budget_usd",
        "PULL_STUDY_SPANS": "spans",
        "PULL_STUDY_OUTPUT": "output",
        "PULL_STUDY_YES": "yes",
    }


def test_an_error_is_printed_with_its_fix_and_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiment", "run", "--stack", "size-5", "--study", SMOKE]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: There is no stack 'size-5'")
    assert "\n  Fix: choose one of size-4" in done.stderr


def test_help_names_every_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiment", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    for code in ("0 ok", "3 incomplete", "7 teardown", "130 interrupted"):
        assert code in " ".join(done.stdout.split())


def test_every_command_has_help_without_loading_pulumi(tmp_path: Path) -> None:
    commands = list(get_group(app).commands)
    script = (
        "import sys, runpy\n"
        "for command in sys.argv[1:]:\n"
        "    sys.argv = ['experiment', command, '--help']\n"
        "    try: runpy.run_module('experiment', run_name='__main__')\n"
        "    except SystemExit: pass\n"
        "slow = {'pulumi', 'kubernetes', 'grpc', 'numpy', 'duckdb', 'requests'}\n"
        "print('HEAVY', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {"run", "plan", "preflight", "ledger", "list", "sweep"} < set(commands)
    assert done.stdout.count("Usage:") == len(commands)
    assert "HEAVY []" in done.stdout


def test_a_real_run_imports_nothing_of_the_rehearsal(tmp_path: Path) -> None:
    """It ends where images are resolved, with everything imported that a run needs."""
    script = (
        "import sys, runpy; sys.argv = ['experiment', *sys.argv[1:]]\n"
        "try: runpy.run_module('experiment', run_name='__main__')\n"
        "except SystemExit as end: print('CODE', end.code)\n"
        "print('REHEARSAL', [name for name in sys.modules if name.startswith('rehearsal')])\n"
        "print('RUNNER', 'experiment.run_study' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--stack", "size-4", "--study", SMOKE],
        cwd=tmp_path,
        env={**os.environ, "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CODE 4\nREHEARSAL []\nRUNNER True\n" in done.stdout, done.stderr
    assert "skopeo is not on PATH" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


COMPLETES = """\
eval "$({program} --show-completion bash)"
COMP_WORDS=({program} {words}) COMP_CWORD=2
_{function}_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("program", "words", "options"),
    [
        ("pull-study", "run --st", {"--stack", "--study", "--staging"}),
        ("pull-study-analysis", "predict --ex", {"--extrapolate"}),
        ("pull-study-images", "build --ma", {"--matrix"}),
        ("pull-study-rehearsal", "shell --sp", {"--speed"}),
    ],
)
def test_bash_completes_the_options_of_each_program(
    program: str, words: str, options: set[str]
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = COMPLETES.format(program=program, words=words, function=program.replace("-", "_"))
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == options


def test_a_file_that_does_not_exist_is_not_printed() -> None:
    with pytest.raises(UserError, match=r"There is no file 'Pulumi\.yaml'"):
        CliRunner().invoke(app, ["files", "Pulumi.yaml"], catch_exceptions=False)
