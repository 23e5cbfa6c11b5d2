"""The model of pull time: it finds what made the data, and knows where it ends."""

import numpy as np
import pytest

from analysis.ask.effects import to_pulls
from analysis.ask.model import ModelError, fit, predict
from analysis.ask.study_data import Cluster, Image
from analysis.judge.trial_moments import Moments
from analysis.judge.wall_time import account

LEVEL, PER_GB, PER_LAYER, PER_DOUBLING = 0.5, 6.5, 0.03, 0.2


def image(gb: float, layers: int, ratio: float = 900) -> Image:
    size = gb * 1e9
    return Image(f"r/x:{layers}-{gb}", "r", f"{layers}-{gb}", layers, size, size / ratio)


def cluster(nodes: int, images: list[Image], noise: float = 0.03, **changes: object) -> Cluster:
    rng = np.random.default_rng(nodes)
    rows = []
    for one in images:
        gb = (one.unpacked_bytes or 0) / 1e9
        seconds = (
            LEVEL + PER_GB * gb + PER_LAYER * (one.layers or 0) + PER_DOUBLING * np.log2(nodes)
        )
        rows += [
            (f"n{i}", one.name, float(seconds * np.exp(rng.normal(0, noise)))) for i in range(nodes)
        ]
    pulls = to_pulls(nodes, rows)
    slowest = {one.name: max(s for _, name, s in rows if name == one.name) for one in images}
    begins = np.cumsum([0.0, *(s + 10 for s in slowest.values())])
    time = account(
        Moments(number, 1, name, "n", scheduled_s=begin, pulling_s=begin, pulled_s=begin + seconds,
                started_s=begin + seconds, ended_s=begin + seconds + 10,
                known_s=begin + seconds + 10)
        for number, (begin, (name, seconds)) in enumerate(
            zip(begins, slowest.items(), strict=False)
        )
    )  # fmt: skip
    known = {
        "label": f"{nodes} nodes",
        "run": "r",
        "stack": str(nodes),
        "study": "r",
        "nodes": nodes,
        "machine_type": "n1-standard-16",
        "provenance": "measured",
        "streaming": False,
        "valid": pulls,
        "every": pulls,
        "time": time,
        "own": False,
        "images": {one.name: one for one in images},
    }
    return Cluster(**(known | changes))  # type: ignore[arg-type]


IMAGES = [image(gb, layers) for gb in (0.5, 2.0, 7.0, 19.0) for layers in (9, 60, 125)]
CLUSTERS = [cluster(nodes, IMAGES) for nodes in (8, 16, 32)]


def test_the_coefficients_are_found_within_their_errors() -> None:
    model = fit(CLUSTERS)
    terms = {term.name: term for term in model.terms}
    for name, true in (
        ("intercept", LEVEL), ("unpacked GB", PER_GB), ("layers", PER_LAYER),
        ("log2(nodes)", PER_DOUBLING),
    ):  # fmt: skip
        assert abs(terms[name].value - true) < 4 * terms[name].error, name
    assert model.pulls == (8 + 16 + 32) * 12
    assert model.nodes == 56
    assert model.unseen_error < 0.06


def test_bytes_that_vary_only_together_are_left_out_and_named() -> None:
    model = fit(CLUSTERS)
    assert model.left_out == {"compressed GB": "varies only together with unpacked GB and layers"}
    alone = fit([cluster(8, [image(gb, 9) for gb in (1, 2, 4, 8)])])
    assert alone.left_out["layers"] == "does not vary"
    assert alone.left_out["log2(nodes)"] == "does not vary"


def test_a_prediction_lies_near_the_truth_and_in_its_interval() -> None:
    expected, low, high = predict(fit(CLUSTERS), image(10.0, 100), 16).pull_s
    true = LEVEL + PER_GB * 10 + PER_LAYER * 100 + PER_DOUBLING * 4
    assert expected == pytest.approx(true, rel=0.03)
    assert low < true < high


def test_a_job_takes_as_long_as_its_slowest_pull_and_more() -> None:
    answer = predict(fit(CLUSTERS), image(10.0, 100), 32)
    assert answer.job_s[0] > answer.pull_s[0] + 9
    assert answer.job_s[1] <= answer.job_s[0] <= answer.job_s[2]


@pytest.mark.parametrize(
    ("asked", "nodes", "said"),
    [
        (image(80.0, 100), 16, "unpacked GB 80"),
        (image(10.0, 300), 16, "layers 300"),
        (image(10.0, 100), 256, r"log2\(nodes\) 8"),
        (image(10.0, 100, ratio=2), 16, "compressed GB 5"),
    ],
)
def test_outside_the_data_it_refuses_and_says_where(asked: Image, nodes: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        predict(fit(CLUSTERS), asked, nodes)
    assert predict(fit(CLUSTERS), asked, nodes, extrapolate=True).pull_s[0] > 0


def test_an_unknown_property_is_requested() -> None:
    unknown = Image("r/x:y", "r", "y", None, 1e9, None)
    with pytest.raises(ModelError, match="needs layers of r/x:y"):
        predict(fit(CLUSTERS), unknown, 16)


def test_measured_and_simulated_pulls_are_never_fitted_together() -> None:
    with pytest.raises(ModelError, match="measured and simulated nodes is meaningless"):
        fit([*CLUSTERS, cluster(64, IMAGES, provenance="simulated nodes")])


def test_too_little_data_is_an_error_with_its_numbers() -> None:
    with pytest.raises(ModelError, match="there are 16 pulls of 2"):
        fit([cluster(8, IMAGES[:2])])
    with pytest.raises(ModelError, match="no data"):
        fit([])


def test_without_enough_valid_cells_all_pulls_are_fitted_and_reported() -> None:
    few = to_pulls(8, [("n0", IMAGES[0].name, 3.0)])
    assert fit([cluster(8, IMAGES, valid=few)]).selection == "all successful pulls"
