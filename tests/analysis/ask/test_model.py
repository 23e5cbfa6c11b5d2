"""The model of pull time: it finds what made the data, and knows where it ends."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.ask.model import Image, Model, ModelError, fit, fit_samples, predict
from schema.run_records import Rehearsal
from tests.analysis.recorded import write_run_folder, write_study
from tests.analysis.simulated import Noise, Site, chonks, simulate

LEVEL, PER_GB, PER_LAYER, PER_DOUBLING = 0.5, 6.5, 0.03, 0.2
IMAGES = chonks((0.5, 2.0, 7.0, 19.0), (9, 60, 125))
SITES = [Site(nodes) for nodes in (8, 16, 32)]


def truth(image: pd.Series, site: Site) -> float:
    return float(
        LEVEL + PER_GB * image["gb"] + PER_LAYER * image["layers"]
        + PER_DOUBLING * np.log2(site.nodes)
    )  # fmt: skip


def model_of(
    images: Sequence[str] = IMAGES, sites: Sequence[Site] = SITES, noise: float = 0.02
) -> Model:
    quiet = Noise(node=0.02, pull=0.03, trial=noise, cluster=0.0)
    samples = simulate(images, sites, truth, noise=quiet, wire=900)
    return fit_samples(samples, overhead=(10.0, 0.0, -1.0, 1.0))


def image(gb: float, layers: int, ratio: float = 900) -> Image:
    return Image("r/x:y", layers, gb * 1e9, gb * 1e9 / ratio)


def test_the_coefficients_lie_in_their_intervals() -> None:
    model = model_of()
    terms = {term.name: term for term in model.terms}
    for name, true in (
        ("unpacked GB", PER_GB), ("layers", PER_LAYER), ("log2(nodes)", PER_DOUBLING)
    ):  # fmt: skip
        wide = 2 * (terms[name].high - terms[name].low)
        assert terms[name].low - wide < true < terms[name].high + wide, name
    assert model.pulls == (8 + 16 + 32) * 12
    assert model.nodes == 56
    assert model.unseen_error < 0.06


def test_noise_does_not_bias_the_slope() -> None:
    slopes = [
        fit_samples(
            simulate(IMAGES, SITES, truth, noise=Noise(0.02, 0.2, 0.1, 0.0), seed=seed, wire=900)
        ).terms[1].value
        for seed in range(6)
    ]  # fmt: skip
    assert np.mean(slopes) == pytest.approx(PER_GB, rel=0.05)


def test_bytes_that_vary_only_together_are_left_out_and_named() -> None:
    assert model_of().left_out == {
        "compressed GB": "varies only together with unpacked GB and layers"
    }
    alone = model_of(chonks((1, 2, 4, 8), [9]), [Site(8)])
    assert alone.left_out["layers"] == "does not vary"
    assert alone.left_out["log2(nodes)"] == "does not vary"


def test_three_images_do_not_tell_three_terms() -> None:
    model = model_of(chonks([1.0], [9]) + chonks([4.0], [60]) + chonks([9.0], [30]), [Site(16)])
    assert model.left_out["layers"] == "too few images (3) to tell it apart"


def test_a_prediction_lies_near_the_truth_and_in_its_interval() -> None:
    expected, low, high = predict(model_of(), image(10.0, 100), 16).pull_s
    true = LEVEL + PER_GB * 10 + PER_LAYER * 100 + PER_DOUBLING * 4
    assert expected == pytest.approx(true, rel=0.05)
    assert low < true < high


def test_a_job_takes_as_long_as_its_slowest_pull_and_more() -> None:
    answer = predict(model_of(), image(10.0, 100), 32)
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
        predict(model_of(), asked, nodes)
    assert predict(model_of(), asked, nodes, extrapolate=True).pull_s[0] > 0


def test_a_combination_that_no_image_is_near_is_outside() -> None:
    model = model_of(chonks((1, 4, 9, 19), [9]) + chonks((0.05, 0.2, 0.5), [125]), [Site(16)])
    with pytest.raises(ModelError, match="no images of the data surround this combination"):
        predict(model, image(19.0, 125), 16)
    predict(model, image(10.0, 12), 16)


@pytest.mark.parametrize(
    ("unknown", "said"),
    [
        (Image("r/x:y", None, 1e9, 1e6), "needs layers of r/x:y"),
        (Image("r/x:y", 9, 1e9, None), "needs compressed GB of r/x:y"),
    ],
)
def test_an_unknown_property_is_requested(unknown: Image, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        predict(model_of(), unknown, 16)


def test_zero_filled_data_is_said() -> None:
    assert "up to 900 times smaller compressed" in model_of().caution
    assert fit_samples(simulate(IMAGES, SITES, truth, wire=2)).caution == ""


def test_measured_and_simulated_pulls_are_never_fitted_together(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=1))
    with pytest.raises(ModelError, match="measured and simulated nodes is meaningless"):
        fit(analysis.load([write_study(tmp_path / "m", (4,)), run]))


def test_too_little_data_is_an_error_with_its_numbers() -> None:
    with pytest.raises(ModelError, match="there are 16 of 2"):
        model_of(IMAGES[:2], [Site(8)])
