"""Effects: they find what is there, and their intervals know nodes, trials and clusters."""

import numpy as np
import pandas as pd
import pytest

from analysis.ask.effects import (
    STATISTICS,
    Effect,
    line_over_clusters,
    of_log,
    over_clusters,
    ratio,
    relative_fit,
    slope,
)


def pulls(trials: int, nodes: int, factor: float = 1.0, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    node = np.exp(rng.normal(0, 0.2, nodes))  # the same nodes for one seed
    return (
        10
        * factor
        * node
        * np.exp(np.random.default_rng(seed + 99).normal(0, 0.02, (trials, nodes)))
    )


@pytest.mark.parametrize("statistic", sorted(STATISTICS))
def test_a_ratio_is_found(statistic: str) -> None:
    a = pulls(6, 16)
    effect = ratio(a, 1.2 * a, paired=True, statistic=statistic)
    assert effect.value == pytest.approx(1.2)
    assert (effect.nodes, effect.trials) == (16, 6)


def test_pairing_by_node_removes_what_nodes_differ_by() -> None:
    rng = np.random.default_rng(5)
    a = pulls(6, 16)
    b = 1.05 * a * np.exp(rng.normal(0, 0.02, a.shape))
    paired, apart = (ratio(a, b, paired=flag) for flag in (True, False))
    assert paired.clear
    assert not apart.clear
    assert (paired.high - paired.low) < (apart.high - apart.low) / 5


def test_more_images_do_not_narrow_what_nodes_make_uncertain() -> None:
    one = [ratio(pulls(n, 12), pulls(n, 12, seed=2), paired=False) for n in (2, 40)]
    widths = [effect.high - effect.low for effect in one]
    assert widths[1] > 0.6 * widths[0]


@pytest.mark.parametrize(
    ("trials", "nodes", "why"), [(1, 16, "one trial each"), (6, 2, "2 nodes on a side")]
)
def test_without_a_spread_there_is_no_interval(trials: int, nodes: int, why: str) -> None:
    a = pulls(trials, nodes)
    effect = ratio(a, 1.3 * a, paired=True)
    assert (effect.answered, effect.why) == (False, why)
    assert effect.value == pytest.approx(1.3)


def test_a_wider_level_has_a_wider_interval() -> None:
    effect = of_log(0.1, 0.03, 5, nodes=4, trials=6)
    assert effect.at(0.99).low < effect.low < effect.high < effect.at(0.99).high
    assert Effect(1.1).at(0.99) == Effect(1.1)


def test_effects_of_clusters_that_disagree_are_less_certain() -> None:
    agree, apart = (
        over_clusters([of_log(v, 0.02, 5, nodes=8, trials=6) for v in values])
        for values in ((0.1, 0.1, 0.1), (0.0, 0.1, 0.2))
    )
    assert agree.value == pytest.approx(apart.value)
    assert apart.error > 2 * agree.error
    assert agree.clusters == 3


def test_weights_of_the_fitted_values_are_not_biased() -> None:
    rng = np.random.default_rng(3)
    x = np.repeat(np.linspace(1, 20, 20), 200)
    y = 6.5 * x * np.exp(rng.normal(0, 0.2, x.size) - 0.02)
    assert relative_fit(y, x[:, None]).params[0] == pytest.approx(6.5, rel=0.01)


def test_a_slope_within_groups() -> None:
    groups = [0, 0, 0, 1, 1, 1]
    x = np.array([1.0, 50, 100, 1, 50, 100])
    y = np.array([5.0, 5, 5, 50, 50, 50]) + 0.03 * x + np.array([0.01, -0.01, 0, 0.02, 0, -0.02])
    found = slope(y, groups, x, (0.0, 5))
    assert found is not None
    assert found.low < 0.03 < found.high
    assert slope(y[:2], groups[:2], x[:2], (0.0, 5)) is None


def test_a_line_over_clusters_counts_clusters_not_nodes() -> None:
    y = pd.Series([0.0, 0.05, -0.03, 0.04, 0.01])
    small = pd.Series([1e-4] * 5)
    _, error, freedom = line_over_clusters(y, small, np.arange(5.0))
    assert freedom == 3
    assert error > 0.005


def test_clusters_without_any_difference_have_the_error_of_their_nodes() -> None:
    same = pd.Series([0.0, 0.0, 0.0])
    slope_found, error, _ = line_over_clusters(same, same + 0.01, np.arange(3.0))
    assert slope_found == pytest.approx(0.0, abs=1e-12)
    assert error == pytest.approx(0.01 / np.sqrt(2))
