from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiment.errors import Failure, PreflightError, RegistryError
from experiment.preflight import checks
from experiment.preflight.checks import check_disk_here, examine, registry_check
from experiment.preflight.findings import (
    Level,
    exit_code_of,
    findings_table,
    ok,
    permissions_finding,
    refuse,
    stop,
    warning,
)
from experiment.preflight.google_checks import GoogleChecks
from experiment.provision.existing_cluster import ExistingCluster
from experiment.provision.stack_cluster import StackCluster
from schema.errors import ExitCode
from schema.project_files import PROJECT_DIR
from schema.run_records import PlannedTrial
from tests.experiment.cells import planned
from tests.experiment.plan.test_trial_order import image
from tests.experiment.provision.test_existing_cluster import FakeKube as ExistingKube
from tests.experiment.provision.test_existing_cluster import node, write

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


@pytest.mark.parametrize(
    ("setting", "name"), [("exporter", "event exporter"), ("fluxOperator", "Flux Operator")]
)
def test_an_image_that_the_stack_itself_runs_is_asked_for_in_every_run(
    monkeypatch: pytest.MonkeyPatch, setting: str, name: str
) -> None:
    image = "ghcr.io/a/own@sha256:1"
    asked = []

    def missing(name: str) -> None:
        asked.append(name)
        raise RegistryError(f"{name} is gone.", "look", failure=Failure.IMAGE_MISSING)

    monkeypatch.setattr("experiment.preflight.checks.check_digest", missing)
    (finding,) = registry_check([planned()], reopened=False, services={image: setting})()
    assert asked == [image]
    assert (finding.level, finding.failure) == (Level.STOP, Failure.IMAGE_MISSING)
    assert finding.text.startswith(f"The {name} would not start")
    assert f"pulumi config set pull-study:{setting} MIRROR" in finding.fix


def test_a_reopened_run_asks_for_its_digests_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("experiment.preflight.checks.check_digest", asked.append)
    image = planned().image
    view = image.model_copy(update={"tag": "view", "digest": "sha256:view"})
    trials = [planned(), planned().model_copy(update={"view": view})]
    (finding,) = registry_check(trials, reopened=True, services={})()
    assert asked == sorted(f"{each.repository}@{each.digest}" for each in (image, view))
    assert finding.level is Level.OK


def test_checks_of_both_kinds_of_clusters_are_the_same_but_for_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack adds its project, exporter and money; an existing cluster its nodes and Lease."""

    def check_nothing() -> tuple[()]:
        return ()

    monkeypatch.setattr(
        "experiment.provision.existing_cluster.Kube", lambda *_, **__: ExistingKube([node("a")])
    )
    monkeypatch.setattr(checks, "check_programs", check_nothing)
    monkeypatch.setattr(checks, "check_login", check_nothing)
    monkeypatch.setattr(checks, "check_digest", lambda _: None)
    monkeypatch.setattr(GoogleChecks, "all", lambda _: ())
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    large = PlannedTrial(trial=1, repetition=1, image=image(500_000_000_000, "x"), warm_bytes=0)
    stack, existing = (
        {finding.check: finding for finding in examine([large], cluster, folder=tmp_path)}
        for cluster in (StackCluster("size-4", PROJECT_DIR), ExistingCluster(write(tmp_path)))
    )
    assert {*stack} & {*existing} == {"disk here", "registry", "registry limits", "disk"}
    assert {*stack} - {*existing} == {"exporter", "cost", "deadline"}
    assert {*existing} - {*stack} == {"nodes", "permissions", "in use", "events", "cold"}
    assert "pulumi config set" in stack["disk"].fix
    assert "choose nodes with" in existing["disk"].fix


def test_missing_permissions_read_the_same_on_a_project_and_on_a_cluster() -> None:
    missing = permissions_finding(["a.get", "b.list"], 9, "the project p", "ask for them")
    assert missing.text == "Missing permissions on the project p: a.get and b.list."
    assert exit_code_of([missing]) == ExitCode.PERMISSION
    assert permissions_finding([], 9, "the cluster c", "").level is Level.OK
