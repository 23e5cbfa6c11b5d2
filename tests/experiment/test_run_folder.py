import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiment.errors import PlanError
from experiment.run_folder import RunFolder
from schema.run_records import EventRecord, Phase, PhaseRecord, Source, Status
from tests.experiment.cells import cell, trial_record

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def phase(name: Phase) -> PhaseRecord:
    return PhaseRecord(phase=name, started_at=NOW, ended_at=NOW)


def test_appended_records_come_back_in_order(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    for name in Phase:
        folder.add(phase(name))
    assert [record.phase for record in RunFolder(folder.path).phases()] == list(Phase)


def test_other_users_read_nothing_of_a_run(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = RunFolder.create(tmp_path / "data" / "runs", "run-1")
        folder.add(phase(Phase.PREFLIGHT))
        folder.write_nodes([], 1)
        folder.log("a line")
        with folder.lock():
            pass
    finally:
        os.umask(before)
    files = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert files == dict.fromkeys([".lock", "nodes.json", "phases.jsonl", "run.log"], 0o600)
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_line_half_written_by_a_killed_runner_costs_that_line_alone(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    folder.add(phase(Phase.PREFLIGHT))
    with (folder.path / "phases.jsonl").open("a") as file:
        file.write('{"phase": "prov')
    folder.add(phase(Phase.PREPARE))
    assert [record.phase for record in folder.phases()] == [Phase.PREFLIGHT, Phase.PREPARE]
    assert "unreadable line" in (folder.path / "run.log").read_text()


def test_line_separators_within_a_message_do_not_split_its_record(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    event = {"message": "one\u2028two\u0085three"}
    record = EventRecord(source=Source.WATCH, received_at=NOW, event=event)
    folder.add(record)
    assert list(folder.events()) == [record]


def test_a_run_that_cannot_be_written_is_read_and_says_on_stderr_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.add(cell(1, "node-a"))
    with (tmp_path / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"run": \n')

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("experiment.run_folder._open", read_only)
    assert len(folder.cells()) == 1
    assert "unreadable line in ledger.jsonl ignored" in capsys.readouterr().err


@pytest.mark.timeout(30)
def test_records_that_are_a_pipe_or_a_device_are_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    os.mkfifo(tmp_path / "phases.jsonl")
    (tmp_path / "trials.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "nodes.json")
    assert (folder.phases(), folder.trials(), folder.node_names(1)) == ([], [], [])
    os.mkfifo(tmp_path / ".lock")
    assert not folder.is_idle()
    assert not RunFolder(Path("/a\0b")).is_idle()


def test_only_the_last_attempt_of_a_trial_counts(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    first = trial_record(1, 4)
    second = first.model_copy(update={"attempt": 2})
    folder.add(first, second)
    folder.add(cell(1), cell(1, attempt=2), cell(1, attempt=2, status=Status.CACHED, reason="x"))
    assert folder.last_trials() == [second]
    assert [(each.attempt, each.status) for each in folder.last_cells()] == [(2, Status.CACHED)]


LOCKING = """
import sys, time
from pathlib import Path
from experiment.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_run_is_locked_until_its_process_ends_even_by_kill_9(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    command = [sys.executable, "-c", LOCKING, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(PlanError, match=f"in use by process {other.pid}"), folder.lock():
            pass
        other.kill()
        other.wait()
    with folder.lock():
        pass


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "run-1")
    with pytest.raises(PlanError, match="run-1 already exists"):
        RunFolder.create(tmp_path, "run-1")


@pytest.mark.parametrize("run_id", ["Run", "a_b", "-a", "a" * 49, "", "a/b", ".."])
def test_ids_that_cannot_name_objects_are_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(PlanError, match="cannot name Kubernetes objects"):
        RunFolder.create(tmp_path, run_id)


@pytest.mark.parametrize("run", ["x", "x" * 5000, "x\0"])
def test_an_unknown_run_is_reported_in_a_sentence(tmp_path: Path, run: str) -> None:
    with pytest.raises(PlanError, match="There is no run 'x") as refused:
        RunFolder.open(tmp_path, run)
    assert len(str(refused.value)) < 500


def test_a_malformed_record_of_a_run_is_reported_in_a_sentence(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run-1")
    (folder.path / "run.json").write_text("{}")
    with pytest.raises(PlanError, match="is not a record of a run"):
        folder.read_run()
