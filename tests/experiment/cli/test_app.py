import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SMOKE = str(ROOT / "studies" / "smoke.yaml")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiment", "run", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "sentence", "fix"),
    [
        ((), "A new run needs --study", "--stack size-4"),
        (("--stack", "size-5", "--study", SMOKE), "There is no stack 'size-5'", "size-4"),
        (("--stack", "size-4", "--study", "no.yaml"), "There is no study at no.yaml", "ls studies"),
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
    ],
)
def test_bad_input_is_one_sentence_and_its_fix(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str, fix: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert fix in done.stderr.partition("Fix:")[2]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiment", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    for code in ("0 ok", "3 incomplete", "7 teardown", "130 interrupted"):
        assert code in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "command",
    ["run", "plan", "preflight", "ledger", "time", "collect", "preview", "destroy", "sweep"],
)
def test_every_command_has_help_without_loading_pulumi(tmp_path: Path, command: str) -> None:
    watch = (
        "import sys, runpy; sys.argv = ['experiment', sys.argv[1], '--help']\n"
        "try: runpy.run_module('experiment', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "slow = {'pulumi', 'kubernetes', 'grpc', 'numpy', 'duckdb', 'requests'}\n"
        "print('HEAVY', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch, command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Usage:" in done.stdout
    assert "HEAVY []" in done.stdout


def test_an_unreachable_registry_ends_a_real_run_without_importing_the_rehearsal(
    tmp_path: Path,
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("name: s\nimages: [{repository: '127.0.0.1:1/a', tags: [t]}]\n")
    script = (
        "import sys, runpy; sys.argv = ['experiment', *sys.argv[1:]]\n"
        "try: runpy.run_module('experiment', run_name='__main__')\n"
        "except SystemExit as end: print('CODE', end.code)\n"
        "print('REHEARSAL', [name for name in sys.modules if name.startswith('rehearsal')])\n"
        "print('RUNNER', 'experiment.run_study' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--stack", "size-4", "--study", str(study)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CODE 4\nREHEARSAL []\nRUNNER True\n" in done.stdout, done.stderr
    assert "cannot be read from its registry" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [study]


COMPLETES = """\
eval "$(pull-study --show-completion bash)"
COMP_WORDS=(pull-study run --st) COMP_CWORD=2
_pull_study_completion pull-study
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes_the_options_of_the_command_in_one_word() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", COMPLETES],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == {"--stack", "--study", "--staging"}
