"""Effect sizes: they find what is there, and their intervals know the node as the unit."""

import numpy as np
import pytest

from analysis.ask.effects import LEAST_NODES, Pulls, fit_line, per_doubling, ratio, to_pulls

IMAGES = ("a", "b", "c")


def pulls(nodes: int, factor: float = 1.0, seed: int = 1, spread: float = 0.05) -> Pulls:
    rng = np.random.default_rng(seed)
    node = np.exp(rng.normal(0, spread, nodes))
    return to_pulls(
        nodes,
        [
            (f"n{i}", image, float(factor * level * node[i]))
            for i in range(nodes)
            for image, level in zip(IMAGES, (5.0, 20.0, 100.0), strict=True)
        ],
    )


def test_several_pulls_of_a_node_count_once() -> None:
    found = to_pulls(2, [("x", "a", 2.0), ("x", "a", 4.0), ("y", "b", 1.0)])
    assert found.names == ("x", "y")
    assert found.seconds[0, 0] == 3.0
    assert np.isnan(found.seconds[0, 1])


def test_a_ratio_is_found_and_lies_in_its_interval() -> None:
    effect = ratio(pulls(40, 1.2), pulls(40, seed=2))
    assert effect is not None
    assert effect.low < 1.2 < effect.high
    assert effect.value == pytest.approx(1.2, rel=0.05)
    assert effect.n == 40


def test_a_node_is_the_unit_not_a_pull() -> None:
    # Three images of one node differ together: their number must not narrow the interval.
    one = ratio(pulls(20, spread=0.3), pulls(20, seed=2, spread=0.3))
    assert one is not None
    single = [
        Pulls(p.nodes, p.names, ("a",), p.of(["a"]))
        for p in (pulls(20, spread=0.3), pulls(20, seed=2, spread=0.3))
    ]
    alone = ratio(single[0], single[1])
    assert alone is not None
    assert (one.high - one.low) == pytest.approx(alone.high - alone.low, rel=0.15)


def test_the_same_data_always_gives_the_same_interval() -> None:
    assert ratio(pulls(9, 1.1), pulls(9)) == ratio(pulls(9, 1.1), pulls(9))


def test_too_few_nodes_or_no_common_image_give_nothing() -> None:
    assert ratio(pulls(LEAST_NODES - 1), pulls(30)) is None
    other = to_pulls(5, [(f"n{i}", "z", 1.0) for i in range(5)])
    assert ratio(other, pulls(5)) is None


def test_the_effect_of_doubling_a_cluster() -> None:
    clusters = [pulls(nodes, 1.1**k, seed=k) for k, nodes in enumerate((8, 16, 32, 64))]
    effect = per_doubling(clusters)
    assert effect is not None
    assert effect.low < 1.1 < effect.high
    assert effect.percent().startswith("+")
    assert per_doubling(clusters[:1]) is None


def test_images_missing_from_a_cluster_do_no_harm() -> None:
    small = pulls(16)
    part = Pulls(16, small.names, ("a", "b"), small.of(["a", "b"]))
    effect = per_doubling([part, pulls(32, 1.1, seed=3)])
    assert effect is not None
    assert effect.value == pytest.approx(1.1, rel=0.06)


def test_coefficients_of_size_and_layers() -> None:
    features = {
        f"{gb}-{layers}": (gb, layers / 100) for gb in (1.0, 5.0, 20.0) for layers in (9, 125)
    }
    rng = np.random.default_rng(3)
    rows = [
        (f"n{i}", name, 1.0 + 6.5 * gb + 3.0 * layers + rng.normal(0, 0.3))
        for i in range(12)
        for name, (gb, layers) in features.items()
    ]
    line = fit_line([to_pulls(12, rows)], features, ["GB", "100 layers"])
    assert line is not None
    assert line.low[0] < 6.5 < line.high[0]
    assert line.low[1] < 3.0 < line.high[1]
    assert line.explained > 0.99


def test_features_that_vary_together_are_not_fitted() -> None:
    features = {"a": (1.0, 2.0), "b": (2.0, 4.0), "c": (3.0, 6.0), "d": (4.0, 8.0)}
    rows = [(f"n{i}", name, gb * 7) for i in range(5) for name, (gb, _) in features.items()]
    assert fit_line([to_pulls(5, rows)], features, ["GB", "layers"]) is None
