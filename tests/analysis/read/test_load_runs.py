"""What is found in a folder, whichever level of it is named."""

import json
from pathlib import Path

import pytest

from analysis.ask.audit import audit
from analysis.frames import frames_of
from analysis.judge.audit_counts import audit_counts
from analysis.read.load_runs import NothingRecordedError, Recording, find_recordings
from analysis.read.provenance import describe_rehearsal, kind_of
from analysis.read.read_records import DamagedRunError
from analysis.tables import open_tables
from schema.run_records import Rehearsal, Status
from tests.analysis.recorded import write_run_folder, write_study


def keys(recordings: list[Recording]) -> list[tuple[str, str, int | None]]:
    return [(one.run, one.stack, one.nodes) for one in recordings]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "metadata")


def test_all_runs_of_a_study(metadata: Path) -> None:
    assert keys(find_recordings([metadata])) == [("run1", "4", 4), ("run1", "8", 8)]


def test_runs_come_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = ["study-size-8", "study-size-16", "study-size-128"]
    for name in names:
        write_run_folder(tmp_path, name)
    with open_tables([tmp_path]) as tables:
        assert [recording.run for recording in tables.recordings] == names
        assert [
            one.run for one in audit(tables, frames_of(tables), audit_counts(tables.database))
        ] == names


@pytest.mark.parametrize("level", ["run1", "run1/8", "run1/8/events-size-8-1731221311.json"])
def test_a_level_of_the_layout_gives_the_same_names(metadata: Path, level: str) -> None:
    found = find_recordings([metadata / level])
    assert found[-1].run == "run1"
    assert found[-1].stack == "8"
    assert [file.name for file in found[-1].files] == ["events-size-8-1731221311.json"]


def test_naming_a_folder_and_a_part_of_it_counts_it_once(metadata: Path) -> None:
    named = [metadata / "run1" / "8", metadata, metadata / "run1" / "8"]
    assert keys(find_recordings(named)) == [("run1", "4", 4), ("run1", "8", 8)]


def test_nodes_and_machine_type_come_from_the_node_list(metadata: Path) -> None:
    found = find_recordings([metadata / "run1" / "8"])[0]
    assert len(found.node_list) == 8
    assert found.machine_type == "n1-standard-16"


def test_a_folder_named_by_machine_type(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "n1-standard-64"
    folder.mkdir(parents=True)
    (folder / "events-size-4-1727746758.json").write_text("{}")
    found = find_recordings([tmp_path])[0]
    assert (found.run, found.stack, found.nodes) == ("test", "n1-standard-64", 4)
    assert found.machine_type == "n1-standard-64"


def test_two_folders_of_one_name_are_distinguished(tmp_path: Path) -> None:
    write_study(tmp_path / "pulling", (4,))
    write_study(tmp_path / "pulling-test", (8,))
    assert keys(find_recordings([tmp_path])) == [
        ("pulling-test/run1", "8", 8),
        ("pulling/run1", "4", 4),
    ]


def test_a_single_file_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "my-cluster.json"
    path.write_text("{}")
    found = find_recordings([path])[0]
    assert found.stack == ""
    assert found.files == (path,)


def test_objects_of_a_cloud_storage_sink_are_one_recording(tmp_path: Path) -> None:
    for hour in ("06", "07"):
        folder = tmp_path / "bucket" / "stdout" / "2024" / "11" / "10"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{hour}:00:00_{hour}:59:59_S0.json").write_text("{}")
    found = find_recordings([tmp_path / "bucket"])
    assert len(found) == 1
    assert len(found[0].files) == 2


def test_a_run_folder(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path, rehearsal=Rehearsal(nodes="simulated", scale=0.01))
    found = find_recordings([tmp_path])[0]
    assert (found.run, found.stack, found.nodes) == ("run1-size-4", "size-4", 4)
    assert found.root == run
    assert found.folder is not None
    assert len(found.folder.cells) == 12
    assert found.provenance == "simulated nodes, images at 0.01 of their size"
    assert found.scale == 0.01
    assert found.machine_type == "n1-standard-16"
    with open_tables([tmp_path]) as tables:
        for table in ("pulls", "cells", "summary"):
            assert tables.rows(f"SELECT DISTINCT zone FROM {table}") == [{"zone": "us-central1-a"}]


def test_only_a_trials_last_attempt_counts(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    ledger = run / "ledger.jsonl"
    again = [json.loads(line) for line in ledger.read_text().splitlines() if '"trial":2' in line]
    again = [cell | {"attempt": 2, "status": "failed", "reason": "x"} for cell in again[:3]]
    with ledger.open("a") as file:
        file.writelines(json.dumps(cell) + "\n" for cell in again)
    folder = find_recordings([run])[0].folder
    assert folder is not None
    second = [cell for cell in folder.cells if cell.trial == 2]
    assert [cell.status for cell in second] == [Status.FAILED] * 3
    assert len(folder.cells) == 4 + 3 + 4


@pytest.mark.parametrize("place", [0, 3, 12])
def test_a_damaged_record_is_reported_and_the_others_count(tmp_path: Path, place: int) -> None:
    """A killed runner leaves half a line, and its next attempt goes on below."""
    run = write_run_folder(tmp_path)
    ledger = run / "ledger.jsonl"
    rows = ledger.read_text().splitlines()
    ledger.write_text("\n".join([*rows[:place], '{"run":"run1-si', *rows[place:]]))
    folder = find_recordings([run])[0].folder
    assert folder is not None
    assert len(folder.cells) == 12
    ((file, line, what),) = folder.damage
    assert (file, line) == (str(ledger), place + 1)
    assert "not a CellRecord" in what


def test_a_broken_run_record_says_how_to_read_the_events(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    (run / "run.json").write_text('{"run_id": 3}')
    with pytest.raises(DamagedRunError, match="analysis tables"):
        find_recordings([run])


@pytest.mark.parametrize(
    "price", ["<img src=http://127.0.0.1:9/x onerror=alert(1)>", float("nan"), float("inf"), -1]
)
def test_a_price_that_is_no_number_is_refused_without_its_text(
    tmp_path: Path, price: object
) -> None:
    run = write_run_folder(tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["outputs"]["usd_per_hour"] = price
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(DamagedRunError, match=r"outputs\.usd_per_hour: Input should be") as raised:
        find_recordings([run])
    assert "<img" not in str(raised.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NothingRecordedError, match="does not exist"):
        find_recordings([tmp_path / "none"])


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(NothingRecordedError, match="has no file that may contain events"):
        find_recordings([tmp_path])


@pytest.mark.parametrize(
    ("rehearsal", "said"),
    [
        (None, "measured"),
        (Rehearsal(nodes="simulated", scale=1), "simulated nodes"),
        (
            Rehearsal(nodes="real", scale=0.5),
            "rehearsed on one machine, images at 0.5 of their size",
        ),
        (
            Rehearsal(nodes="simulated", scale=1, speed=20, faults=("a:x=1", "b", "a:x=2")),
            ("simulated nodes (20 times as fast as the clock; with injected faults: a, b)"),
        ),
        (
            Rehearsal(nodes="real", scale=1, faults=("a", "b", "c", "d", "e")),
            "rehearsed on one machine (with injected faults: a, b, c and 2 more)",
        ),
    ],
)
def test_provenance_in_words(rehearsal: Rehearsal | None, said: str) -> None:
    assert describe_rehearsal(rehearsal) == said


def test_speed_and_faults_do_not_make_another_kind() -> None:
    plain = Rehearsal(nodes="simulated", scale=0.01)
    fast = Rehearsal(nodes="simulated", scale=0.01, speed=20, faults=("node-lost",))
    assert describe_rehearsal(plain) != describe_rehearsal(fast)
    assert kind_of(describe_rehearsal(fast)) == describe_rehearsal(plain)
    assert kind_of("measured") == "measured"
