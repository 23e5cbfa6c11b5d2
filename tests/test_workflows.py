"""The workflows of CI are well formed, and give credentials only where they are needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.environment import ROOT
from tools.programs import PROGRAMS, locate

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
PREVIEW = (FOLDER / "preview.yml").read_text(encoding="utf-8")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run actionlint in a repository; it finds the workflows by itself."""
    return subprocess.run(
        [locate("actionlint").path, "-no-color"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_pass_actionlint() -> None:
    done = lint(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_with_a_mistake_does_not(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    copy = tmp_path / ".github" / "workflows"
    shutil.copytree(FOLDER, copy)
    broken = PREVIEW.replace("steps.preview.outcome", "steps.previews.outcome")
    (copy / "preview.yml").write_text(broken, encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert 'property "previews" is not defined' in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_use_actions_by_their_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


class TestPreview:
    def test_has_no_credential_in_its_first_job(self) -> None:
        job = yaml.safe_load(PREVIEW)["jobs"]["without-credentials"]
        assert "secrets." not in str(job)
        assert "id-token" not in job["permissions"]

    def test_second_job_runs_only_where_the_repository_has_configured_it(self) -> None:
        job = yaml.safe_load(PREVIEW)["jobs"]["with-credentials"]
        assert "vars.GCP_WORKLOAD_IDENTITY_PROVIDER != ''" in job["if"]
        assert job["permissions"]["id-token"] == "write"

    def test_uses_the_pinned_engine(self) -> None:
        assert f'PULUMI_VERSION: "{PROGRAMS["pulumi"].version}"' in PREVIEW
