"""Two recordings side by side."""

from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.ask.compare import (
    CompareError,
    Condition,
    compare,
    judge,
    lines,
    parse_condition,
    write_comparison,
)
from analysis.ask.effects import STATISTICS, Effect, of_log
from analysis.ask.samples import samples_of
from analysis.show.figure_files import write_comparison_plot
from schema.run_records import Rehearsal
from tests.analysis.recorded import write_run_folder, write_study
from tests.analysis.simulated import Noise, Site, by_size, chonks, simulate

IMAGES = chonks((0.5, 1.2, 3.0, 7.0, 10.0, 19.0), [9])
QUIET = Noise(node=0.05, pull=0.03, trial=0.0, cluster=0.0)


def side(factor: float = 1.0, *, name: str = "a", seed: int = 1, **options: object) -> pd.DataFrame:
    images = options.pop("images", IMAGES)
    samples = simulate(
        images, [Site()], lambda i, s: factor * by_size(i, s), seed=seed, **options  # type: ignore[arg-type]
    )  # fmt: skip
    return samples.assign(cluster=name + samples["cluster"], node=name + samples["node"], digest="")


@pytest.mark.parametrize("statistic", sorted(STATISTICS))
def test_each_statistic_finds_the_difference(statistic: str) -> None:
    found = compare(
        side(noise=QUIET), side(1.2, name="b", seed=2, noise=QUIET), statistic=statistic
    )
    assert [round(row.a) for row in found.rows] == sorted(round(row.a) for row in found.rows)
    assert found.overall.value == pytest.approx(1.2, abs=0.06)
    assert all(row.effect.low < 1.2 < row.effect.high for row in found.rows)


def test_one_cluster_each_has_no_overall_interval() -> None:
    found = compare(side(), side(1.1, name="b", seed=2))
    assert (found.overall.answered, found.overall.why) == (False, "one cluster each")
    text = lines(found)
    assert any("observed: one cluster each" in line for line in text)
    assert "One cluster each: a difference of days or hardware is part of this." in text


def test_several_clusters_a_side_have_one() -> None:
    sides = []
    for number, factor in enumerate((1.0, 1.3)):
        many = simulate(IMAGES, [Site()] * 4, seed=number)
        many["seconds"] *= factor
        sides.append(many.assign(cluster=f"{number} " + many["cluster"], digest=""))
    found = compare(*sides)
    assert found.overall.clear
    assert found.overall.clusters == 4


def test_one_tag_of_two_repositories_is_two_images() -> None:
    both = [chonks([1.2], [9], f"reg.example/{name}")[0] for name in ("one", "two")]
    slower = simulate(
        both, [Site(8)], lambda i, s: by_size(i, s) * (2.0 if "one" in i["repository"] else 0.5),
        noise=QUIET,
    ).assign(digest="")  # fmt: skip
    slower["node"] = "other-" + slower["node"]
    found = compare(side(images=both, noise=QUIET), slower)
    assert {row.image.rpartition(":")[0]: round(row.effect.value, 1) for row in found.rows} == {
        "reg.example/one": 2.0,
        "reg.example/two": 0.5,
    }
    verdict = judge(found, parse_condition("median slower by 10 %"))
    assert [image.rpartition(":")[0] for image in verdict.images] == ["reg.example/one"]
    assert verdict.failed


def test_two_repositories_are_matched_by_what_they_are_copies_of() -> None:
    copies = [image.replace("ghcr.io", "pkg.dev") + "-b" for image in IMAGES]
    both = simulate(
        [*IMAGES, *copies], [Site()],
        lambda i, s: by_size(i, s) * (1.05 if "pkg" in i["repository"] else 1),
    ).assign(digest="")  # fmt: skip
    found = compare(both, both, images=("^ghcr", r"^pkg\.dev"))
    assert len(found.rows) == 6
    assert found.overall.low < 1.05 < found.overall.high
    assert found.overall.high - found.overall.low < 0.12
    assert found.name_a == "c0 (^ghcr)"


def test_a_tag_with_another_digest_is_named() -> None:
    moved = side(name="b").assign(digest="sha256:b")
    found = compare(side().assign(digest="sha256:a"), moved)
    assert len(found.moved) == 6
    assert any("Another digest on the second side" in line for line in lines(found))


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
        ("median slower by 10 %", of_log(0.3, 0.02, 9, nodes=8, trials=6), True),
        ("median slower by 10 %", of_log(0.12, 0.02, 9, nodes=8, trials=6), False),
        ("median faster by 10 %", of_log(-0.3, 0.02, 9, nodes=8, trials=6), True),
        ("median faster by 10 %", of_log(0.3, 0.02, 9, nodes=8, trials=6), False),
        ("median slower by 10 %", Effect(2.0), False),
    ],
)
def test_a_condition_needs_the_whole_interval_beyond_the_margin(
    condition: str, effect: Effect, met: bool
) -> None:
    assert parse_condition(condition).met(effect, 0.95) is met


def test_false_alarms_of_a_condition_are_rare() -> None:
    # No difference but days and trials; without control 9 to 34 % of such comparisons failed.
    images = chonks([0.5 + i / 2 for i in range(12)], [9])
    condition = parse_condition("median slower by 5 %")
    alarms = [
        judge(
            compare(side(images=images, seed=2 * n), side(name="b", images=images, seed=2 * n + 1)),
            condition,
        ).failed
        for n in range(12)
    ]
    assert sum(alarms) <= 1


@pytest.mark.parametrize(
    ("factor", "text"), [(1.0, "equivalent within 25 %"), (1.6, "beyond 25 %"), (1.2, "undecided")]
)
def test_the_verdict_over_all_images(factor: float, text: str) -> None:
    found = compare(side(noise=QUIET), side(factor, name="b", noise=QUIET))
    assert text in judge(found, parse_condition("median slower by 25 %")).text


def test_table_plot_and_text(tmp_path: Path) -> None:
    found = compare(side(), side(1.2, name="b"))
    paths = [write_comparison(found, tmp_path), *write_comparison_plot(found, tmp_path)]
    assert [path.name for path in paths] == ["compare.csv", "compare.svg", "compare.png"]
    rows = paths[0].read_text().splitlines()
    assert rows[0].startswith("image,nodes_a,nodes_b,median_a_s,median_b_s,ratio,ratio_low")
    assert rows[1].endswith(",measured")
    assert "Pull time of the second side" in paths[1].read_text()


def test_measured_and_simulated_are_compared_only_with_mixed(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=1))
    sides = [samples_of(analysis.load([path])) for path in (write_study(tmp_path / "m", (4,)), run)]
    with pytest.raises(CompareError, match=r"are measured and simulated nodes.*\n.*--mixed"):
        compare(*sides)
    assert compare(*sides, mixed=True).provenance == "measured and simulated nodes"


def test_a_condition_that_no_image_can_meet_is_refused() -> None:
    few = simulate(IMAGES, [Site(2)]).assign(digest="")
    with pytest.raises(CompareError, match="--fail-if cannot be evaluated"):
        judge(compare(few, few), Condition("median", slower=True, percent=10))


def test_bad_input_is_a_sentence() -> None:
    with pytest.raises(CompareError, match="--statistic 'mode'"):
        compare(side(), side(), statistic="mode")
    with pytest.raises(CompareError, match=r"'\*' is not a regular expression"):
        compare(side(), side(), images=("*", None))
    with pytest.raises(CompareError, match="no image in common with valid cells"):
        compare(side(images=IMAGES[:1]), side(images=IMAGES[1:]))


def test_two_sizes_of_the_original_study(chonks: Path) -> None:
    runs = chonks / "pulling" / "run1"
    found = compare(
        *(samples_of(analysis.load([runs / size])).assign(cluster=size) for size in ("8", "16"))
    )
    assert len(found.rows) == 6
    assert 0.85 < found.overall.value < 1.1
    assert not found.overall.answered


def test_an_image_without_a_valid_cell_is_named_with_the_side() -> None:
    names = tuple(side()["image"].unique())
    few = side(name="b")
    few = few[few["image"] != names[1]]
    found = compare(side(), few, recorded=((*names, "ghcr.io/a/b:lost"), names))
    assert dict(found.left_out) == {
        "ghcr.io/a/b:lost": "no valid cell on the first side",
        names[1]: "no valid cell on the second side",
    }
    assert sum("not compared: no valid cell" in line for line in lines(found)) == 2


def test_images_without_a_valid_cell_are_rows_of_the_table(tmp_path: Path) -> None:
    found = compare(side(), side(name="b"), recorded=(("ghcr.io/a/b:lost",), ()))
    rows = pd.read_csv(write_comparison(found, tmp_path)).set_index("image")
    assert rows.loc["ghcr.io/a/b:lost", "note"] == "no valid cell on the first side"
    assert pd.isna(rows.loc["ghcr.io/a/b:lost", "ratio"])
    assert rows["ratio"].notna().sum() == len(IMAGES)
