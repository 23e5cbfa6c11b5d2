"""Which file a name stands for; tests/live/simulated/test_wheel.py has the wheel's side."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.project_files import PROJECT_DIR, STACKS, STUDIES, is_own, project_files


def test_the_current_folders_file_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "studies" / "smoke.yaml"
    own.parent.mkdir()
    own.touch()
    studies = project_files(STUDIES)
    assert studies["studies/smoke.yaml"] == own
    assert studies["studies/run1.yaml"] == PROJECT_DIR / "studies" / "run1.yaml"
    assert [name for name, path in studies.items() if is_own(path)] == ["studies/smoke.yaml"]


@pytest.mark.parametrize(
    ("content", "expected"), [("pull-study:nodeCount: 5", True), ("other:nodeCount: 5", False)]
)
def test_a_stack_file_of_another_pulumi_project_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.size-4.yaml").write_text(content, "utf-8")
    assert is_own(project_files(STACKS)["Pulumi.size-4.yaml"]) is expected


def test_a_file_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.size-4.yaml").mkdir()
    assert is_own(project_files(STACKS)["Pulumi.size-4.yaml"])


def test_a_removed_current_folder_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert not any(is_own(path) for path in project_files(STACKS).values())
