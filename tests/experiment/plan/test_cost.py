from datetime import datetime

import pytest

from experiment.errors import BudgetError, PlanError
from experiment.plan.cost import Budget, expected_trial_s, run_estimate, teardown_s, trial_range
from schema.errors import ExitCode
from schema.run_records import Phase, PhaseRecord, PlannedTrial
from tests.experiment.cells import at, planned
from tests.experiment.plan.test_trial_order import image

RUN1 = (1176249324, 2770722493, 6836726027, 10902729561, 14968733095, 19034736629)
TURNS = {
    4: (17.857, 35.589, 75.665, 104.853, 144.770, 175.568),
    8: (18.188, 35.370, 77.753, 102.180, 140.293, 172.044),
    16: (19.478, 35.681, 77.756, 103.333, 140.038, 169.192),
}
"""Seconds from first Scheduled to Job complete of the original study's run1, from its events."""
SLOWEST_PULL = {
    4: (7.707, 16.211, 40.901, 85.845, 116.772, 154.882),
    8: (8.110, 15.699, 40.531, 84.027, 112.348, 147.621),
    16: (7.619, 16.650, 42.329, 84.088, 113.449, 147.480),
}


def trial(size: int, warm: int = 0, layers: int = 9) -> PlannedTrial:
    names = [f"{size}-{n}" for n in range(layers)]
    return PlannedTrial(trial=1, repetition=1, image=image(size, *names), warm_bytes=warm)


@pytest.mark.parametrize("nodes", sorted(TURNS))
def test_the_range_holds_every_trial_of_the_original_study(nodes: int) -> None:
    for size, turn, pull in zip(RUN1, TURNS[nodes], SLOWEST_PULL[nodes], strict=True):
        low, expected, high = trial_range(trial(size), nodes)
        assert low <= expected <= high
        assert low <= pull + 2, size
        assert turn <= high, size


def test_larger_clusters_take_longer_and_the_original_growth_is_the_most() -> None:
    spans = [trial_range(trial(RUN1[0]), nodes) for nodes in (16, 32, 64, 128, 256)]
    for which in (1, 2):
        assert [span[which] for span in spans] == sorted(span[which] for span in spans)
    assert spans[-1][2] - spans[0][2] == pytest.approx(38.8)
    assert trial_range(trial(RUN1[0]), 2000)[2] >= spans[-1][2] + 100


def test_warm_layers_take_no_time() -> None:
    cold, warm = trial(RUN1[5]), trial(RUN1[5], warm=8100)
    assert expected_trial_s(warm) < 0.2 * expected_trial_s(cold)


def test_cost_is_hours_at_the_price_and_grows_with_trials() -> None:
    one, two = (run_estimate([trial(RUN1[0])] * count, 4, 3.34) for count in (1, 2))
    assert one.usd == pytest.approx(tuple(hours * 3.34 for hours in one.hours))
    assert two.hours[1] > one.hours[1]
    assert len(two.trial_s) == 2


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return at(self.seconds)


NEXT_S = expected_trial_s(planned()) + teardown_s()


def phase(name: Phase, begin: float, end: float) -> PhaseRecord:
    return PhaseRecord(phase=name, started_at=at(begin), ended_at=at(end))


def test_a_trial_may_start_until_it_and_the_teardown_would_cost_too_much() -> None:
    clock = Clock()
    limit = (1000 + NEXT_S) / 3600 * 36
    budget = Budget(limit, 36.0, lambda: [phase(Phase.PROVISION, 0, 100)], clock)
    clock.seconds = 999
    budget.may_begin(planned())
    clock.seconds = 1001
    with pytest.raises(BudgetError, match=r"the cluster has cost 10\.01 USD") as caught:
        budget.may_begin(planned())
    assert caught.value.exit_code is ExitCode.BUDGET
    assert "--budget-usd" in caught.value.fix


def test_earlier_attempts_count_and_the_pause_between_does_not() -> None:
    clock = Clock()
    earlier = [
        phase(Phase.PREFLIGHT, 0, 50),
        phase(Phase.PROVISION, 50, 150),
        phase(Phase.MEASURE, 150, 450),
        phase(Phase.TEARDOWN, 450, 550),
        phase(Phase.PREFLIGHT, 9000, 9001),
        phase(Phase.PROVISION, 9001, 9101),
    ]
    limit = (500 + 200 + NEXT_S) / 3600
    budget = Budget(limit, 1.0, lambda: earlier, clock)
    clock.seconds = 9001 + 199
    budget.may_begin(planned())
    clock.seconds = 9001 + 201
    with pytest.raises(BudgetError):
        budget.may_begin(planned())


def test_without_a_limit_every_trial_may_start() -> None:
    Budget(None, 0.0, list).may_begin(planned())


def test_a_budget_without_a_price_is_refused() -> None:
    with pytest.raises(PlanError, match="The price of this cluster is not known"):
        Budget(5.0, 0.0, list)
