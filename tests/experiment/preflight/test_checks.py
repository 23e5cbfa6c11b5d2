from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiment.errors import Failure, PreflightError
from experiment.preflight.checks import check_disk_here, check_programs
from experiment.preflight.findings import (
    Finding,
    Level,
    exit_code_of,
    findings_table,
    ok,
    refuse,
    stop,
    warning,
)
from experiment.preflight.google_checks import GoogleChecks, clock_finding
from experiment.provision.stack_files import PROJECT_DIR
from experiment.provision.stack_settings import StackFacts, stack_facts
from rehearsal.google.environment import PROJECT, google_variables
from rehearsal.google.state import Kind
from rehearsal.machine.home import Home
from schema.errors import ExitCode
from tests.rehearsal.local_google import Google, serving

BAD = stop("disk", "too small", "grow it")


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    with serving() as google:
        (tmp_path / "home").mkdir()
        variables = google_variables(Home(tmp_path / "home"), url=google.url, logging="127.0.0.1:1")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield google


def facts(stack: str = "size-64") -> StackFacts:
    return stack_facts(stack, PROJECT_DIR)


def found(stack: str = "size-64") -> list[Finding]:
    checks = GoogleChecks(facts(stack))
    try:
        return [finding for check in checks.all() for finding in check()]
    finally:
        checks.close()


def bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


def test_a_missing_program_is_named_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    findings = list(check_programs())
    assert [finding.level for finding in findings] == [Level.STOP] * 3
    assert findings[1].text.startswith("gke-gcloud-auth-plugin is not on PATH")
    assert findings[1].fix == "gcloud components install gke-gcloud-auth-plugin"


def test_a_project_that_has_all_is_well(google: Google) -> None:
    del google
    findings = found()
    assert bad(findings) == []
    checks = {finding.check for finding in findings}
    assert checks == {"credentials", "clock", "APIs", "permissions", "quotas"}
    assert "CPUS in us-central1: 1030 needed, 20000 of 20000 free" in {f.text for f in findings}


def test_an_api_that_is_off_stops_with_the_command_that_switches_it_on(google: Google) -> None:
    service = f"serviceusage/v1beta1/projects/{PROJECT}/services/cloudscheduler.googleapis.com"
    google.ok("POST", f"{service}:disable")
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.API_OFF)
    assert finding.fix == (
        f"gcloud services enable --project {PROJECT} cloudscheduler.googleapis.com"
    )


def test_permissions_that_are_missing_are_named(google: Google) -> None:
    lacking = {"container.clusters.create": True, "logging.sinks.create": True}
    google.state.put(Kind.DENIED_PERMISSIONS, f"projects/{PROJECT}", lacking)
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.PERMISSION)
    assert "container.clusters.create and logging.sinks.create" in finding.text


@pytest.mark.parametrize(
    ("metric", "limit", "need"),
    [("CPUS", 1000, 1030), ("SSD_TOTAL_GB", 6000, 6600), ("IN_USE_ADDRESSES", 8, 66)],
)
def test_a_quota_that_is_too_small_names_the_required_one(
    google: Google, metric: str, limit: int, need: int
) -> None:
    google.state.put(Kind.QUOTA, f"projects/{PROJECT}/regions/us-central1", {metric: limit})
    (finding,) = bad(found())
    assert (finding.level, finding.failure) == (Level.STOP, Failure.QUOTA)
    assert finding.text == (
        f"The stack needs {need} of {metric} in us-central1, but only {limit} of {limit} are free."
    )
    assert finding.fix.startswith(f"request {need} {metric} ")


def test_what_other_clusters_use_of_a_quota_is_not_free(google: Google) -> None:
    google.state.put(Kind.QUOTA, f"projects/{PROJECT}/regions/us-central1", {"CPUS": 1100})
    place = f"container/v1beta1/projects/{PROJECT}/locations/us-central1-a"
    cluster = {"name": "c", "initialNodeCount": 8, "nodeConfig": {"machineType": "n1-standard-16"}}
    operation = google.ok("POST", f"{place}/clusters", {"cluster": cluster})
    assert operation["operationType"] == "CREATE_CLUSTER"
    (finding,) = bad(found())
    assert "but only 972 of 1100 are free" in finding.text


def test_a_zone_that_google_does_not_have_stops_with_one_of_the_region(google: Google) -> None:
    del google
    mistyped = facts()
    needs = replace(mistyped.needs, zones=("us-central1-z",))
    checks = GoogleChecks(replace(mistyped, needs=needs))
    (finding,) = bad(finding for check in checks.all() for finding in check())
    checks.close()
    assert "has no zone us-central1-z; the region has us-central1-a," in finding.text
    assert finding.fix == "pulumi config set --path 'pull-study:zones[0]' us-central1-a"


def test_google_that_refuses_is_a_finding_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")
    checks = GoogleChecks(facts())
    with pytest.raises(PreflightError, match="There are no Google credentials") as caught:
        list(checks.check_credentials())
    assert caught.value.exit_code is ExitCode.PERMISSION
    assert [list(check()) for check in checks.all()[1:]] == [[], [], []]


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0.4, Level.OK, "agree"),
        (-20, Level.WARNING, "20 s behind Google's"),
        (20, Level.WARNING, "20 s ahead of Google's"),
        (600, Level.STOP, "600 s ahead of Google's"),
    ],
)
def test_clocks_that_differ_are_reported_and_minutes_stop(
    seconds: float, level: Level, words: str
) -> None:
    (finding,) = clock_finding(timedelta(seconds=seconds))
    assert finding.level is level
    assert words in finding.text


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
