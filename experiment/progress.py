"""What the user sees while a run goes on: rich on a terminal, plain lines elsewhere.

A phase is shown with its time; `now` replaces itself on a terminal and is thinned out elsewhere.
Everything said is also in the run's log.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

_PLAIN_EVERY_S = 5.0


class Progress:
    """Tells the user what happens.

    Args:
        console: where to.
        log: also told every line.
    """

    def __init__(self, console: Console, log: Callable[[str], None]) -> None:
        self._console = console
        self._log = log
        self._status: Status | None = None
        self._phase = ""
        self._last_plain = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._log(text)
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def now(self, text: str) -> None:
        """What is happening at the moment."""
        self._log(f"{self._phase}: {text}")
        if self._status is not None:
            self._status.update(f"{escape(self._phase)}: {escape(text)}")
            return
        if time.monotonic() - self._last_plain >= _PLAIN_EVERY_S:
            self._last_plain = time.monotonic()
            self._console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table that stays."""
        self._console.print(table)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show a phase while it lasts, and its time afterwards."""
        begun = time.monotonic()
        self._phase = name
        self._last_plain = begun
        try:
            if self._console.is_terminal:
                with self._console.status(escape(name)) as self._status:
                    yield
            else:
                self._console.print(f"{name} ...", highlight=False)
                yield
        finally:
            self._status = None
            self.say(f"{name:<10} {time.monotonic() - begun:7.1f} s")
