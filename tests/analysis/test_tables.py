"""The tables: their columns, their numbers, and that only what was recorded decides them."""

import csv
import gzip
import json
import random
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.csv_files import OutputError
from analysis.read.read_records import DamagedRunError
from analysis.tables import TooMuchError, open_tables, write_tables
from schema.run_records import Rehearsal, Status
from tests.analysis.recorded import (
    IMAGES,
    START,
    Pod,
    event,
    lines,
    node_event,
    pull_seconds,
    pulled_message,
    study_events,
    uid,
    write_run_folder,
    write_study,
)


def rows(query: str) -> list[tuple[object, ...]]:
    return duckdb.connect().execute(query).fetchall()


def tables_of(inputs: list[Path], out: Path, images: str | None = None) -> Path:
    with open_tables(inputs, images) as tables:
        write_tables(tables, out)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    return tables_of([write_study(root / "metadata")], root / "out")


PULLS = (
    "run file nodes image tag layers image_bytes node pod pull_s pull_and_wait_s "
    "started_at status reason"
)
CELLS = (
    "run trial repetition nodes image node status reason scheduling_s waiting_s "
    "pulling_s creating_s starting_s running_s settling_s"
)
SUMMARY = (
    "run nodes image n nodes_pulled pull_s_min pull_s_median pull_s_mean pull_s_p95 "
    "pull_s_max pull_and_wait_s_median valid_n valid_pull_s_median "
    "valid_pull_and_wait_s_max"
)


@pytest.mark.parametrize(
    ("table", "names"), [("pulls", PULLS), ("cells", CELLS), ("summary", SUMMARY)]
)
def test_columns_that_others_rely_on(written: Path, table: str, names: str) -> None:
    rows = rows_of(written / f"{table}.csv")
    assert set(names.split()) <= rows[0].keys()
    assert {row["provenance"] for row in rows} == {"measured"}


def test_a_row_a_pull_and_a_row_a_cell(written: Path) -> None:
    pulls, cells = rows_of(written / "pulls.csv"), rows_of(written / "cells.csv")
    assert len(pulls) == len(cells) == (4 + 8) * 3
    assert {row["status"] for row in pulls + cells} == {"valid"}
    first = next(row for row in pulls if row["nodes"] == "8" and row["image"] == IMAGES[0])
    assert first["tag"] == "9-layers-size-1176249324-bytes"
    assert (first["layers"], first["image_bytes"]) == ("9", "3369495")
    assert first["started_at"] == "2024-11-10T06:48:00.400000Z"
    assert first["file"] == "events-size-8-1731221311.json"


def test_summary_is_numpys(written: Path) -> None:
    for row in rows_of(written / "summary.csv"):
        nodes = int(row["nodes"])
        values = np.array([pull_seconds(row["image"], i, nodes) for i in range(nodes)])
        expected = {
            "min": values.min(),
            "median": np.median(values),
            "mean": values.mean(),
            "p95": np.percentile(values, 95),
            "max": values.max(),
        }
        for name, value in expected.items():
            for prefix in ("pull_s_", "pull_and_wait_s_", "valid_pull_s_"):
                assert float(row[prefix + name]) == pytest.approx(value, abs=1e-9)
        assert (row["n"], row["nodes_pulled"], row["excluded"]) == (row["nodes"],) * 2 + ("0",)


def test_parquet_holds_what_csv_holds(written: Path) -> None:
    for name in ("pulls", "cells", "summary"):
        count = rows(f"SELECT count(*) FROM '{written / name}.parquet'")
        assert count == [(len(rows_of(written / f"{name}.csv")),)]
    kinds = rows(f"DESCRIBE FROM '{written / 'cells.parquet'}'")
    assert {kind[0]: kind[1] for kind in kinds}["pulling_at"] == "TIMESTAMP"


def test_events_are_all_there_once(written: Path) -> None:
    found = rows(f"SELECT count(*), count(DISTINCT uid) FROM '{written / 'events.parquet'}'")
    expected = len(study_events(4)) + len(study_events(8))
    assert found == [(expected, expected)]


def test_raw_times_have_the_original_form(written: Path) -> None:
    raw = json.loads((written / "raw-times.json").read_text())
    pods = {name: item for name, item in raw.items() if "container" in item}
    assert len(pods) == 36
    name, item = next(iter(pods.items()))
    assert name.startswith("container-pull-")
    assert item.keys() == {"events", "experiment", "size", "container"}
    assert item["experiment"] == "run1"
    assert {item["size"] for item in pods.values()} == {4, 8}
    assert item["events"].keys() == {"scheduled", "pulling", "pulled", "created", "started"}
    assert item["events"]["pulled"]["message"].startswith("Successfully pulled image")
    assert item["events"]["pulling"]["timestamp"].endswith("Z")


def test_a_saved_events_parquet_gives_the_same_tables(written: Path, tmp_path: Path) -> None:
    again = tables_of([written / "events.parquet"], tmp_path / "again")
    for name in ("pulls.csv", "cells.csv", "summary.csv"):
        assert (again / name).read_bytes() == (written / name).read_bytes()


def test_a_parquet_of_others_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").write_text("no parquet")
    with pytest.raises(DamagedRunError, match=r"events\.parquet cannot be read"):
        tables_of([tmp_path / "events.parquet"], tmp_path / "out")


def test_too_little_memory_is_a_sentence(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate 16 MiB")

    monkeypatch.setattr("analysis.tables.derive_cells", full)
    with pytest.raises(
        TooMuchError, match=r"need more memory or more space.*failed to allocate 16 MiB"
    ):
        tables_of([written / "events.parquet"], tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_an_error(written: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        tables_of([written / "events.parquet"], tmp_path / "out")


BLIND = ("file",)
"""A split file has another name: the one column that must change."""


def without(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in BLIND} for row in rows]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 5), twice=st.floats(0, 1))
def test_shuffling_duplicating_and_splitting_files_changes_no_table(
    written: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, parts: int, twice: float
) -> None:
    rng = random.Random(seed)
    root = tmp_path_factory.mktemp("torn")
    for nodes in (4, 8):
        folder = root / "metadata" / "run1" / str(nodes)
        folder.mkdir(parents=True)
        events = study_events(nodes)
        events += [item for item in events if rng.random() < twice]
        rng.shuffle(events)
        shares: list[list[object]] = [[] for _ in range(parts)]
        for item in events:
            rng.choice(shares).append(item)
        for number, share in enumerate(shares):
            (folder / f"events-{number}.json").write_text(lines(share))  # type: ignore[arg-type]
        source = Path(written.parent / "metadata" / "run1" / str(nodes))
        node_list = next(source.glob("nodes-*"))
        (folder / node_list.name).write_bytes(node_list.read_bytes())
    torn = tables_of([root / "metadata"], root / "out")
    for name in ("pulls.csv", "cells.csv", "summary.csv", "other_pulls.csv"):
        assert without(rows_of(torn / name)) == without(rows_of(written / name))
    assert (torn / "raw-times.json").read_bytes() == (written / "raw-times.json").read_bytes()
    query = "SELECT * EXCLUDE (file) FROM '{}/events.parquet'"
    assert rows(query.format(torn)) == rows(query.format(written))


@pytest.mark.parametrize("folder", ["run1/16", "test/n1-standard-64"])
def test_real_recordings_torn_and_shuffled_change_no_table(
    chonks: Path, tmp_path: Path, folder: str
) -> None:
    """Of these, one lost most of its events and one has no list of nodes."""
    source = chonks / "pulling-test" / folder
    whole = tables_of([source], tmp_path / "whole")
    rng = random.Random(7)
    torn = tmp_path / "torn" / "pulling-test" / folder
    torn.mkdir(parents=True)
    for node_list in source.glob("nodes-*"):
        (torn / node_list.name).write_bytes(node_list.read_bytes())
    (recorded,) = source.glob("events-*")
    rows = gzip.decompress(recorded.read_bytes()).splitlines()
    rows += [row for row in rows if rng.random() < 0.3]
    rng.shuffle(rows)
    for part in range(4):
        (torn / f"events-{part}.json").write_bytes(b"\n".join(rows[part::4]) + b"\n")
    again = tables_of([torn], tmp_path / "again")
    for name in ("pulls.csv", "cells.csv", "summary.csv", "other_pulls.csv"):
        assert without(rows_of(again / name)) == without(rows_of(whole / name))
    assert (again / "raw-times.json").read_bytes() == (whole / "raw-times.json").read_bytes()


@pytest.mark.parametrize("folder", ["pulling/run1/16", "pulling-test/test/n1-standard-64"])
def test_millions_of_events_derived_in_parts_give_the_same_tables(
    chonks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    whole = tables_of([chonks / folder], tmp_path / "whole")
    monkeypatch.setattr("analysis.read.bulk.EVENTS_A_PART", 100)
    parts = tables_of([chonks / folder], tmp_path / "parts")
    for name in ("pulls.csv", "cells.csv", "summary.csv", "other_pulls.csv", "raw-times.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    query = "SELECT * FROM '{}/events.parquet'"
    assert rows(query.format(parts)) == rows(query.format(whole))


def test_a_mean_half_way_between_two_nanoseconds_is_rounded_the_same_in_any_order(
    tmp_path: Path,
) -> None:
    rng = random.Random(3)
    durations = [rng.randrange(1500, 1900) for _ in range(256)]
    durations[0] += (2 - sum(durations)) % 4  # so that a 256th of their sum ends on half
    pulls = [
        event(
            Pod(f"a-{index}-aaaaa", f"node-{index}", job_uid=uid(1)),
            "Pulled",
            pulled_message(IMAGES[0], f"{milliseconds}ms"),
            START,
        )
        for index, milliseconds in enumerate(durations)
    ]
    means = set()
    for turn in range(3):
        rng.shuffle(pulls)
        path = tmp_path / str(turn) / "events.json"
        path.parent.mkdir()
        path.write_text(lines(pulls))
        (row,) = rows_of(tables_of([path], tmp_path / f"out-{turn}") / "summary.csv")
        means.add(row["pull_s_mean"])
    assert len(means) == 1


def test_of_an_updated_event_the_last_version_stands(tmp_path: Path) -> None:
    ready = node_event("node-a", "NodeHasSufficientMemory", START)
    more = ready | {"count": 8, "lastTimestamp": "2024-11-10T06:50:00Z"}
    path = tmp_path / "events.json"
    path.write_text(lines([more, ready, ready]))
    out = tables_of([path], tmp_path / "out")
    assert rows(f"SELECT count, last_at::VARCHAR FROM '{out}/events.parquet'") == [
        (8, "2024-11-10 06:50:00")
    ]


def test_sources_that_saw_an_event_are_joined(tmp_path: Path) -> None:
    out = tables_of([write_run_folder(tmp_path)], tmp_path / "out")
    found = rows(f"SELECT DISTINCT source FROM '{out}/events.parquet'")
    assert found == [("exporter+watch",)]


def test_events_of_cloud_logging_are_separated_by_cluster(tmp_path: Path) -> None:
    entries = [
        {
            "jsonPayload": item,
            "logName": "projects/p/logs/stdout",
            "resource": {"labels": {"cluster_name": f"size-{nodes}"}},
        }
        for nodes in (4, 8)
        for item in study_events(nodes)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(entries))
    out = tables_of([path], tmp_path / "out")
    found = {(row["stack"], row["nodes"]) for row in rows_of(out / "summary.csv")}
    assert found == {("size-4", "4"), ("size-8", "8")}


def test_other_images_are_kept_apart(tmp_path: Path) -> None:
    pod = Pod("kube-proxy-x", "gke-test-cluster-4-0000")
    other = event(pod, "Pulled", pulled_message("gke.gcr.io/proxy:v1", "850µs"), START)
    root = write_study(tmp_path / "metadata", (4,))
    (root / "run1" / "4" / "events-b.json").write_text(lines([other]))
    out = tables_of([root], tmp_path / "out")
    assert "gke.gcr.io/proxy:v1" not in (out / "pulls.csv").read_text()
    (row,) = rows_of(out / "other_pulls.csv")
    assert (row["image"], row["pull_s"]) == ("gke.gcr.io/proxy:v1", "0.00085")


def test_the_images_to_study_can_be_named(tmp_path: Path) -> None:
    out = tables_of([write_study(tmp_path / "m", (4,))], tmp_path / "out", images="19034736629")
    assert {row["image"] for row in rows_of(out / "pulls.csv")} == {IMAGES[2]}


def test_without_tags_and_jobs_all_images_are_studied(tmp_path: Path) -> None:
    pod = Pod("web-1", "node-a", job="", job_uid="")
    path = tmp_path / "events.json"
    path.write_text(lines([event(pod, "Pulled", pulled_message("nginx:1", "2s"), START)]))
    out = tables_of([path], tmp_path / "out")
    (row,) = rows_of(out / "pulls.csv")
    assert (row["image"], row["tag"], row["layers"]) == ("nginx:1", "1", "")


def test_cached_and_failed_pulls_are_rows_without_durations(tmp_path: Path) -> None:
    cached = event(
        Pod("a-0-aaaaa", "node-a", job_uid=uid(1)),
        "Pulled",
        f'Container image "{IMAGES[0]}" already present on machine',
        START,
    )
    failed = event(
        Pod("a-1-bbbbb", "node-b", job_uid=uid(1)),
        "Failed",
        f'Failed to pull image "{IMAGES[0]}": denied',
        START,
    )
    path = tmp_path / "events.json"
    path.write_text(lines([cached, failed]))
    rows = rows_of(tables_of([path], tmp_path / "out") / "pulls.csv")
    assert {(row["status"], row["pull_s"]) for row in rows} == {("cached", ""), ("failed", "")}
    assert any("denied" in row["reason"] for row in rows)


def test_a_run_of_this_project_is_judged_by_its_ledger(tmp_path: Path) -> None:
    rehearsal = Rehearsal(nodes="simulated", scale=0.01)
    run = write_run_folder(tmp_path, rehearsal=rehearsal, spoilt=Status.NODE_LOST)
    out = tables_of([run], tmp_path / "out")
    cells = rows_of(out / "cells.csv")
    assert [row["status"] for row in cells].count("node-lost") == 3
    assert {row["provenance"] for row in cells} == {"simulated nodes, images at 0.01 of their size"}
    valid = next(row for row in cells if row["status"] == "valid")
    assert float(valid["scheduling_s"]) == 1.0
    assert float(valid["completing_s"]) > 100
    assert {row["run"] for row in rows_of(out / "pulls.csv")} == {"run1-size-4"}
    assert {row["status"] for row in rows_of(out / "pulls.csv")} == {"valid"}


def test_a_run_without_a_ledger_is_judged_by_its_events(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    (run / "ledger.jsonl").unlink()
    cells = rows_of(tables_of([run], tmp_path / "out") / "cells.csv")
    assert len(cells) == 12
    assert {row["status"] for row in cells} == {"valid"}


def test_lines_that_are_no_events_are_listed(tmp_path: Path) -> None:
    root = write_study(tmp_path / "m", (4,))
    file = root / "run1" / "4" / "events-size-4-1731221311.json"
    file.write_text("what is this\n" + file.read_text())
    (row,) = rows_of(tables_of([root], tmp_path / "out") / "notes.csv")
    assert (row["line"], row["kind"], row["detail"]) == ("1", "unreadable", "what is this")
    assert row["file"] == str(file)


MEDIANS = {
    1176249324: 7.0655,
    2770722493: 15.296,
    6836726027: 38.2705,
    10902729561: 66.688,
    14968733095: 94.592,
    19034736629: 121.358,
}


def test_a_csv_has_no_formula_and_no_control_character(tmp_path: Path) -> None:
    pod = Pod("=cmd|' /C calc'!A0", "@node\x1b[2J", job="", job_uid="")
    path = tmp_path / "events.json"
    path.write_text(
        lines([event(pod, "Pulled", pulled_message("+evil/a\u202eb:1", "2s"), START)])
        + "=not JSON\x1b]0;x\x07\n"
    )
    with open_tables([path]) as tables:
        write_tables(tables, tmp_path / "out")
    (row,) = csv.DictReader((tmp_path / "out" / "pulls.csv").open(encoding="utf-8"))
    assert row["pod"] == "'=cmd|' /C calc'!A0"
    assert row["node"] == "'@node\ufffd[2J"
    assert row["image"] == "'+evil/a\ufffdb:1"
    exact = rows(f"SELECT pod FROM '{tmp_path}/out/pulls.parquet'")
    assert exact == [("=cmd|' /C calc'!A0",)]
    everything = "".join(p.read_text() for p in (tmp_path / "out").glob("*.csv"))
    assert not {"\x1b", "\x07", "\u202e"} & set(everything)


def test_medians_of_the_original_study(chonks: Path, tmp_path: Path) -> None:
    out = tables_of([chonks / "pulling"], tmp_path / "out")
    rows = {(row["nodes"], int(row["size_bytes"])): row for row in rows_of(out / "summary.csv")}
    for size, median in MEDIANS.items():
        assert float(rows["16", size]["pull_s_median"]) == pytest.approx(median, abs=1e-9)
        assert rows["16", size]["n"] == "16"
    assert float(rows["4", 19034736629]["pull_s_median"]) == pytest.approx(138.8775, abs=1e-9)


def test_cells_of_the_original_study(chonks: Path, tmp_path: Path) -> None:
    cells = rows_of(tables_of([chonks / "pulling"], tmp_path / "out") / "cells.csv")
    assert len(cells) == (4 + 8 + 16) * 6
    real = sum(row["status"] == "valid" for row in cells)
    assert real / len(cells) == pytest.approx(0.457, abs=0.005)


def test_any_level_of_the_original_study_gives_the_same_numbers(
    chonks: Path, tmp_path: Path
) -> None:
    whole = rows_of(tables_of([chonks / "pulling"], tmp_path / "a") / "summary.csv")
    (file,) = (chonks / "pulling" / "run1" / "16").glob("events-*")
    part = rows_of(tables_of([file], tmp_path / "b") / "summary.csv")
    assert part == [row for row in whole if row["nodes"] == "16"]
