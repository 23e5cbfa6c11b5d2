from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.plan import deadline_s, expected_cost, order_trials, unpacked_bytes
from schema.run_records import Layer, PlannedImage
from schema.study import ImageSet, Order, Study

SIZES = (48702097, 127399102, 387602448, 19034736629)


def image(size: int, *diff_ids: str) -> PlannedImage:
    layers = tuple(
        Layer(digest=f"sha256:{size}{diff}", size_bytes=1000, diff_id=diff) for diff in diff_ids
    )
    tag = f"{len(diff_ids)}-layers-size-{size}-bytes"
    return PlannedImage(
        repository="ghcr.io/a/b", tag=tag, digest=f"sha256:{size:064x}", layers=layers
    )


def study(order: Order = Order.SHUFFLED, repetitions: int = 1) -> Study:
    tags = tuple(f"1-layers-size-{size}-bytes" for size in SIZES)
    images = (ImageSet(repository="ghcr.io/a/b", tags=tags),)
    return Study(name="s", images=images, order=order, repetitions=repetitions)


IMAGES = tuple(image(size, f"layer-{size}") for size in SIZES)


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_every_image_has_one_turn_in_each_repetition(seed: int, repetitions: int) -> None:
    trials = order_trials(study(repetitions=repetitions), IMAGES, seed)
    turns = Counter((trial.repetition, trial.image.tag) for trial in trials)
    assert set(turns.values()) == {1}
    assert len(trials) == repetitions * len(IMAGES)
    assert [trial.trial for trial in trials] == list(range(1, len(trials) + 1))


def test_the_same_seed_gives_the_same_order_and_another_one_another() -> None:
    orders = [
        tuple(trial.image.tag for trial in order_trials(study(repetitions=3), IMAGES, seed))
        for seed in (7, 7, 8)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("order", "sizes"),
    [(Order.ASCENDING, sorted(SIZES)), (Order.DESCENDING, sorted(SIZES, reverse=True))],
)
def test_ordered_by_size(order: Order, sizes: list[int]) -> None:
    trials = order_trials(study(order), IMAGES, seed=1)
    assert [unpacked_bytes(trial.image) for trial in trials] == sizes


def test_layers_of_earlier_images_are_counted_as_warm() -> None:
    images = (image(1, "base", "x"), image(2, "base", "y"), image(3, "base", "x", "y"))
    trials = order_trials(study(Order.ASCENDING), images, seed=1)
    assert {trial.image.digest: trial.warm_bytes for trial in trials} == {
        images[0].digest: 0,
        images[1].digest: 1000,
        images[2].digest: 3000,
    }


def test_a_repetition_of_an_image_without_copies_is_warm() -> None:
    trials = order_trials(study(repetitions=2), IMAGES, seed=1)
    assert all(trial.warm_bytes == 0 for trial in trials if trial.repetition == 1)
    assert all(trial.warm_bytes == 1000 for trial in trials if trial.repetition == 2)


def test_deadline_leaves_the_slowest_pull_of_the_original_study_seven_times_its_time() -> None:
    assert deadline_s(image(19034736629, "x")) > 7 * 121


def test_cost_grows_with_price_and_bytes() -> None:
    trials = order_trials(study(), IMAGES, seed=1)
    assert expected_cost(trials, 3.14).usd == pytest.approx(expected_cost(trials, 1.57).usd * 2)
    assert expected_cost(trials, 1).hours > expected_cost(trials[:1], 1).hours
