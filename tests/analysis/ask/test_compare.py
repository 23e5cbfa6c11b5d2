"""Two recordings side by side."""

from pathlib import Path

import pytest

from analysis.ask.compare import (
    STATISTICS,
    CompareError,
    Condition,
    compare,
    judge,
    lines,
    parse_condition,
    write_comparison,
)
from analysis.ask.effects import Effect
from analysis.ask.study_data import Cluster
from analysis.show.comparison_plots import write_comparison_plot
from schema.run_records import Rehearsal
from tests.analysis.ask.test_answers import clusters_of, write
from tests.analysis.recorded import IMAGES, study_events, write_run_folder, write_study


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Cluster], list[Cluster]]:
    """The second side is 20 % slower."""
    root = tmp_path_factory.mktemp("sides")
    slow = study_events(8)
    for item in slow:
        if item["reason"] == "Pulled":
            name = item["message"].split('"')[1]
            said = item["message"].split(" in ")[1].split(" ")[0]
            from analysis.read.pull_message import parse_duration

            longer = f"{parse_duration(said) * 1.2:.6f}s"
            item["message"] = (
                f'Successfully pulled image "{name}" in {longer} ({longer} including waiting)'
            )
    write(root / "a" / "8", study_events(8))
    write(root / "b" / "8", slow)
    return clusters_of(root / "a"), clusters_of(root / "b")


@pytest.mark.parametrize("statistic", sorted(STATISTICS))
def test_each_statistic_finds_the_difference(
    sides: tuple[list[Cluster], list[Cluster]], statistic: str
) -> None:
    found = compare(*sides, statistic=statistic)
    assert [row.tag.split("-")[3] for row in found.rows] == [i.split("-")[-2] for i in IMAGES]
    for row in found.rows:
        assert row.effect is not None
        assert row.effect.value == pytest.approx(1.2, abs=1e-3)
        assert row.effect.low > 1.1
    assert found.overall is not None
    assert found.overall.low < 1.2 < found.overall.high


def test_a_thing_compared_with_itself_does_not_differ(
    sides: tuple[list[Cluster], list[Cluster]],
) -> None:
    found = compare(sides[0], sides[0])
    assert all(row.effect and row.effect.value == 1 for row in found.rows)


def test_table_plot_and_text(sides: tuple[list[Cluster], list[Cluster]], tmp_path: Path) -> None:
    found = compare(*sides)
    paths = [write_comparison(found, tmp_path), *write_comparison_plot(found, tmp_path)]
    assert [path.name for path in paths] == ["compare.csv", "compare.svg", "compare.png"]
    rows = paths[0].read_text().splitlines()
    assert rows[0].startswith("tag,nodes_a,nodes_b,median_a_s,median_b_s,ratio,ratio_low")
    assert rows[1].endswith(",measured")
    assert "bootstrap over nodes" in " ".join(paths[1].read_text().split())
    assert any("+20.0 %" in line for line in lines(found))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("median slower by 10 %", Condition("median", True, 10.0)),
        ("p95 faster by 2.5%", Condition("p95", False, 2.5)),
    ],
)
def test_conditions(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "slower", "mode slower by 1 %", "median slower by ten %"])
def test_other_conditions_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(CompareError, match="median slower by 10 %"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("condition", "effect", "met"),
    [
        ("median slower by 10 %", Effect(1.2, 1.1, 1.3, 8), True),
        ("median slower by 10 %", Effect(1.2, 0.9, 1.5, 8), False),
        ("median slower by 30 %", Effect(1.2, 1.1, 1.3, 8), False),
        ("median faster by 10 %", Effect(0.8, 0.7, 0.9, 8), True),
        ("median faster by 10 %", Effect(1.2, 1.1, 1.3, 8), False),
        ("median slower by 10 %", None, False),
    ],
)
def test_a_condition_needs_size_and_certainty(
    condition: str, effect: Effect | None, met: bool
) -> None:
    assert parse_condition(condition).met(effect) is met


def test_two_registries_in_one_recording(tmp_path: Path) -> None:
    other = tuple(image.replace("ghcr.io", "pkg.dev") for image in IMAGES)
    write(tmp_path / "run" / "8", [*study_events(8), *study_events(8, other)])
    side = clusters_of(tmp_path)
    found = compare(side, side, images=("^ghcr", r"^pkg\.dev"), every=True)
    assert len(found.rows) == 3
    assert found.name_a == "run/8 (^ghcr)"


def test_measured_and_simulated_are_compared_only_with_mixed(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=1))
    measured = clusters_of(write_study(tmp_path / "m", (4,)))
    with pytest.raises(CompareError, match=r"are measured and simulated nodes.*\n.*--mixed"):
        compare(measured, clusters_of(run))
    found = compare(measured, clusters_of(run), mixed=True)
    assert found.provenance == "measured and simulated nodes"
    assert lines(found)[-1] == "Not all measured: measured and simulated nodes."


def test_simulated_nodes_of_another_speed_are_of_one_kind(tmp_path: Path) -> None:
    sides = [
        clusters_of(
            write_run_folder(
                tmp_path / str(speed),
                f"speed-{speed}",
                rehearsal=Rehearsal(nodes="simulated", scale=1, speed=speed),
            )
        )
        for speed in (1, 20)
    ]
    found = compare(*sides)
    assert found.overall is not None
    assert found.overall.value == pytest.approx(1)
    assert "20 times as fast" in found.provenance


def test_a_condition_that_no_image_can_meet_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "2", study_events(2))
    found = compare(clusters_of(tmp_path / "a"), clusters_of(tmp_path / "a"))
    with pytest.raises(CompareError, match="--fail-if cannot be evaluated"):
        judge(found, Condition("median", slower=True, percent=10))


def test_an_unknown_statistic_is_refused(sides: tuple[list[Cluster], list[Cluster]]) -> None:
    with pytest.raises(CompareError, match="--statistic 'mode'"):
        compare(*sides, statistic="mode")


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a" / "8", study_events(8, IMAGES[:1]))
    write(tmp_path / "b" / "8", study_events(8, IMAGES[1:]))
    with pytest.raises(CompareError, match="no image in common with valid cells"):
        compare(clusters_of(tmp_path / "a"), clusters_of(tmp_path / "b"))


def test_two_sizes_of_the_original_study(chonks: Path) -> None:
    runs = chonks / "pulling" / "run1"
    found = compare(clusters_of(runs / "8"), clusters_of(runs / "16"), every=True)
    assert len(found.rows) == 6
    assert found.overall is not None
    assert 0.85 < found.overall.value < 1.1
