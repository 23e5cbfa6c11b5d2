"""--budget-usd: no trial begins that would make the cluster cost more than it may.

It counts the time since provisioning began, in every attempt, at the stack's list price; what the
cloud really charges (discounts, traffic, storage) it does not know.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from experiment.errors import BudgetError, PlanError
from experiment.plan.cost import expected_trial_s, teardown_s
from schema.run_records import Phase, PhaseRecord, PlannedTrial


class Budget:
    """What a run may cost.

    Args:
        limit_usd: None for no limit.
        usd_per_hour: of the cluster.
        phases: gives all phases of the run that have ended, every attempt.
        now: the runner's clock.

    Raises:
        PlanError: there is a limit and no price.
    """

    def __init__(
        self,
        limit_usd: float | None,
        usd_per_hour: float,
        phases: Callable[[], Sequence[PhaseRecord]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if limit_usd is not None and not usd_per_hour:
            raise PlanError(
                "Nothing says what an hour of this cluster costs, so no budget can be kept.",
                "leave --budget-usd out",
            )
        self._limit = limit_usd
        self._usd_per_s = usd_per_hour / 3600
        self._phases = phases
        self._now = now
        self._earlier_s: float | None = None
        self._since = now()

    def may_begin(self, planned: PlannedTrial) -> None:
        """Refuse a trial that would cost more than is left.

        Raises:
            BudgetError: it would.
        """
        if self._limit is None:
            return
        if self._earlier_s is None:
            self._look_back()
        spent = self._usd_per_s * (
            (self._earlier_s or 0.0) + (self._now() - self._since).total_seconds()
        )
        then = spent + self._usd_per_s * (expected_trial_s(planned) + teardown_s())
        if then > self._limit:
            raise BudgetError(
                f"Trial {planned.trial} was not begun: the cluster has cost {spent:.2f} US dollars "
                f"so far, and with this trial and the teardown it would be {then:.2f}, above the "
                f"budget of {self._limit:.2f}."
            )

    def _look_back(self) -> None:
        """What earlier attempts took, and when this one began to cost; read once."""
        spans: list[tuple[datetime, datetime]] = []
        for record in self._phases():
            if record.phase is Phase.PROVISION:
                spans.append((record.started_at, record.ended_at))
            elif record.phase is not Phase.PREFLIGHT and spans:
                spans[-1] = (spans[-1][0], record.ended_at)
        if spans:
            self._since = spans.pop()[0]
        self._earlier_s = sum((end - begin).total_seconds() for begin, end in spans)
