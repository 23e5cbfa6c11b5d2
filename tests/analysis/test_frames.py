"""The DataFrames: columns, dtypes and units as documented, numbers as in the files."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.frames import COLUMNS, KINDS, image_name
from analysis.tables import open_tables, write_tables
from docs.generate import analysis_tables
from schema.run_records import EventRecord, Rehearsal, Source, Status
from tests.analysis.recorded import (
    IMAGES,
    START,
    add_records,
    node_event,
    write_run_folder,
    write_study,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_have_the_documented_dtypes(study: Path, name: str) -> None:
    frame = getattr(analysis.load([study]), name)
    assert list(frame.columns) == ["cluster", *(column.name for column in COLUMNS[name])]
    dtypes = {column.name: KINDS[column.kind] for column in COLUMNS[name]}
    assert {n: str(t) for n, t in frame.dtypes.drop("cluster").items()} == dtypes
    assert len(frame)


def test_the_documented_table_is_that_of_the_code() -> None:
    page = analysis_tables.PAGE.read_text("utf-8")
    assert page == analysis_tables.updated(page), "stale: make docs"


@pytest.mark.parametrize("name", ["pulls", "cells", "summary"])
def test_frames_are_the_files(study: Path, tmp_path: Path, name: str) -> None:
    with open_tables([study]) as tables:
        write_tables(tables, tmp_path)
    written = pd.read_csv(tmp_path / f"{name}.csv")
    frame = getattr(analysis.load([study]), name)
    assert set(written.columns) == {column.name for column in COLUMNS[name]}
    for column in COLUMNS[name]:
        if column.kind in {"number", "whole"}:
            left, right = (f[column.name].astype("float64") for f in (frame, written))
            pd.testing.assert_series_equal(left, right, check_exact=False, rtol=1e-12)


@pytest.mark.parametrize(
    ("named", "streamed"),
    [("{image}", True), ("{bare}", True), ("gcr.io/other@sha256:1", False), ("{name}-x@a", False)],
)
def test_an_event_tells_that_an_image_was_streamed_with_its_tag_or_without(
    tmp_path: Path, named: str, streamed: bool
) -> None:
    run = write_run_folder(tmp_path)
    image = analysis.load([run]).cells["image"].iloc[0]
    name, _, digest = image.partition("@")
    bare = f"{name.rpartition(':')[0]}@{digest}"
    text = named.format(image=image, bare=bare, name=name)
    message = f"Image {text} is backed by image streaming."
    seen = {**node_event("n", "ImageStreaming", START), "message": message}
    add_records(
        run,
        "events.watch.jsonl",
        [EventRecord(source=Source.WATCH, received_at=START, event=seen)],
    )
    assert list(analysis.load([run]).clusters["streaming"]) == [streamed]


def test_a_run_folder_and_a_recording_side_by_side(study: Path, tmp_path: Path) -> None:
    rehearsal = Rehearsal(nodes="simulated", scale=0.01)
    run = write_run_folder(tmp_path, rehearsal=rehearsal, spoilt=Status.FAILED)
    frames = analysis.load([study, run])
    clusters = frames.clusters.set_index("cluster")
    assert clusters.index.is_unique
    assert sorted(clusters["kind"].unique()) == [
        "measured", "simulated nodes, images at 0.01 of their size"
    ]  # fmt: skip
    images = frames.images.join(clusters[["scale"]], on="cluster")
    smallest = images[images["tag"] == IMAGES[0].rpartition(":")[2]]
    assert set(smallest["unpacked_bytes"] / smallest["scale"]) == {1176249324.0}
    assert frames.trials.groupby("cluster")["total_s"].sum().gt(0).all()


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("a.io/x:1", "a.io/x:1"),
        ("a.io/x:1@sha256:ab", "a.io/x:1"),
        ("a.io/x@sha256:ab", "a.io/x@sha256:ab"),
    ],
)
def test_an_image_is_its_repository_and_tag_or_digest(image: str, name: str) -> None:
    assert image_name(image) == name


def test_the_example_of_the_documentation_runs(study: Path, tmp_path: Path) -> None:
    page = (analysis_tables.ROOT / "docs" / "analysis.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(script.splitlines()) <= 34
    path = tmp_path / "example.py"
    path.write_text(script)
    root = analysis_tables.ROOT
    done = subprocess.run(
        [sys.executable, str(path), str(study)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert "8 nodes: 6." in done.stdout
