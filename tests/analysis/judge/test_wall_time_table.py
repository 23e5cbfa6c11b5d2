"""What trials took and cost, and what nodes counted meanwhile, in the tables."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analysis.judge.wall_time import run_wall_time
from analysis.tables import open_tables, write_tables
from schema.evidence_records import EvidenceRecord
from schema.run_records import Rehearsal
from tests.analysis.recorded import IMAGES, add_records, node_stats, write_run_folder, write_study

N = len(IMAGES)


def rows_of(source: Path, out: Path, table: str) -> list[dict[str, str]]:
    with open_tables([source]) as tables:
        write_tables(tables, out)
    with (out / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def number(row: dict[str, str], name: str) -> float:
    return float(row[name])


def test_a_foreign_cluster_costs_its_nodes_list_price_while_its_trials_run(tmp_path: Path) -> None:
    cells = rows_of(write_study(tmp_path / "m", (8,)), tmp_path / "out", "cells")
    trials = {row["trial"]: (number(row, "trial_s"), number(row, "trial_usd")) for row in cells}
    assert len(trials) == N
    for seconds, usd in trials.values():
        assert usd == pytest.approx(seconds / 3600 * 0.76 * 8, rel=1e-6)
    together = sum(usd for _, usd in trials.values())
    assert sum(number(row, "usd") for row in cells) == pytest.approx(together, rel=1e-6)


def test_summary_has_the_time_and_the_cost_of_each_image(tmp_path: Path) -> None:
    summary = rows_of(write_study(tmp_path / "m", (8,)), tmp_path / "out", "summary")
    with open_tables([tmp_path / "m"]) as tables:
        (time,) = tables.times.values()
    assert [number(row, "trial_s") for row in summary] == pytest.approx(
        [trial.total_s for trial in time.trials], abs=1e-5
    )
    assert sum(number(row, "usd") for row in summary) == pytest.approx(time.usd, rel=1e-5)


def test_a_cluster_without_a_price_has_no_cost(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "m", (4,)) / "run1" / "4"
    next(folder.glob("nodes-*.json")).unlink()
    cells = rows_of(tmp_path / "m", tmp_path / "out", "cells")
    assert {row["usd"] for row in cells} == {""}
    assert all(number(row, "trial_s") > 0 for row in cells)


def test_a_run_of_this_project_costs_what_its_stack_says(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r")
    record = json.loads((run / "run.json").read_text())
    record["outputs"]["usd_per_hour"] = 36.0
    (run / "run.json").write_text(json.dumps(record))
    cells = rows_of(run, tmp_path / "out", "cells")
    for row in cells:
        assert number(row, "trial_usd") == pytest.approx(number(row, "trial_s") / 100, rel=1e-6)
        assert number(row, "usd") == pytest.approx(number(row, "trial_usd") / 4, rel=1e-6)


def test_the_times_of_a_run_are_those_that_its_records_give(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r")
    with open_tables([run]) as tables:
        folder = tables.recordings[0].folder
        assert folder is not None
        given = run_wall_time(folder.record, folder.phases, folder.trials, folder.every_cell)
        assert tables.times == {0: given}
    assert given.parts["provision"] == pytest.approx(240)
    assert given.explained > 0.99


def test_a_node_whose_clock_is_off_has_no_phase_between_two_clocks_and_spoils_no_trial(
    tmp_path: Path,
) -> None:
    right, off = write_run_folder(tmp_path / "right"), write_run_folder(tmp_path / "off")
    lines = [json.loads(line) for line in (off / "ledger.jsonl").read_text().splitlines()]
    node = lines[0]["node"]
    for line in lines:
        for name in ("pulling_at", "pulled_at", "created_at", "started_at", "finished_at"):
            if line["node"] == node and line["phases"][name]:
                ahead = datetime.fromisoformat(line["phases"][name]) + timedelta(minutes=3)
                line["phases"][name] = ahead.isoformat()
    (off / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    add_records(off, "evidence.jsonl", [EvidenceRecord(
        attempt=1, at=datetime.now(UTC), complete=True, waited_s=0, sources={}, seen_by_several=0,
        seen_by_one=0, seen_by_none=0, clock_offsets_s={node: -180.0},
    )])  # fmt: skip

    before = rows_of(right, tmp_path / "1", "cells")
    after = rows_of(off, tmp_path / "2", "cells")

    mixed = ("waiting_s", "completing_s", "started_to_complete_s")
    of_one_clock = ("trial_s", "trial_usd", "scheduling_s", "pulling_s", "starting_s", "running_s")
    for one, its in zip(after, before, strict=True):
        assert [one[name] for name in of_one_clock] == [its[name] for name in of_one_clock]
        assert [one[name] for name in mixed] == (
            ["", "", ""] if one["node"] == node else [its[name] for name in mixed]
        )


def test_what_nodes_counted_stands_beside_their_cells(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r")
    node_stats(run, received=3_400_000, written=2_000_000_000)
    cells = rows_of(run, tmp_path / "out", "cells")
    names = ("received_bytes", "written_bytes", "disk_bytes")
    counted = {tuple(row[name] for name in names) for row in cells}
    assert counted == {("3400000", "2000000000", "1000000000")}


def test_seconds_on_a_node_that_runs_faster_stand_for_more(tmp_path: Path) -> None:
    plain, fast = (
        rows_of(
            write_run_folder(
                tmp_path / str(speed),
                rehearsal=Rehearsal(nodes="simulated", scale=1, speed=speed),
            ),
            tmp_path / f"out-{speed}",
            "cells",
        )[0]
        for speed in (1, 20)
    )
    for name in ("pulling_s", "creating_s", "starting_s"):
        assert number(fast, name) == pytest.approx(20 * number(plain, name)), name
    for name in ("pull_s", "scheduling_s", "waiting_s"):
        assert number(fast, name) == pytest.approx(number(plain, name)), name
    assert number(fast, "trial_s") > number(plain, "trial_s")


@pytest.mark.parametrize(
    ("speed", "running_s", "settling_s"),
    # On the fast node the runner heard of the end 1 s after the start, of the quickest node's
    # 0.1 s after the second in which it lies.
    [(1.0, 1.0, 0.0), (20.0, 18.0, 17.0)],
)
def test_a_container_ends_within_the_kubelets_second_and_after_its_start(
    tmp_path: Path, speed: float, running_s: float, settling_s: float
) -> None:
    simulated = Rehearsal(nodes="simulated", scale=1, speed=speed)
    run = write_run_folder(tmp_path / "r", rehearsal=simulated)
    ledger = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    first, *others = (cell for cell in ledger if cell["trial"] == 1)
    started = datetime.fromisoformat(first["phases"]["started_at"])
    second = (started + timedelta(seconds=1)).replace(microsecond=0)
    seen = {cell["node"]: second + timedelta(seconds=0.1) for cell in others}
    seen[first["node"]] = started + timedelta(seconds=1)
    for cell in ledger:
        cell["phases"]["finished_at"] = second.isoformat()
    trials = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    trials = [trial for trial in trials if trial["trial"] == 1]
    for pod in trials[0]["pods"]:
        pod |= {"finished_at": second.isoformat(), "over_seen": seen[pod["node"]].isoformat()}
    for name, records in (("ledger", ledger), ("trials", trials)):
        lines = (json.dumps(record) + "\n" for record in records)
        (run / f"{name}.jsonl").write_text("".join(lines))

    cells = rows_of(run, tmp_path / "out", "cells")

    row = next(row for row in cells if (row["trial"], row["node"]) == ("1", first["node"]))
    assert number(row, "running_s") == pytest.approx(running_s, abs=1e-4)
    assert number(row, "settling_s") == pytest.approx(settling_s, abs=1e-4)


def test_the_whole_of_the_original_study_is_explained(chonks: Path) -> None:
    with open_tables([chonks / "pulling"]) as tables:
        assert [time.explained for time in tables.times.values()] == pytest.approx([1, 1, 1])
        assert [round(time.total_s) for time in tables.times.values()] == [557, 548, 548]
    with open_tables([chonks / "pulling-test" / "run1"]) as tables:
        (time,) = tables.times.values()
        assert time.explained == pytest.approx(0.981, abs=0.002)  # of its events most were lost
