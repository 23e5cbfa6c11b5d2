"""`ledger`, `time` and `collect` as a user calls them, on folders made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiment.cli.app import app
from experiment.plan.request import runs_folder
from experiment.run_folder import RunFolder
from schema.errors import ExitCode, UserError
from schema.evidence_records import EvidenceRecord, SourceCount
from schema.run_records import CellPhases, GapRecord, Rehearsal, Source, Status
from tests.experiment.cells import at, cell, fill
from tests.experiment.fakes import OUTPUTS
from tests.schema.test_output import expect_the_same_rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return RunFolder.create(runs_folder(), "a-run")


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, UserError):
        return int(done.exception.exit_code), str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def grid(nodes: int) -> list[str]:
    return [f"node-{number + 1}" for number in range(nodes)]


def test_a_whole_run_is_a_full_grid(folder: RunFolder) -> None:
    fill(folder, [cell(trial, node) for trial in (1, 2) for node in grid(4)])
    code, output = call("ledger", "a-run")
    assert code == 0
    assert output == (
        "Run a-run: 2 trials x 4 nodes of size-4\n"
        "  1   9 x     48.7 MB              ████ 4/4\n"
        "  2   1 x    127.4 MB              ████ 4/4\n"
        "█ valid\n"
        "8 of 8 cells are valid\n"
    )


def test_excluded_cells_are_drawn_and_counted_with_their_failure(folder: RunFolder) -> None:
    missing = {"status": Status.FAILED, "reason": "the pod failed: ErrImagePull: manifest unknown"}
    cells = [cell(1, node) for node in grid(4)]
    cells += [cell(2, node, **missing) for node in grid(4)[:2]]
    cells += [cell(2, "node-3", status=Status.CACHED, reason="it was there"), cell(2, "node-4")]
    fill(folder, cells, rehearsal=Rehearsal(nodes="simulated", scale=1))
    code, output = call("ledger", "a-run")
    assert code == ExitCode.INCOMPLETE
    lines = output.splitlines()
    assert lines[0] == "Run a-run (a rehearsal: simulated nodes): 2 trials x 4 nodes of size-4"
    assert lines[2] == "  2   1 x    127.4 MB              ffc█ 1/4"
    assert lines[3] == "f failed, c cached, █ valid"
    assert lines[4] == "5 of 8 cells are valid"
    assert "│     2 │ failed │ image missing │ the pod failed: ErrImagePull" in output
    assert "│     1 │ cached │               │ it was there" in output


def test_one_failure_alone_is_the_exit_code(folder: RunFolder) -> None:
    lost = cell(2, "node-4", status=Status.NODE_LOST, reason="gone")
    fill(folder, [*(cell(1, node) for node in grid(4)), lost])
    assert call("ledger", "a-run")[0] == ExitCode.NODE_LOST


def test_256_nodes_are_compressed_and_the_worst_is_seen(folder: RunFolder) -> None:
    cells = [cell(trial, node) for trial in (1, 2) for node in grid(256)]
    cells[100] = cell(1, "node-101", status=Status.EVICTED, reason="evicted")
    fill(folder, cells, nodes=256)
    _, output = call("ledger", "a-run")
    lines = output.splitlines()
    assert max(len(line) for line in lines[:3]) <= 120
    assert lines[1].endswith("█ 255/256")
    assert lines[1].count("e") == 1
    assert "a column is 4 nodes and shows the worst" in output
    assert "511 of 512 cells are valid" in output


def test_the_last_judgement_of_a_cell_counts(folder: RunFolder) -> None:
    fill(
        folder, [cell(1, "node-1", status=Status.MISSING_EVENTS, reason="late"), cell(2, "node-1")]
    )
    folder.add(cell(1, "node-1"))
    code, output = call("ledger", "a-run")
    assert (code, "2 of 2 cells are valid" in output) == (0, True)


def test_trials_whose_turn_never_came_are_shown(folder: RunFolder) -> None:
    fill(folder, [cell(1, node) for node in grid(4)])
    _, output = call("ledger", "a-run")
    assert "  2   1 x    127.4 MB              ···· 0/4" in output
    assert "· not started, █ valid" in output
    assert "4 of 8 cells are valid" in output


def test_lost_events_of_each_source_and_every_gap_are_shown(folder: RunFolder) -> None:
    fill(folder, [cell(1, "node-1"), cell(2, "node-1")])
    counts = {
        Source.WATCH: SourceCount(seen=120, lost=0, repeated=0, gaps=1),
        Source.EXPORTER: SourceCount(seen=3, lost=117, repeated=1, gaps=0),
    }
    folder.add(
        EvidenceRecord(
            attempt=1,
            at=at(150),
            complete=False,
            waited_s=60,
            sources=counts,
            seen_by_several=3,
            seen_by_one=117,
            seen_by_none=0,
            clock_offsets_s={"node-1": 180.0, "node-2": 0.01},
        )
    )
    gap = GapRecord(source=Source.WATCH, since=at(110), until=at(112.5), reason="410 Gone")
    folder.add(gap)
    _, output = call("ledger", "a-run")
    assert (
        "Events: watch saw 120 and lost 0; exporter saw 3 and lost 117, 1 of them twice; 3 seen by "
        "several sources, 117 by one, 0 by none; Cloud Logging was not complete in time.\n"
        "The clock of node-1 is 180 s behind.\n"
        "Gap of 2.5 s in the source watch at 12:01:50: 410 Gone.\n"
    ) in output
    assert "node-2" not in output


@pytest.mark.parametrize(
    ("log_filter", "note"), [("f", "GKE's own event log"), ("", "the only source of events")]
)
def test_a_run_without_an_exporter_says_what_it_relied_on_and_what_was_warned_of(
    folder: RunFolder, log_filter: str, note: str
) -> None:
    outputs = OUTPUTS.model_copy(update={"log_filter": log_filter})
    fill(folder, [cell(1, "node-1")], outputs=outputs, warnings=("Different CPU platforms.",))
    _, output = call("ledger", "a-run")
    assert note in output
    assert "Warning: Different CPU platforms." in output


def test_the_ledger_as_rows(folder: RunFolder) -> None:
    lost = cell(2, "node-1", status=Status.NODE_LOST, reason="gone")
    fill(folder, [cell(1, "node-1"), lost])
    code, output = call("ledger", "a-run", "--output", "json")
    told = json.loads(output)
    assert code == ExitCode.NODE_LOST
    cells = [row for row in told if row["table"] == "cells"]
    assert [row["status"] for row in cells] == ["valid", "node-lost"]
    assert (cells[1]["trial"], cells[1]["node"]) == (2, "node-1")
    assert (cells[1]["failure"], cells[1]["reason"]) == ("node lost", "gone")


@pytest.mark.parametrize("command", ["ledger", "time"])
def test_a_run_is_the_same_rows_in_four_forms(folder: RunFolder, command: str) -> None:
    fill(folder, [cell(1, "node-1"), cell(2, "node-1")], warnings=("a", "b"))
    expect_the_same_rows(app, command, "a-run")


def test_time_adds_up(folder: RunFolder) -> None:
    fill(folder, [cell(trial, node) for trial in (1, 2) for node in grid(4)])
    code, output = call("time", "a-run")
    assert code == 0
    assert "provision           98.0  51.6%" in output
    whole, *trials = json.loads(call("time", "a-run", "--output", "json")[1])
    assert (whole["table"], whole["clock_s"]) == ("run", 190)
    parts = [name for name in trials[0] if name not in {"begin_s", "total_s"} and name[-2:] == "_s"]
    assert sum(whole[part] for part in parts) == pytest.approx(190)


def test_time_knows_which_clocks_are_off(folder: RunFolder) -> None:
    steps = {"pulling": 110.5, "pulled": 112, "started": 112.5, "finished": 114}
    behind = {f"{name}_at": at(seconds - 60) for name, seconds in steps.items()}
    fill(folder, [cell(1, phases=CellPhases(scheduled_at=at(110.1), **behind))])
    folder.add(
        EvidenceRecord(
            attempt=1, at=at(150), complete=True, waited_s=0, sources={}, seen_by_several=0,
            seen_by_one=0, seen_by_none=0, clock_offsets_s={"node-1": 60.0},
        )
    )  # fmt: skip
    _, first, *_ = json.loads(call("time", "a-run", "--output", "json")[1])
    assert first["start_s"] == pytest.approx(0.4 + 0.5)
    assert first["pull_s"] == pytest.approx(1.5)
    assert first["unexplained_s"] == 0


@pytest.mark.parametrize("command", ["ledger", "time", "collect", "run --resume"])
def test_a_run_that_does_not_exist_is_refused(folder: RunFolder, command: str) -> None:
    code, output = call(*command.split(), "gone")
    assert code == ExitCode.USAGE
    assert output == ("There is no run 'gone' in data/runs.\n  Fix: ls data/runs lists the runs")


@pytest.mark.parametrize("command", ["ledger", "time"])
def test_the_fix_of_a_run_without_records_is_to_resume_it(folder: RunFolder, command: str) -> None:
    fill(folder, [])
    (folder.path / "phases.jsonl").unlink()
    code, output = call(command, "a-run")
    assert code == ExitCode.USAGE
    assert "pull-study run --resume a-run" in output
