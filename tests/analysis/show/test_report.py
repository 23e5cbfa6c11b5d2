"""The page that a run ends with."""

import html
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frames import frames_of
from analysis.judge.audit_counts import audit_counts
from analysis.show.drawing import Drawn
from analysis.show.page import _inline, _pack, render
from analysis.show.report import make_page
from analysis.show.write_report import write_report
from analysis.tables import open_tables
from schema.errors import UserError
from schema.evidence_records import EvidenceRecord, SourceCount
from schema.inert import visible
from schema.run_records import (
    GapRecord,
    Rehearsal,
    Source,
    Status,
)
from tests.analysis.recorded import (
    IMAGES,
    START,
    Pod,
    add_records,
    event,
    lines,
    node_event,
    node_stats,
    pulled_message,
    study_events,
    write_run_folder,
    write_study,
)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rehearsed")
    rehearsal = Rehearsal(nodes="simulated", scale=0.01)
    run = write_run_folder(root / "runs", rehearsal=rehearsal, spoilt=Status.FAILED)
    return write_report([run], root / "out")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    return write_report([write_study(root / "metadata", (4, 8, 16))], root / "out")


def page_of(*inputs: Path) -> str:
    """The page alone: the tables in its folder are not written."""
    with open_tables(list(inputs)) as tables:
        return render(make_page(tables, frames_of(tables), audit_counts(tables.database)), Drawn())


def test_page_is_small_and_requests_no_address(rehearsed: Path) -> None:
    html = rehearsed.read_text()
    assert len(html.encode()) < 5_000_000
    addresses = set(re.findall(r"https?://[^\s\"'<>\\)]+", html))
    assert {a for a in addresses if not a.startswith("http://www.w3.org/")} == set()


def test_a_page_of_simulated_data(rehearsed: Path) -> None:
    html = rehearsed.read_text()
    assert "simulated nodes." in html
    for kind in ("figcaption", "caption"):
        captions = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        assert captions
        assert all("simulated nodes" in caption for caption in captions), captions
    assert "n = 9 valid cells of 12; excluded: 3 failed." in html
    assert "Gaps in the event sources" not in html
    assert "clusters, since the run was resumed" not in html


def test_a_page_of_measured_data(measured: Path) -> None:
    html = measured.read_text()
    assert '<span class="mark">' not in html
    assert "none excluded" in html
    names = {path.name for path in measured.parent.iterdir()}
    assert {"pulls.csv", "cells.csv", "summary.csv", "events.parquet", "notes.csv"} <= names
    text = sane(html)
    for answer in ANSWERED:
        assert answer in text
    assert "The images are almost empty." in text


def words(page: str) -> str:
    """The page's text, without styles, programs and data."""
    text = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def data_of(page: str) -> dict[str, object]:
    found = re.findall(
        r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.DOTALL
    )
    return {name: json.loads(text) for name, text in found}


def sane(page: str) -> str:
    """What holds for every page, whatever was recorded."""
    text = words(page)
    assert not re.search(r"\b(NaN|nan|None|inf|Infinity|Traceback)\b", text), text
    data_of(page)  # valid JSON, so without NaN
    assert "Answers" in text
    return text


ANSWERED = (
    "How much does the size cost? Larger images take longer.",
    "Does a pull take longer on a larger cluster? Cannot tell: one cluster each.",
    "What limits a pull: network, unpacking or disk? Cannot tell: nothing isolates a limit.",
    "Are some nodes slower than the others? No node stands out.",
    "How much of the total time is not pulling?",
    "Not varied here: layers (",
    "registry (all images came from one repository)",
)


def test_gaps_losses_clocks_and_clusters_are_shown(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r")
    gap = GapRecord(
        source=Source.WATCH, since=START, until=START + timedelta(seconds=12), reason="410 Gone"
    )
    add_records(run, "gaps.jsonl", [gap, gap.model_copy(update={"recovered": True})])
    counts = {
        Source.WATCH: SourceCount(seen=57, lost=3, repeated=1, gaps=2),
        Source.EXPORTER: SourceCount(seen=60, lost=0, repeated=0, gaps=0),
    }
    evidence = EvidenceRecord(
        attempt=1, at=START, complete=True, waited_s=1.0, sources=counts, seen_by_several=57,
        seen_by_one=3, seen_by_none=0, clock_offsets_s={"node-2": -121.5},
    )  # fmt: skip
    add_records(run, "evidence.jsonl", [evidence])
    ledger = run / "ledger.jsonl"
    cells = [json.loads(line) for line in ledger.read_text().splitlines()]
    for number, cell in enumerate(cells):
        cell["cluster"] = "first" if number < 4 else "second"
        cell["marks"] = ["its node's clock is 121 s behind"] if number == 5 else []
    ledger.write_text("".join(json.dumps(cell) + "\n" for cell in cells))

    record = json.loads((run / "run.json").read_text())
    record["warnings"] = ["The measured nodes have different CPU platforms."]
    (run / "run.json").write_text(json.dumps(record))

    text = sane(page_of(run))

    assert "run1-size-4: The measured nodes have different CPU platforms." in text
    assert "watch 2024-11-10 06:48:00 12.0 possible 410 Gone" in text
    assert "no, it resumed where it stopped" in text
    assert "watch 57 3 1 2 yes 0 node-2 -121.5 s" in text
    assert "its node's clock is 121 s behind valid 1" in text
    assert "The cells of run1-size-4 come from 2 clusters" in text


def test_when_shares_of_an_image_were_read_stands_beside_its_pull(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", nodes=8)
    ledger = run / "ledger.jsonl"
    cells = [json.loads(line) for line in ledger.read_text().splitlines()]
    for number, cell in enumerate(cells):
        cell.update(reading_s=3.0, read_10_s=0.25 + number / 1000, read_100_s=2.5)
    ledger.write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    text = sane(page_of(run))
    assert "Medians with 95 % intervals over cells" in text
    assert "How soon can an image's bytes be read?" in text
    start = text.index(
        "Cluster Images by Image Cells Pull (s) Start (s) 10 % (s) 50 % (s) 100 % (s)"
    )
    row = text[start:].split("8 nodes pulling ", 2)[1]
    assert " 8 " in row
    assert row.count(" … ") == 4
    assert "\u2013" in row


def test_where_a_pulls_time_goes_is_a_table_if_cells_have_spans(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", nodes=8)
    assert "Where a pull's time goes" not in sane(page_of(run))
    ledger = run / "ledger.jsonl"
    cells = [json.loads(line) for line in ledger.read_text().splitlines()]
    for number, cell in enumerate(cells):
        pull_s = cell["pull_s"] * (1.0 if number % 8 else 1.2)
        cell.update(fetch_s=pull_s / 4, unpack_s=pull_s * 3 / 4, overlap_s=0.1)
    ledger.write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    text = sane(page_of(run))
    start = text.index(
        "Cluster Image Cells Pull (s) Fetching (s) Unpacking (s) Fetching too (s) Unpacking, share"
    )
    row = text[start:].split("8 nodes ", 2)[1]
    assert " 75% " in row
    assert row.count(" … ") >= 3
    assert "Of 24 cells with spans, in 87.5% the sum of the two is within 5%" in text


def test_rates_use_the_bytes_that_nodes_counted(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", nodes=8)
    node_stats(run, received=200_000_000_000, written=1_000_000)
    text = sane(page_of(run))
    assert "bytes as counted by the nodes" in text
    assert "network counters of 24 and disk counters of 24 of 24 pulls" in text


def test_two_images_of_one_tag_are_never_one(tmp_path: Path) -> None:
    other = tuple(image.replace("chonks", "others") for image in IMAGES)
    write_study(tmp_path / "m", (4,), (*IMAGES, *other))
    data = data_of(page_of(tmp_path / "m"))
    cells = data["data-cells-0"]
    assert isinstance(cells, dict)
    assert len(cells["image"]["values"]) == 6
    pulls = data["data-pulls"]
    assert isinstance(pulls, dict)
    assert len(pulls["image"]["values"]) == 6
    medians = data["data-medians"]
    assert isinstance(medians, dict)
    assert len(medians["image"]["values"]) == 6


def test_a_node_that_never_pulled_has_a_row(tmp_path: Path) -> None:
    idle = node_event("idle-node", "NodeReady", START)
    path = tmp_path / "events.json"
    path.write_text(lines([*study_events(4), idle]))
    specs = data_of(page_of(path))
    for figure in ("spec-timeline-0", "spec-nodes-0"):
        assert '"domain": ["gke' in json.dumps(specs[figure])
        assert "idle-node" in json.dumps(specs[figure])


def test_the_scale_of_nodes_is_symmetric(tmp_path: Path) -> None:
    text = json.dumps(data_of(page_of(write_study(tmp_path / "m", (4,))))["spec-nodes-0"])
    (low, high) = re.search(r'"purpleorange", "domain": \[(-?[\d.]+), ([\d.]+)\]', text).groups()  # type: ignore[union-attr]
    assert float(low) == -float(high)


def test_fast_simulations_share_one_banner_and_scale_their_time(tmp_path: Path) -> None:
    rehearsal = Rehearsal(nodes="simulated", scale=1, speed=20, faults=("event:how=lost,trial=1",))
    runs = [
        write_run_folder(tmp_path / "r", f"run1-size-{n}", n, rehearsal) for n in (4, 8, 16, 32)
    ]
    page = page_of(*runs)
    text = sane(page)
    assert "run1-size-4, run1-size-8, run1-size-16 and 1 more: simulated nodes." in text
    assert page.count('class="banner"') == 1
    assert "Nodes ran 20 times as fast as the clock" in text
    assert "Injected faults: event:how=lost,trial=1." in text
    assert "By the clock 4 nodes took" in text
    cells = data_of(page)["data-cells-0"]
    assert isinstance(cells, dict)
    pulls = [b - a for a, b in zip(cells["pulling"], cells["pulled"], strict=True)]
    assert pulls == pytest.approx([20 * s for s in cells["pull_s"]], abs=0.1)


@pytest.mark.parametrize(
    ("nodes", "images"), [(1, IMAGES), (8, IMAGES[:1]), (1, IMAGES[:1])],
    ids=["one node", "one image", "one of each"],
)  # fmt: skip
def test_very_little_data(tmp_path: Path, nodes: int, images: tuple[str, ...]) -> None:
    text = sane(page_of(write_study(tmp_path / "m", (nodes,), images)))
    assert f"of {nodes * len(images)} (image × node)" in text


def test_events_without_pulls(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines([event(Pod("a", "b"), "Started", "Started container x", START)]))
    text = sane(page_of(path))
    assert "No pull of the study's images was recorded" in text


def test_a_file_without_any_event(tmp_path: Path) -> None:
    path = tmp_path / "words.log"
    path.write_text("not JSON\nat all\n")
    with pytest.raises(UserError, match="2 lines or files could not be read"):
        page_of(path)


def test_all_cells_invalid(tmp_path: Path) -> None:
    events = [item for item in study_events(4) if item["reason"] != "Pulling"]
    path = tmp_path / "events.json"
    path.write_text(lines(events))
    text = sane(page_of(path))
    assert "n = 0 valid cells of 12; excluded: 12 missing-events." in text


def test_a_pull_without_a_size_or_a_tag(tmp_path: Path) -> None:
    item = event(
        Pod("web", "node-a", job="", job_uid=""), "Pulled", pulled_message("nginx", "2s"), START
    )
    item["message"] = 'Successfully pulled image "nginx" in 0s'
    path = tmp_path / "events.json"
    path.write_text(lines([item]))
    sane(page_of(path))


def test_measured_and_simulated_on_one_page(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=0.01))
    text = sane(page_of(write_study(tmp_path / "m", (4,)), run))
    assert "This page has measured and rehearsed data." in text
    assert "mixed: measured, and simulated nodes" in text


def test_a_run_cut_off_before_its_ledger(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    for name in ("ledger.jsonl", "trials.jsonl", "events.logging.jsonl"):
        (run / name).unlink()
    sane(page_of(run))


def test_text_from_events_is_never_markup(tmp_path: Path) -> None:
    evil = 'x</script><script>alert("1")</script><img src=x onerror=alert(2)>'
    pod = Pod(f"web-{evil}", f"node-{evil}", job="", job_uid="")
    path = tmp_path / "events.json"
    path.write_text(lines([event(pod, "Pulled", pulled_message("a/b:1", "2s"), START)]))
    # The last two scripts are the page's own programs.
    source = page_of(path).rpartition("<script>")[0]
    source = source.rpartition("<script>")[0]
    assert evil[:1] in source
    assert "<img" not in source
    assert 'alert("1")' not in source


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(), st.floats(), st.integers()), min_size=1))
def test_data_on_the_page_is_valid_json_whatever_it_is(values: list[object]) -> None:
    column = json.loads(_inline(_pack({"column": values})))["column"]
    back = column if isinstance(column, list) else [column["values"][i] for i in column["index"]]
    expected = [None if isinstance(v, float) and v - v != 0 else v for v in values]
    expected = [visible(v) if isinstance(v, str) else v for v in expected]
    assert back == expected


def test_the_original_study_on_a_page(chonks: Path, tmp_path: Path) -> None:
    page = write_report(
        [chonks / "pulling", chonks / "pulling-test"],
        tmp_path / "out",
        manifests=chonks / "manifests" / "run1-manifests-config-layers.json.gz",
    )
    text = sane(page.read_text())
    assert page.stat().st_size < 5_000_000
    assert "Does the machine type matter? Cannot tell: too few nodes with valid cells." in text
    assert "Do the images share layers? No, none beyond the common base. n: 38 images" in text
    assert "Layers matter, above all for small images." in text
    assert "Layers in common, without the base" in text
    assert re.search("91[0-9] times as much", text)
    assert text.count("Cannot tell") < 5
