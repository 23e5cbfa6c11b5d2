"""The workflows of CI are well formed, and give credentials only where they are needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

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


class Job(NamedTuple):
    """A job of a workflow, with what it may do."""

    workflow: str
    name: str
    triggers: set[str]
    body: dict[str, Any]

    @property
    def privileges(self) -> set[str]:
        """Permissions beyond reading, and the identity to be exchanged for a Google login."""
        granted = self.body.get("permissions", {})
        return {name for name, right in granted.items() if right != "read"}

    @property
    def commands(self) -> list[str]:
        """Steps that run code of the checkout, or check it out."""
        steps = self.body["steps"]
        runs = [step["run"] for step in steps if "run" in step]
        return runs + [step["uses"] for step in steps if "checkout" in step.get("uses", "")]


def jobs() -> list[Job]:
    found = []
    for path in WORKFLOWS:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        triggers = content[True]  # YAML 1.1 reads `on` as a boolean
        found += [
            Job(path.name, name, set(triggers), body) for name, body in content["jobs"].items()
        ]
    return found


MAIN_ONLY = "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_says_more(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in content[True]


@pytest.mark.parametrize("job", jobs(), ids=lambda job: f"{job.workflow}-{job.name}")
def test_code_of_a_pull_request_runs_in_no_job_that_may_write_or_log_in(job: Job) -> None:
    if job.privileges and job.commands:
        assert "workflow_run" not in job.triggers
        assert " ".join(job.body["if"].split()).endswith(f"&& {MAIN_ONLY}")
    if "secrets." in str(job.body):
        assert "pull_request" not in job.triggers


@pytest.mark.parametrize("job", jobs(), ids=lambda job: f"{job.workflow}-{job.name}")
def test_no_text_of_a_pull_request_becomes_part_of_a_command(job: Job) -> None:
    inserted = re.compile(r"\$\{\{[^}]*(github\.(event|head_ref|base_ref)|inputs)[^}]*\}\}")
    for step in job.body["steps"]:
        script = step.get("with", {}).get("script", "")
        assert not inserted.search(step.get("run", "") + script)
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_the_jobs_with_more_rights_are_these() -> None:
    found = {(job.workflow, job.name): job.privileges for job in jobs() if job.privileges}
    assert found == {
        ("preview.yml", "with-credentials"): {"id-token"},
        ("preview-comment.yml", "comment"): {"pull-requests"},
    }


class TestPreview:
    def test_second_job_runs_only_where_the_repository_has_configured_it(self) -> None:
        job = yaml.safe_load(PREVIEW)["jobs"]["with-credentials"]
        assert "vars.GCP_WORKLOAD_IDENTITY_PROVIDER != ''" in job["if"]
        assert job["permissions"]["id-token"] == "write"

    def test_uses_the_pinned_engine(self) -> None:
        assert f'PULUMI_VERSION: "{PROGRAMS["pulumi"].version}"' in PREVIEW
