"""What a plan can answer, and the power of its contrasts."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from analysis.ask.power import Noise, Precision, Question, Site, power, questions
from analysis.ask.questions.contrasts import image_effects
from schema.study import Contrast
from tests.analysis.simulated import REPOSITORY, chonks, facts_of, simulate

SIX = chonks((1, 3, 7, 10, 15, 19), [9])
COPIES = [image.replace("ghcr.io", "pkg.dev") + "-b" for image in SIX]
LARGE = Site(machine_type="n1-standard-64")


def asked(
    images: list[str], sites: list[Site], *named: Contrast, noise: Noise | None = None
) -> dict[str, Question]:
    trials = facts_of(images).assign(repetition=1)
    found = questions(trials, sites, named, **({"noise": noise} if noise else {}))
    return {question.contrast: question for question in found}


@pytest.mark.parametrize("freedom", [3, 20])
@pytest.mark.parametrize("effect", [0.02, 0.1])
def test_the_power_is_that_of_a_t_test(freedom: int, effect: float) -> None:
    error, n = 0.03, freedom + 1
    known = TTestPower().power(np.log1p(effect) / (error * np.sqrt(n)), n, 0.05, df=freedom)
    assert power(effect, Precision(error, freedom, "")) == pytest.approx(known, rel=1e-6)


def test_a_large_effect_is_found_for_certain() -> None:
    assert power(9.0, Precision(0.01, 30, "")) == pytest.approx(1.0)


def test_one_cluster_a_side_answers_nothing_and_three_do() -> None:
    one = asked(SIX, [Site(), LARGE])[Contrast.MACHINE]
    assert (one.answered, one.power, one.why) == (False, (), "one cluster each")
    three = asked(SIX, [Site()] * 3 + [LARGE] * 3)[Contrast.MACHINE]
    assert three.answered
    assert three.basis == "3 clusters a side"
    assert three.power[0] < 0.5
    assert three.power[1] > 0.9


def test_more_trials_give_more_power() -> None:
    few = asked([*SIX[:2], *COPIES[:2]], [Site()])[Contrast.REGISTRY]
    many = asked([*SIX, *COPIES], [Site()])[Contrast.REGISTRY]
    assert (few.basis, many.basis) == ("2 trials a side", "6 trials a side")
    assert few.power < many.power


def test_a_contrast_that_the_study_names_and_does_not_vary_is_said() -> None:
    found = asked(SIX, [Site()], Contrast.DISK)
    assert found[Contrast.DISK].why == "all nodes have one type of disk, or none is known"
    assert Contrast.ZONE not in found


def test_large_clusters_take_no_longer_to_plan() -> None:
    found = asked(SIX, [Site(n) for n in (4, 16, 64, 128, 256)])[Contrast.CLUSTER_SIZE]
    assert found.basis == "5 clusters"
    assert found.power[1] > 0.9


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_power_is_what_simulated_studies_find() -> None:
    noise = Noise()
    stated = asked([*SIX, *COPIES], [Site()], noise=noise)[Contrast.REGISTRY].power[0]
    other = REPOSITORY.replace("ghcr.io", "pkg.dev")
    found = [
        image_effects(
            simulate(
                [*SIX, *COPIES], [Site()], lambda i, _: 1.05 if "pkg.dev" in i["repository"] else 1,
                seed=seed, noise=noise,
            ),
            "repository", REPOSITORY,
        )[other].clear
        for seed in range(200)
    ]  # fmt: skip
    assert np.mean(found) == pytest.approx(stated, abs=0.12)
