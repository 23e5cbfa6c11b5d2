"""Answers about time and price, where the truth is known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.ask.answer import NOT_ENOUGH
from analysis.ask.answers import _steadiness
from analysis.ask.cost_answers import faster_machine, job_times, not_pulling
from analysis.ask.effects import of_nodes, spread, to_pulls
from analysis.ask.study_data import Cluster, Image
from analysis.judge.trial_moments import Moments
from analysis.judge.wall_time import account

TAGS = ("9-layers-size-1000000000-bytes", "9-layers-size-2000000000-bytes")


def cluster(
    nodes: int,
    pulls: Sequence[float] = (10.0, 20.0),
    *,
    settling: float = 5.0,
    control_plane: float = 1.0,
    machine: str = "n1-standard-16",
    usd_per_hour: float | None = 3.6,
) -> Cluster:
    """Trials one after another: bound late, pulled at once by all nodes, settled; gaps of 2 s."""
    moments = []
    begin = 0.0
    for number, (tag, pull) in enumerate(zip(TAGS, pulls, strict=True), 1):
        bound = begin + control_plane
        end = bound + pull + settling
        moments.append(
            Moments(number, 1, f"r/x:{tag}", "n0", staged_s=begin, scheduled_s=bound,
                    pulling_s=bound, pulled_s=bound + pull, started_s=bound + pull, ended_s=end,
                    known_s=end)
        )  # fmt: skip
        begin = end + 2
    rows = [
        (f"n{i}", f"r/x:{tag}", pull)
        for i in range(nodes)
        for tag, pull in zip(TAGS, pulls, strict=True)
    ]
    every = to_pulls(nodes, rows)
    return Cluster(
        label=f"{nodes} nodes",
        run="r",
        stack=machine,
        study="r",
        nodes=nodes,
        machine_type=machine,
        provenance="measured",
        streaming=False,
        own=False,
        valid=every,
        every=every,
        time=account(moments, usd_per_hour=usd_per_hour),
        images={f"r/x:{tag}": Image(f"r/x:{tag}", "r", tag, 9, 1e9, 1e6) for tag in TAGS},
    )


def test_what_is_not_pulling_is_listed_by_part() -> None:
    answer = not_pulling([cluster(4)])
    assert answer.fact.startswith("32 % of the trials' time")  # 14 s of 44
    assert "for the median node, 32 % (32 … 32 %) on 4 nodes" in answer.fact
    assert "settling 22.7%, control plane 4.5%, runner 4.5%" in answer.detail


def test_what_grows_with_the_cluster_is_named() -> None:
    answer = not_pulling([cluster(4), cluster(256, control_plane=11.0, settling=6.0)])
    assert (
        "From 4 to 256 nodes, the total time of the same 2 images changes by +22.0 s: "
        "control plane +20.0 s, settling +2.0 s." in answer.detail
    )


def test_clusters_of_one_size_show_no_growth() -> None:
    assert "From" not in not_pulling([cluster(4), cluster(4)]).detail


def test_no_trial_no_answer() -> None:
    empty = replace(cluster(4), time=account([]))
    answer = not_pulling([empty])
    assert (answer.fact, answer.answered) == (NOT_ENOUGH, False)


def test_a_machine_that_saves_time_and_costs_more_has_a_price_for_an_hour() -> None:
    cheap = cluster(4, (20.0, 30.0), usd_per_hour=3.6)
    dear = cluster(4, (10.0, 20.0), machine="n1-standard-64", usd_per_hour=36.0)
    answer = faster_machine([cheap, dear])
    # 62 s at 3.6 USD an hour against 42 s at 36: 0.358 USD more for 20 s less
    assert answer.fact.startswith("Only if an hour saved is worth 64 USD:")
    assert "1.48 times as fast" in answer.fact
    assert "costs 6.77 times as much" in answer.fact


@pytest.mark.parametrize(
    ("pulls", "usd_per_hour", "said"),
    [
        ((1.0, 2.0), 4.0, "Yes: it is cheaper in total."),
        ((20.0, 40.0), 36.0, "No: it saves no time."),
    ],
)
def test_a_machine_that_is_simply_better_or_worse(
    pulls: tuple[float, float], usd_per_hour: float, said: str
) -> None:
    dear = cluster(4, pulls, machine="n1-standard-64", usd_per_hour=usd_per_hour)
    assert faster_machine([cluster(4), dear]).fact.startswith(said)


def test_variation_counts_the_middle_number_of_layers_with_the_many() -> None:
    images = cluster(4).images
    few, many = (
        replace(image, layers=n) for image, n in zip(images.values(), (9, 125), strict=True)
    )
    detail = _steadiness([replace(cluster(4), images={few.name: few, many.name: many})])
    assert "with fewer than 125 layers" in detail
    assert "with 125 or more (4 nodes)" in detail


def test_a_slower_machine_is_called_slower() -> None:
    dear = cluster(4, (11.0, 22.0), machine="n1-standard-64", usd_per_hour=36.0)
    assert "n1-standard-64 is 7.1 % slower than n1-standard-16" in (
        faster_machine([cluster(4), dear]).fact
    )


def test_without_a_price_machines_are_not_compared() -> None:
    dear = cluster(4, machine="n1-standard-64", usd_per_hour=None)
    assert not faster_machine([cluster(4), dear]).answered


def test_job_times_leave_the_gaps_out_and_count_a_tag_once() -> None:
    assert job_times(cluster(4), cluster(4, (10.0, 40.0))) == [
        pytest.approx((16, 16)),
        pytest.approx((26, 46)),
    ]


def test_an_interval_over_nodes_holds_the_value_and_narrows_with_them() -> None:
    rng = np.random.default_rng(1)

    def of(nodes: int) -> tuple[float, float, float]:
        rows = [(f"n{i}", "a", float(rng.normal(10, 1))) for i in range(nodes)]
        effect = of_nodes(to_pulls(nodes, rows), lambda s: np.asarray(np.mean(s, axis=(1, 2))))
        assert effect is not None
        return effect.value, effect.low, effect.high

    few, many = of(8), of(200)
    assert few[1] < few[0] < few[2]
    assert many[2] - many[1] < (few[2] - few[1]) / 2


def test_too_few_nodes_have_no_interval() -> None:
    pulls = to_pulls(2, [("n0", "a", 1.0), ("n1", "a", 2.0)])
    assert of_nodes(pulls, lambda s: np.asarray(np.mean(s, axis=(1, 2)))) is None


def test_spread_is_the_middle_half_over_the_median() -> None:
    rows = [(f"n{i}", "a", float(s)) for i, s in enumerate((8, 9, 10, 11, 12))]
    pulls = to_pulls(5, [*rows, ("n0", "b", 99.0)])
    assert spread(pulls, ["a", "b"]) == pytest.approx(0.2)
    assert np.isnan(spread(pulls, ["b"]))
    assert np.isnan(spread(pulls, []))
