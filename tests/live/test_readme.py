"""The README's commands for one machine, run as they stand there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE
from schema.errors import ExitCode
from schema.names import REHEARSAL_VARIABLE

ROOT = Path(__file__).parents[2]
CONTINUED = re.compile(r" \\\n +")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
NOT_LINKED = {".git", "data"}
"""What runs and commits is not a test's to write to."""
ELSEWHERE = {
    "make rehearsal": "its one command is the first of test_study",
    "make test": "it is what runs this test",
    "gcloud auth application-default login": "asks Google",
    'export GOOGLE_CLOUD_PROJECT=my-project PULUMI_CONFIG_PASSPHRASE=""': "for Google",
    ".venv/bin/python -m experiment run --stack size-4 --study studies/smoke.yaml": (
        "asks Google; its path is the rehearsal's"
    ),
}

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        bool(requirements.obstacles(Path("/var/lib"))), reason="this machine cannot run real nodes"
    ),
]


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    joined = (CONTINUED.sub(" ", block) for block in BLOCK.findall(text))
    return [line for block in joined for line in block.splitlines() if line]


def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ROOT.iterdir():
        if path.name not in NOT_LINKED:
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(REHEARSAL_VARIABLE, raising=False)
    here = [command for command in commands() if command not in ELSEWHERE]
    assert len(here) == 6
    assert set(ELSEWHERE) <= set(commands())
    for command in here:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        wanted = ExitCode.INCOMPLETE if "--fault" in command else ExitCode.OK
        assert done.returncode == wanted, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "report" / "report.html").is_file()


def test_make_rehearsal_is_the_command_that_the_study_tests_run() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    wanted = "-m experiment run --stack size-4 --study studies/smoke.yaml --rehearse --yes"
    assert wanted in makefile
