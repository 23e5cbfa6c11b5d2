"""The page that a run ends with."""

import re
from pathlib import Path

import pytest

from analysis.report import write_report
from schema.run_records import Rehearsal, Status
from tests.analysis.recorded import write_run_folder, write_study


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rehearsed")
    rehearsal = Rehearsal(nodes="simulated", scale=0.01)
    run = write_run_folder(root / "runs", rehearsal=rehearsal, spoilt=Status.FAILED)
    return write_report([run], root / "out")


def test_page_is_small_and_asks_no_address(rehearsed: Path) -> None:
    html = rehearsed.read_text()
    assert len(html.encode()) < 5_000_000
    addresses = set(re.findall(r"https?://[^\s\"'<>\\)]+", html))
    assert {a for a in addresses if not a.startswith("http://www.w3.org/")} == set()


def test_simulated_data_is_said_on_every_figure_and_table(rehearsed: Path) -> None:
    html = rehearsed.read_text()
    assert "simulated nodes." in html
    for kind in ("figcaption", "caption"):
        captions = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        assert captions
        assert all("simulated nodes" in caption for caption in captions), captions


def test_excluded_cells_are_counted_with_their_status(rehearsed: Path) -> None:
    assert "n = 9 valid cells of 12; excluded: 3 failed." in rehearsed.read_text()


def test_measured_data_bears_no_mark(tmp_path: Path) -> None:
    html = write_report([write_study(tmp_path / "metadata")], tmp_path / "out").read_text()
    assert '<span class="mark">' not in html
    assert "none excluded" in html


def test_no_value_is_nan(rehearsed: Path) -> None:
    page = rehearsed.read_text().split("<script>")[0]
    assert not re.search(r"\b(NaN|nan|None|inf)\b", page)
