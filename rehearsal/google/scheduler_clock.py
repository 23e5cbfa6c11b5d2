"""What the local Google does by the clock, unasked: scheduled jobs, hourly batches of log sinks."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

_LOG = logging.getLogger(__name__)
_PAUSE_S = 1.0

Act = Callable[[datetime], None]
"""Told the time in UTC, once a second; does what is due and returns soon."""


class Clock:
    """Calls what is to be done by the clock, in a thread of its own, once it is started."""

    def __init__(self) -> None:
        self._acts: list[Act] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def add(self, act: Act) -> None:
        """Call this too; before `start`."""
        self._acts.append(act)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being done is done to its end."""
        self._ending.set()
        self._thread.join(5)

    def tick(self, at: datetime) -> None:
        """Do what is due at a time."""
        for act in self._acts:
            try:
                act(at)
            except Exception:  # noqa: BLE001 (one thing's failure must not stop the others)
                _LOG.exception("what was due at %s failed", at)

    def _run(self) -> None:
        while not self._ending.wait(_PAUSE_S):
            self.tick(datetime.now(UTC))
