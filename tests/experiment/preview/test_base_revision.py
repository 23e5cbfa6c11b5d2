"""git as the source of another revision, where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiment.errors import PlanError, PreflightError
from experiment.preview.base_revision import unpack
from schema.project_files import PROJECT_DIR


def test_git_that_does_not_answer_is_an_error_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nexec sleep 60\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("experiment.preview.base_revision._TIMEOUT_S", 0.2)
    with pytest.raises(PlanError, match="git did not answer") as raised:
        unpack("main", tmp_path)
    assert raised.value.fix == f"git -C {PROJECT_DIR} status"


def test_without_git_the_fix_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match="git is not on PATH"):
        unpack("main", tmp_path)
