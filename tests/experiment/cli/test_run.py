from __future__ import annotations

import io
from pathlib import Path

import pytest

from experiment.cli import run as command
from experiment.errors import Interrupted
from experiment.plan.open_run import begin, reopen
from experiment.plan.request import NewRuns, RunOptions
from experiment.provision.stack_cluster import StackCluster
from experiment.run_folder import RunFolder
from experiment.terminal.progress import Progress
from experiment.terminal.views import PipeSafeConsole, PlainView
from tests.experiment.cells import cell, run_record, trial_record

pytestmark = pytest.mark.usefixtures("two_planned_trials")


def test_the_question_names_the_sum_what_it_covers_and_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = io.StringIO()
    view = PlainView(PipeSafeConsole(file=text, width=500))
    new = NewRuns(("size-4",), Path("s.yaml"), run_id="a")
    begin(new, run_record().study, view)
    run = reopen("a")

    def refuse(_question: str, otherwise: str) -> None:
        raise Interrupted(otherwise)

    monkeypatch.setattr(command, "confirm", refuse)
    with pytest.raises(Interrupted):
        command.carry_out(run, RunOptions(), view)
    shown = text.getvalue()
    assert "Expected: about 0.2 hours and 0.6" in shown
    assert "List prices of nodes, disks, public addresses and GKE's fee. Not included: " in shown
    assert "Whatever happens, Google deletes the cluster after 2 hours." in shown
    assert isinstance(run.cluster, StackCluster)
    assert run.cluster.least_hours == 2


def test_the_result_of_a_run_that_was_interrupted_counts_the_cells_to_come(tmp_path: Path) -> None:
    text = io.StringIO()
    folder = RunFolder(tmp_path)
    folder.write_run(run_record())
    folder.add(trial_record(1, 4), *(cell(1, f"node-{number}") for number in (1, 2, 3, 4)))
    view = PlainView(PipeSafeConsole(file=text, width=500))
    command._show_result(folder, Progress(view, folder.log))
    assert "4 of 8 cells are valid" in text.getvalue()
