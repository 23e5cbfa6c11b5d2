import hashlib
import json
from datetime import timedelta

import pytest

from experiment.collect.warm_layers import (
    History,
    Left,
    chain_ids,
    read_answer,
    read_proof,
    removal_argument,
)
from schema.run_records import Layer, PlannedImage, PlannedTrial, RemovalRecord, TrialRecord
from tests.experiment.conftest import START


def image(name: str, *diff_ids: str) -> PlannedImage:
    layers = tuple(
        Layer(digest=f"sha256:{name}-{diff}", size_bytes=100, diff_id=diff) for diff in diff_ids
    )
    return PlannedImage(repository="r/i", tag=name, digest=f"sha256:{name}", layers=layers)


A, B = image("a", "base", "x"), image("b", "base", "y")
PLAN = [
    PlannedTrial(trial=number, repetition=1, image=which, warm_bytes=0)
    for number, which in enumerate((A, B, A), start=1)
]


def trial(number: int, minutes: float, cluster: str = "c", attempt: int = 1) -> TrialRecord:
    return TrialRecord(
        trial=number,
        repetition=1,
        attempt=attempt,
        reference=PLAN[number - 1].image.reference,
        job=f"t{number}",
        namespace="n",
        pods=(),
        staged_at=None,
        released_at=START + timedelta(minutes=minutes),
        first_bound_at=None,
        all_bound_at=None,
        last_finished_at=None,
        cluster=cluster,
    )


def removal(before: int, minutes: float, *, absent: bool = True, left: int = 0) -> RemovalRecord:
    return RemovalRecord(
        before_trial=before,
        node="n",
        reference=PLAN[before - 1].image.reference,
        at=START + timedelta(minutes=minutes),
        absent=absent,
        left_bytes=left,
    )


def test_snapshots_are_named_by_the_chain_of_layers() -> None:
    second = f"sha256:{hashlib.sha256(b'base x').hexdigest()}"
    assert chain_ids(A) == ["base", second]
    assert removal_argument(A).splitlines() == [
        "sha256:a",
        "sha256:a-base base",
        f"sha256:a-x {second}",
    ]


def test_layers_of_another_image_are_warm_until_it_is_removed() -> None:
    trials = [trial(1, 0), trial(2, 1), trial(3, 2)]
    history = History(PLAN, trials, [removal(3, 1.5)])
    assert history.before(trials[0], "n").warm_bytes == 0
    assert history.before(trials[1], "n").warm_bytes == 100
    third = history.before(trials[2], "n")
    assert (third.same_image, third.warm_bytes) == (1, 100)  # b has the base still
    assert third.proof is not None


def test_another_cluster_leaves_nothing_on_this_one() -> None:
    trials = [trial(1, 0), trial(3, 2, cluster="d", attempt=2)]
    before = History(PLAN, trials, []).before(trials[1], "n")
    assert (before.same_image, before.warm_bytes) == (None, 0)


def test_a_removal_proves_nothing_for_an_earlier_or_another_trial() -> None:
    trials = [trial(1, 0), trial(3, 2)]
    assert History(PLAN, trials, [removal(3, 3)]).before(trials[1], "n").proof is None
    assert History(PLAN, trials, [removal(1, 1)]).before(trials[1], "n").proof is None
    assert History(PLAN, trials, [removal(3, 1)]).before(trials[1], "other").proof is None


def test_what_a_node_says_of_layers_that_stay_counts() -> None:
    trials = [trial(3, 2)]
    before = History(PLAN, trials, [removal(3, 1, left=100)]).before(trials[0], "n")
    assert before.warm_bytes == 100


@pytest.mark.parametrize(
    ("left", "word"),
    [
        (Left(known=True, layers=(), partial=0), "still knows"),
        (Left(known=False, layers=(1,), partial=0), "sha256:a-x"),
        (Left(known=False, layers=(), partial=2), "half fetched"),
    ],
)
def test_absence_is_not_proved_while_anything_of_the_image_is_there(left: Left, word: str) -> None:
    why, _ = read_proof(A, left, [B])
    assert word in why


def test_layers_that_another_image_has_may_stay_and_are_counted() -> None:
    assert read_proof(A, Left(known=False, layers=(0,), partial=0), [B]) == ("", 100)


def test_an_answer_is_read() -> None:
    text = json.dumps([{"image": False, "layers": [0, 3], "partial": 1}])
    assert read_answer(text, 1) == [Left(known=False, layers=(0, 3), partial=1)]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '[{"image": true}]', "not JSON"])
def test_anything_else_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_answer(text, 1)
