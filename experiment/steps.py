"""What the runner waited for within a phase, step by step, for the account of a run's time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from schema.run_records import StepRecord


class Steps:
    """The steps of one phase.

    Args:
        now: the runner's clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._steps: list[StepRecord] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, however it ends."""
        started_at = self._now()
        try:
            yield
        finally:
            self._steps.append(StepRecord(name=name, started_at=started_at, ended_at=self._now()))

    def take(self) -> tuple[StepRecord, ...]:
        """The steps so far; counting begins anew."""
        taken, self._steps = tuple(self._steps), []
        return taken
