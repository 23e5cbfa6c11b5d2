from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.plan.trial_order import (
    copy_tag,
    copy_tags,
    deadline_s,
    disk_bytes,
    order_trials,
    removals,
    through,
    unpacked_bytes,
)
from schema.run_records import Layer, PlannedImage
from schema.study import ImageSet, Order, RepeatBy, Share, Study

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


def test_layers_of_the_view_of_miniclusters_are_warm_from_the_start() -> None:
    own, view = image(1, "base", "x"), image(9, "base", "flux")
    (trial,) = order_trials(study(), (own,), seed=1, view=view)
    assert (trial.warm_bytes, trial.view) == (1000, view)
    assert disk_bytes([trial]) > disk_bytes(order_trials(study(), (own,), seed=1))


def test_an_image_that_is_removed_before_its_next_turn_is_warm_through_others_alone() -> None:
    images = (image(1, "base", "x"), image(2, "base", "y"))
    trials = order_trials(study(Order.ASCENDING, repetitions=2), images, seed=1)
    assert [trial.warm_bytes for trial in trials] == [0, 1000, 1000, 1000]
    assert removals(trials) == {3, 4}


def test_copies_take_the_turns_of_later_repetitions_and_nothing_is_removed() -> None:
    copies = ((image(3, "z"), image(4, "w")),)
    images = (image(1, "x"), image(2, "y"))
    trials = order_trials(study(Order.ASCENDING, repetitions=2), images, 1, copies)
    assert [unpacked_bytes(trial.image) for trial in trials] == [1000, 1000, 1000, 1000]
    assert [trial.repetition for trial in trials] == [1, 1, 2, 2]
    assert len({trial.image.digest for trial in trials}) == 4
    assert removals(trials) == set()


@pytest.mark.parametrize(
    ("tag", "copied"),
    [
        ("9-layers-size-1000-bytes", "9-layers-size-1000-bytes-r2"),
        ("9-layers-size-1000-bytes-b", "9-layers-size-1000-bytes-br2"),
        ("9-layers-size-1000-bytes-gzip1", "9-layers-size-1000-bytes-gzip1sr2"),
        ("9-layers-size-1000-bytes-gzip1sa", "9-layers-size-1000-bytes-gzip1sar2"),
        ("latest", "latest"),
    ],
)
def test_a_copy_keeps_its_kind_and_has_a_salt_of_its_own(tag: str, copied: str) -> None:
    assert copy_tag(tag, 2) == copied


def test_only_a_study_that_asks_for_copies_has_them() -> None:
    asked = study(repetitions=3)
    assert copy_tags(asked) == []
    copied = copy_tags(asked.model_copy(update={"repeat_by": RepeatBy.COPIES}))
    assert [names[0] for names in copied] == [
        ("ghcr.io/a/b", f"1-layers-size-{SIZES[0]}-bytes-r2"),
        ("ghcr.io/a/b", f"1-layers-size-{SIZES[0]}-bytes-r3"),
    ]


def test_disk_holds_each_image_once_unpacked_and_shared_blobs_once() -> None:
    first, second = image(5000, "base", "x"), image(7000, "base", "y")
    shared = second.model_copy(update={"layers": (first.layers[0], second.layers[1])})
    trials = order_trials(study(Order.ASCENDING, repetitions=2), (first, shared), seed=1)
    assert disk_bytes(trials) == 5000 + 7000 + 3 * 1000


def test_deadline_leaves_the_slowest_pull_of_the_original_study_seven_times_its_time() -> None:
    (planned,) = order_trials(study(), [image(19034736629, "x")], 1)
    assert deadline_s(planned) > 7 * 121


def test_a_trial_that_reads_its_image_has_as_long_again_for_that() -> None:
    reading = study().model_copy(update={"read": (Share.TENTH, Share.ALL)})
    (planned,) = order_trials(reading, [image(19034736629, "x")], 1)
    (pulling,) = order_trials(study(), [image(19034736629, "x")], 1)
    assert (planned.read_share, pulling.read_share) == (1.0, 0.0)
    assert deadline_s(planned) - deadline_s(pulling) == pytest.approx(19034736629 / 20e6, abs=1)


def test_only_images_of_the_registry_go_through_its_remote_repository() -> None:
    other = image(5, "x").model_copy(update={"repository": "ghcr.io.example/a/b"})
    trials = order_trials(study(Order.ASCENDING), (*IMAGES, other), 1)
    found = {
        trial.image.digest: trial.image
        for trial in through(trials, "ghcr.io", "r-docker.pkg.dev/p/cache")
    }
    assert found[other.digest] == other
    assert found[IMAGES[0].digest].repository == "r-docker.pkg.dev/p/cache/a/b"
    assert found[IMAGES[0].digest].source == "ghcr.io/a/b"
    assert through(trials, "", "") == trials
