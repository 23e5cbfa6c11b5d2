from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiment.errors import Failure
from experiment.preflight.findings import Level
from experiment.preflight.programs import check_login, check_programs

TOKEN = "ya29.secret"
ANSWER = json.dumps({"kind": "ExecCredential", "status": {"token": TOKEN}})
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a program into the only folder of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name: str, body: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    for name in ("pulumi", "skopeo"):
        write(name, "exit 0")
    write(
        "gke-gcloud-auth-plugin",
        f"[ \"$*\" = --use_application_default_credentials ] || exit 1\necho '{ANSWER}'",
    )
    return write


def test_programs_that_run_are_fine_and_the_token_is_not_shown(install: Install) -> None:
    del install
    findings = list(check_programs())
    assert [finding.level for finding in findings] == [Level.OK] * 3
    assert TOKEN not in str(findings)


def test_a_missing_program_is_named_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    findings = list(check_programs())
    assert [finding.level for finding in findings] == [Level.STOP] * 3
    assert findings[2].text.startswith("gke-gcloud-auth-plugin is not on PATH")
    assert "apt-get install google-cloud-cli-gke-gcloud-auth-plugin" in findings[2].fix
    assert "gcloud components install gke-gcloud-auth-plugin" in findings[2].fix


def test_a_program_that_cannot_be_run_is_not_taken_for_installed(install: Install) -> None:
    install("skopeo", "echo 'libgpgme.so.11: cannot open shared object file.' >&2; exit 127")
    (finding,) = [each for each in check_programs() if each.level is not Level.OK]
    assert finding.level is Level.STOP
    assert finding.text == (
        "skopeo --version failed: libgpgme.so.11: cannot open shared object file."
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'could not find default credentials' >&2; exit 1", "could not find default cred"),
        ("echo '{\"status\": {}}'", "its answer holds none"),
        ("echo no JSON", "its answer holds none"),
    ],
)
def test_a_plugin_without_a_token_stops_before_a_cluster_costs_money(
    install: Install, body: str, reason: str
) -> None:
    install("gke-gcloud-auth-plugin", body)
    (finding,) = [each for each in check_programs() if each.level is not Level.OK]
    assert (finding.level, finding.failure) == (Level.STOP, Failure.PERMISSION)
    assert reason in finding.text
    assert finding.fix == "gcloud auth application-default login"


def test_a_login_that_pulumi_alone_would_use_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(check_login()) == []
    monkeypatch.setenv("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", "deployer@p.iam.gserviceaccount.com")
    (finding,) = check_login()
    assert (finding.level, finding.failure) == (Level.STOP, Failure.PERMISSION)
    assert finding.fix.startswith("unset GOOGLE_IMPERSONATE_SERVICE_ACCOUNT;")


def test_a_rehearsal_does_not_use_the_user_s_other_logins(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("GOOGLE_CREDENTIALS", "mine.json")
    assert [finding.level for finding in check_login()] == [Level.STOP]
    request.getfixturevalue("google")
    assert list(check_login()) == []
