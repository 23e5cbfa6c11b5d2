from datetime import timedelta

from experiment.collect.warm_layers import LayerHistory
from schema.run_records import PlannedTrial, RemovalRecord, TrialRecord
from tests.experiment.cells import layered_image
from tests.experiment.conftest import START

A, B = layered_image("a", "base", "x"), layered_image("b", "base", "y")
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


def test_layers_of_another_image_are_warm_until_it_is_removed() -> None:
    trials = [trial(1, 0), trial(2, 1), trial(3, 2)]
    history = LayerHistory(PLAN, trials, [removal(3, 1.5)])
    assert history.before(trials[0], "n").warm_bytes == 0
    assert history.before(trials[1], "n").warm_bytes == 100
    third = history.before(trials[2], "n")
    assert (third.same_image, third.warm_bytes) == (1, 100)  # b has the base still
    assert third.proof is not None


def test_another_cluster_leaves_nothing_on_this_one() -> None:
    trials = [trial(1, 0), trial(3, 2, cluster="d", attempt=2)]
    before = LayerHistory(PLAN, trials, []).before(trials[1], "n")
    assert (before.same_image, before.warm_bytes) == (None, 0)


def test_a_removal_proves_nothing_for_an_earlier_or_another_trial() -> None:
    trials = [trial(1, 0), trial(3, 2)]
    assert LayerHistory(PLAN, trials, [removal(3, 3)]).before(trials[1], "n").proof is None
    assert LayerHistory(PLAN, trials, [removal(1, 1)]).before(trials[1], "n").proof is None
    assert LayerHistory(PLAN, trials, [removal(3, 1)]).before(trials[1], "other").proof is None


def test_what_a_node_reports_of_layers_that_stay_counts() -> None:
    trials = [trial(3, 2)]
    before = LayerHistory(PLAN, trials, [removal(3, 1, left=100)]).before(trials[0], "n")
    assert before.warm_bytes == 100
