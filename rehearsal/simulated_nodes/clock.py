"""Time on simulated nodes: seconds that pass some times faster than the clock.

A node's instants are seconds since the emitter began, `speed` of them to one of the clock. What is
written down of an instant is the clock's time at it, so records hold real times alone. How late
the emitter is in doing what was due is measured here: what is due at an instant is stamped with
that instant, and what lateness spoils is when others come to know.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from rehearsal.simulated_nodes.lateness import Lateness


class Clock:
    """The clock of an emitter's nodes."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.waking = Lateness()
        """Of waking up when something was due."""
        self.telling = Lateness()
        """Of the API server's having heard of it."""
        self._began = time.monotonic()
        self._began_at = datetime.now(UTC)

    def now(self) -> float:
        """The present instant."""
        return (time.monotonic() - self._began) * self.speed

    def at(self, instant: float) -> datetime:
        """The clock's time at an instant, to the microsecond."""
        return self._began_at + timedelta(seconds=instant / self.speed)

    def told(self, instant: float) -> None:
        """Something of this instant has reached the API server just now."""
        self.telling.add((self.now() - instant) / self.speed)

    async def until(self, instant: float) -> None:
        """Sleep until an instant."""
        await asyncio.sleep(max(0.0, (instant - self.now()) / self.speed))
        self.waking.add((self.now() - instant) / self.speed)
