from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiment.errors import Failure, PreflightError, RegistryError
from experiment.preflight.checks import check_disk_here, registry_check
from experiment.preflight.findings import (
    Level,
    exit_code_of,
    findings_table,
    ok,
    refuse,
    stop,
    warning,
)
from schema.errors import ExitCode
from tests.experiment.cells import planned

BAD = stop("disk", "too small", "grow it")


def test_the_first_stop_ends_the_run_with_its_code_and_counts_the_others() -> None:
    quota = stop("quotas", "too few", "ask", Failure.QUOTA)
    findings = [ok("a", "fine"), warning("b", "hm", "mend"), quota, BAD]
    with pytest.raises(PreflightError) as caught:
        refuse(findings)
    assert caught.value.problem.startswith("too few (1 more checks failed: ")
    assert caught.value.exit_code is ExitCode.QUOTA
    assert exit_code_of(findings) == ExitCode.QUOTA
    assert exit_code_of([BAD]) == ExitCode.PREFLIGHT
    assert exit_code_of(findings[:2]) == ExitCode.OK
    refuse(findings[:2])


def test_each_finding_is_a_line_with_its_fix() -> None:
    table = findings_table([ok("a", "fine"), BAD], "Preflight")
    assert table.row_count == 2
    cells = list(table.columns[2].cells)
    assert cells == ["fine", "too small\nFix: grow it"]


@pytest.mark.parametrize(
    ("free_bytes", "files", "level"),
    [(1e9, 10_000, Level.OK), (60e6, 10_000, Level.STOP), (1e9, 10, Level.STOP)],
)
def test_a_full_disk_under_the_run_folder_stops(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: float,
    files: int,
    level: Level,
) -> None:
    disk = SimpleNamespace(f_bavail=free_bytes / 4096, f_frsize=4096, f_favail=files, f_files=9**9)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    (finding,) = check_disk_here(tmp_path / "runs" / "not-made-yet", cells=1_000)
    assert finding.level is level


def test_the_exporter_s_image_is_asked_for_in_every_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = "ghcr.io/a/exporter@sha256:1"
    asked = []

    def missing(name: str) -> None:
        asked.append(name)
        raise RegistryError(f"{name} is gone.", "look", failure=Failure.IMAGE_MISSING)

    monkeypatch.setattr("experiment.preflight.checks.check_digest", missing)
    (finding,) = registry_check([planned()], reopened=False, exporter_image=image)()
    assert asked == [image]
    assert (finding.level, finding.failure) == (Level.STOP, Failure.IMAGE_MISSING)
    assert finding.text.startswith("The event exporter would not start")
    assert "pulumi config set pull-study:exporter" in finding.fix


def test_a_reopened_run_asks_for_its_digests_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("experiment.preflight.checks.check_digest", asked.append)
    image = planned().image
    (finding,) = registry_check([planned(), planned()], reopened=True)()
    assert asked == [f"{image.repository}@{image.digest}"]
    assert finding.level is Level.OK
