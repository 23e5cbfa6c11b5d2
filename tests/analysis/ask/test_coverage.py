"""The intervals cover what they say: 95 %, over simulated studies of known truth."""

import re
from pathlib import Path

import pytest

from tests.analysis.ask.coverage import DESIGNS, Design, coverage

PAGE = (Path(__file__).parents[3] / "docs" / "analysis.md").read_text("utf-8")


@pytest.mark.parametrize("design", DESIGNS[1::4], ids=lambda design: design.name)
def test_intervals_cover_the_truth(design: Design) -> None:
    assert coverage(design, 20) >= 0.85


def test_every_design_is_documented() -> None:
    for design in DESIGNS:
        assert re.search(rf"\| {re.escape(design.name)} \| \d+ % \|", PAGE), design.name


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_coverage_is_as_documented(design: Design) -> None:
    found = re.search(rf"\| {re.escape(design.name)} \| (\d+) % \|", PAGE)
    assert found is not None
    measured = coverage(design, 300)
    assert measured >= 0.91
    assert measured == pytest.approx(int(found[1]) / 100, abs=0.06)
