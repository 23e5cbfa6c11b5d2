from __future__ import annotations

import io
from pathlib import Path

import pytest

from experiment.plan.open_run import begin, reopen
from experiment.plan.request import NewRuns
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import set_deadline
from experiment.provision.stack_settings import stack_facts
from experiment.terminal.views import PipeSafeConsole, PlainView
from tests.experiment.cells import planned, run_record


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.delenv("PULL_STUDY_REHEARSAL", raising=False)
    trials = (planned(1), planned(2))
    monkeypatch.setattr("experiment.plan.open_run.resolve_trials", lambda _study, _seed: trials)


def begun() -> str:
    new = NewRuns(("size-4",), Path("s.yaml"), run_id="a")
    (run,) = begin(new, run_record().study, PlainView(PipeSafeConsole(file=io.StringIO())))
    return run.record.run_id


def test_a_run_writes_its_own_deadline_into_its_copy_of_the_stack_file() -> None:
    run = reopen(begun())
    assert run.record.deadline_hours == 2
    assert isinstance(run.cluster, StackCluster)
    assert run.cluster.facts.needs.deadline_hours == 2


def test_a_deadline_of_an_earlier_attempt_that_has_passed_does_not_stop_a_resume() -> None:
    run_id = begun()
    folder = reopen(run_id).folder.pulumi_dir
    set_deadline("size-4", folder, "2020-01-01T00:00Z")
    reopen(run_id)
    assert stack_facts("size-4", folder).deadline == "after 2 hours"
