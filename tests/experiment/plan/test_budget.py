from datetime import datetime

import pytest

from experiment.errors import BudgetError, PlanError
from experiment.plan.budget import Budget
from experiment.plan.cost import expected_trial_s, teardown_s
from schema.errors import ExitCode
from schema.run_records import Phase, PhaseRecord
from tests.experiment.cells import at, planned


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return at(self.seconds)


NEXT_S = expected_trial_s(planned()) + teardown_s()


def phase(name: Phase, begin: float, end: float) -> PhaseRecord:
    return PhaseRecord(phase=name, started_at=at(begin), ended_at=at(end))


def test_a_trial_begins_until_it_and_the_teardown_would_cost_too_much() -> None:
    clock = Clock()
    limit = (1000 + NEXT_S) / 3600 * 36
    budget = Budget(limit, 36.0, lambda: [phase(Phase.PROVISION, 0, 100)], clock)
    clock.seconds = 999
    budget.may_begin(planned())
    clock.seconds = 1001
    with pytest.raises(BudgetError, match=r"the cluster has cost 10\.01 US dollars") as caught:
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


def test_without_a_limit_every_trial_begins() -> None:
    Budget(None, 0.0, list).may_begin(planned())


def test_a_budget_without_a_price_is_refused() -> None:
    with pytest.raises(PlanError, match="Nothing says what an hour of this cluster costs"):
        Budget(5.0, 0.0, list)
