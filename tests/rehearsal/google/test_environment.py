from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.oauth2 import service_account

from rehearsal.google import environment
from rehearsal.machine.home import Home
from rehearsal.machine.options import Options
from schema.names import CONTAINER_ENDPOINT_VARIABLE, LOGGING_ENDPOINT_VARIABLE, REHEARSAL_VARIABLE
from schema.run_records import Rehearsal
from tests.rehearsal.local_google import LOGIN


def test_every_google_client_uses_loopback(tmp_path: Path) -> None:
    found = environment.google_variables(
        Home(tmp_path), LOGIN, url="http://127.0.0.1:1", logging="127.0.0.1:2"
    )
    assert found[CONTAINER_ENDPOINT_VARIABLE] == "http://127.0.0.1:1/container/v1beta1/"
    assert found[LOGGING_ENDPOINT_VARIABLE] == "127.0.0.1:2"
    endpoints = {name: value for name, value in found.items() if name.endswith("_ENDPOINT")}
    assert len(endpoints) == 11
    for name, value in endpoints.items():
        assert name == LOGGING_ENDPOINT_VARIABLE or value.startswith("http://127.0.0.1:1/")
    assert found["PULUMI_BACKEND_URL"].startswith(f"file://{tmp_path}")


def test_google_s_library_accepts_the_credentials(tmp_path: Path) -> None:
    found = environment.google_variables(
        Home(tmp_path), LOGIN, url="http://127.0.0.1:1", logging="127.0.0.1:2"
    )
    path = found["GOOGLE_APPLICATION_CREDENTIALS"]
    credentials = service_account.Credentials.from_service_account_file(path)
    assert credentials.project_id == "pull-study-rehearsal"
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_run_s_record_says_what_is_not_the_real_thing() -> None:
    found = environment.rehearsal_variable(Options(0.01), official={"kubernetes"})
    record = Rehearsal.model_validate(json.loads(found[REHEARSAL_VARIABLE]))
    assert (record.nodes, record.scale) == ("real", 0.01)
    assert "share one machine" in record.note
    assert "images of 0.01 x the bytes" in record.note
    assert record.note.endswith("fake Pulumi providers gcp")
    assert "a stand-in of their operator and of Flux" in record.note


def test_a_simulation_says_so_with_its_speed_and_what_was_lifted() -> None:
    options = Options(1, "simulated", 20, rate_limits=False, faults=("event:how=lost",))
    found = environment.rehearsal_variable(options, official=set())
    record = Rehearsal.model_validate(json.loads(found[REHEARSAL_VARIABLE]))
    assert (record.nodes, record.speed, record.faults) == ("simulated", 20, ("event:how=lost",))
    assert "nothing was pulled" in record.note
    assert "20 times faster than the clock" in record.note
    assert "without its rate limits" in record.note


def test_fakes_that_are_not_used_are_not_mentioned() -> None:
    found = environment.rehearsal_variable(Options(1), official={"gcp", "kubernetes"})
    assert "fake" not in found[REHEARSAL_VARIABLE]
    assert environment.debug_providers({}) == {}
    ports = {"kubernetes": 2, "gcp": 1}
    assert environment.debug_providers(ports) == {"PULUMI_DEBUG_PROVIDERS": "gcp:1,kubernetes:2"}


def test_loopback_bypasses_a_users_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "corp.example,localhost")
    found = environment.google_variables(
        Home(tmp_path), LOGIN, url="http://127.0.0.1:1", logging="x"
    )
    assert found["NO_PROXY"] == found["no_proxy"] == "corp.example,localhost,127.0.0.1"
