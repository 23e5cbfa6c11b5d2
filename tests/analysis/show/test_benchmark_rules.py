"""The page keeps the twelve rules of honest benchmarking (Hoefler and Belli, SC'15).

Rule 3 is about means of costs and rates: the page has medians and sums of them, and no mean.
"""

import json
import re
from typing import Any

import numpy as np
import pytest

from analysis.ask.questions.cards import Card
from analysis.frames import frames_of
from analysis.judge.audit_counts import audit_counts
from analysis.show.page import Figure, Page
from analysis.show.report import make_page
from analysis.show.report_pulls import median_interval
from analysis.tables import open_tables
from schema.run_records import Status
from tests.analysis.recorded import write_run_folder, write_study


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("rules")
    study = write_study(root / "m", (4, 8, 16))
    run = write_run_folder(root / "r", nodes=8, spoilt=Status.FAILED)
    with open_tables([study, run]) as tables:
        return make_page(tables, frames_of(tables), audit_counts(tables.database))


def figures(page: Page) -> dict[str, Figure]:
    return {figure.key: figure for section in page.sections for figure in section.figures}


def cards(page: Page) -> list[Card]:
    return [card for section in page.sections for card in section.cards]


def titles(part: Any) -> list[str]:
    """All titles of axes, legends and tooltips of a specification."""
    if isinstance(part, dict):
        mine = [part["title"]] if isinstance(part.get("title"), str) else []
        return mine + [title for item in part.values() for title in titles(item)]
    return [title for item in part for title in titles(item)] if isinstance(part, list) else []


def test_rules_1_and_4_every_ratio_names_its_base(page: Page) -> None:
    text = json.dumps([figure.spec for figure in figures(page).values()])
    assert "pull / trial's median" in text
    assert "pull / image's median" in text
    words = " ".join(f"{c.verdict} {c.effect} {c.detail} {c.question}" for c in cards(page))
    for ratio in re.finditer(r"[\d.]+ times (\w+ \w+)", words):
        assert ratio[1].startswith(("the ", "their ", "as ")), ratio[0]


def test_rule_2_what_is_left_out_is_said(page: Page) -> None:
    numbers = {number.name: number for number in page.numbers}
    assert "excluded; 24 planned" in numbers["Valid cells"].note
    for key in ("by-cluster", "by-size", "tail", "statuses"):
        assert re.search(
            r"n = [\d,]+ valid cells of [\d,]+; excluded: ", figures(page)[key].caption
        )


def test_rules_5_and_7_each_effect_has_an_interval_or_is_only_observed(page: Page) -> None:
    for card in cards(page):
        if card.answered and "GB takes" in card.effect:
            assert re.search(r"\(.*(…|to).*\)", card.effect), card
        if not card.answered:
            assert card.verdict.startswith("Cannot tell"), card
            assert not re.search(r"\(.*…", card.effect), card


def test_rule_5_the_interval_and_n_are_at_the_mark(page: Page) -> None:
    spec = json.dumps(figures(page)["by-cluster"].spec)
    assert '"field": "low"' in spec
    assert '"y2": {"field": "high"}' in spec
    assert '"text": {"field": "n"}' in spec
    medians = page.data["medians"]
    rows = zip(*(medians[name] for name in ("n", "low", "median", "high")), strict=True)
    for n, low, median, high in rows:
        assert low < median < high if n >= 6 else low == median == high


def test_rule_6_the_interval_of_a_median_assumes_no_distribution() -> None:
    rng = np.random.default_rng(3)
    for draw in (rng.exponential, rng.normal, lambda size: rng.pareto(1.5, size)):
        samples = np.sort(draw(size=(4000, 16)), axis=1)
        true = np.median(draw(size=400_000))
        bounds = [median_interval(sample) for sample in samples]
        covered = np.mean([low <= true <= high for low, high in bounds])
        assert 0.94 <= covered <= 0.99
    assert np.isnan(median_interval(np.arange(5.0))).all()
    assert median_interval(np.arange(6.0)) == (0.0, 5.0)


def test_rule_8_the_tail_is_shown(page: Page) -> None:
    tail = figures(page)["tail"]
    assert tail.table
    assert {"Slowest pull", "99 %"} <= {head.name for head in tail.table.header}
    summary = figures(page)["by-cluster"].table
    assert summary
    assert {"95th percentile (s)", "Max (s)"} <= {head.name for head in summary.header}


def test_rule_9_conditions_and_the_way_to_repeat_are_given(page: Page) -> None:
    lines = {line.head: line.text for line in page.summary}
    assert "machine type: n1-standard-16" in lines["Conditions"]
    assert "not recorded" in lines["Conditions"]
    assert "Not varied here" in lines
    (table,) = next(section for section in page.sections if section.key == "repeat").tables
    commands = [row[1] for row in table.rows]
    assert "pull-study run --stack size-8 --study run1.yaml --seed 7" in commands, commands
    assert page.repeat.startswith("for about ")
    for key in ("by-cluster", "by-size", "wall-time", "tail", "statuses", "rates"):
        assert re.search(
            r"Clusters also differ in |Not recorded for all", figures(page)[key].caption
        )


def test_rule_10_the_page_says_how_time_is_measured_and_summarized(page: Page) -> None:
    text = " ".join(p for section in page.sections for p in section.paragraphs)
    assert "The kubelet's own duration of each pull" in text
    assert "medians of an image on a cluster" in text
    assert "Every second is assigned to one part" in text


def test_rule_11_a_limit_is_drawn_or_called_unknown(page: Page) -> None:
    limit = next(card for card in cards(page) if card.contrast == "limit")
    assert "does not tell what limits it" in " ".join(
        p for section in page.sections for p in section.paragraphs
    )
    assert not limit.answered
    assert limit.limits


def test_rule_12_lines_connect_ordered_quantities_alone(page: Page) -> None:
    for figure in figures(page).values():
        spec = figure.spec.get("spec", figure.spec)
        for layer in spec["layer"]:
            mark = layer["mark"]
            if (mark if isinstance(mark, str) else mark["type"]) == "line":
                assert layer["encoding"]["x"]["type"] == "quantitative", figure.key
    detail = json.dumps(figures(page)["by-size"].spec)
    assert (
        '"detail": [{"field": "layers"}, {"field": "repository"}, {"field": "cluster"}]' in detail
    )


def test_every_axis_with_a_number_has_its_unit(page: Page) -> None:
    for figure in figures(page).values():
        for title in titles(figure.spec):
            if title.startswith(("pull time", "duration", "median duration", "wall time")):
                assert re.search(r"\((s|minutes)\)|of the study", title), (figure.key, title)
