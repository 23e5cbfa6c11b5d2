"""Progress of a run: phases, lines that stay, and the current state.

It keeps the state and limits how often it is drawn; experiment.terminal.views draws it for a
terminal, as plain lines or as JSON. Every line is also in the run's log. It may be called at every
change of a pod.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.table import Table

from experiment.errors import print_error
from experiment.terminal.grid import ENDED, PROBLEM, PULLED, short_name
from schema.run_records import CellRecord, PlannedTrial

Say = Callable[[str], None]
"""Shows the user one line."""


def silent(_line: str) -> None:
    """Show nothing (a Say)."""


_LEAST_PAUSE_S = 0.2
_LOG_EVERY_S = 2.0


@dataclass(slots=True)
class Row:
    """One trial of the grid."""

    label: str
    statuses: list[str]
    """Of each node, in their order: keys of experiment.terminal.grid.SIGNS."""


@dataclass(slots=True)
class State:
    """The current state of a run."""

    phase: str = ""
    started: float = 0.0
    """time.monotonic() when the phase started."""
    text: str = ""
    done: int | None = None
    total: int | None = None
    """Of what the text counts: resources, nodes, events."""
    turn: int = 0
    """Number of the trial under way; 0 before the first."""
    rows: dict[int, Row] = field(default_factory=dict)
    """By trial, in the order of their turns."""


class View(Protocol):
    """Draws a run."""

    def begin(self, state: State) -> None:
        """Draw that a phase starts."""

    def end(self, state: State, seconds: float) -> None:
        """Draw that the phase has ended."""

    def line(self, text: str, *, result: bool = False) -> None:
        """Draw a line that stays; `result`: also with --quiet."""

    def change(self, state: State) -> None:
        """Draw the current state; called a few times a second at most."""

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw a table that stays; `rows` are the same as data."""


class Progress:
    """Shows what happens; no method fails where terminal or log does.

    Args:
        view: draws it.
        log: also called with every line.
    """

    def __init__(self, view: View, log: Callable[[str], None]) -> None:
        self._view = view
        self._log_line = log
        self._failed = False
        self._state = State()
        self._changed = self._logged = 0.0
        self._expected: Callable[[PlannedTrial], float] = lambda _planned: 0.0
        self._pace = _Pace()

    def _log(self, text: str) -> None:
        with self._survived():
            self._log_line(text)

    @contextmanager
    def _survived(self) -> Iterator[None]:
        """Let no failing terminal or log end a run, least of all before its teardown."""
        try:
            yield
        except OSError:
            pass  # a closed terminal or pipe, a full disk
        except Exception as error:  # noqa: BLE001 (see above)
            if not self._failed:
                print_error(f"Progress cannot be shown: {error!r}")
            self._failed = True

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._log(text)
        with self._survived():
            self._view.line(text)

    def result(self, text: str) -> None:
        """Show a line that stays, also with --quiet."""
        self._log(text)
        with self._survived():
            self._view.line(text, result=True)

    def now(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show what is happening at the moment, and how much of it is done."""
        state = self._state
        state.text, state.done, state.total = text, done, total
        at = time.monotonic()
        over = total is not None and done == total
        if at - self._changed >= _LEAST_PAUSE_S or over:
            self._changed = at
            with self._survived():
                self._view.change(state)
        if at - self._logged >= _LOG_EVERY_S or over:
            self._logged = at
            self._log(f"{state.phase}: {text}")

    def ready(self, ready: int, nodes: int) -> None:
        """Show how many nodes are Ready."""
        self.now(f"{ready} of {nodes} nodes are Ready", ready, nodes)

    def collected(self, found: int, expected: int) -> None:
        """Show how many of the events that the watch saw are in Cloud Logging."""
        self.now(f"{found} of {expected} events in the log", found, expected)

    def plan(
        self,
        trials: Sequence[PlannedTrial],
        nodes: int,
        expected: Callable[[PlannedTrial], float],
    ) -> None:
        """Set the rows of the grid and the expected time of each trial.

        Args:
            trials: in their order.
            nodes: measured nodes.
            expected: returns the seconds that a trial is expected to take.
        """
        self._expected = expected
        self._state.rows = {
            trial.trial: Row(short_name(trial.image), [""] * nodes) for trial in trials
        }

    def rows(self, rows: dict[int, Row]) -> None:
        """Replace the grid."""
        self._state.rows = rows

    def trial(
        self, number: int, total: int, planned: PlannedTrial, statuses: Sequence[str]
    ) -> None:
        """Show how far the trial under way is.

        Args:
            number: turn of the trial, from 1.
            total: trials of this attempt.
            planned: the trial.
            statuses: of its cells, by node: keys of experiment.terminal.grid.SIGNS.
        """
        at = time.monotonic()
        over = sum(status in {ENDED, PROBLEM} for status in statuses)
        if at - self._changed < _LEAST_PAUSE_S and over < len(statuses):
            return
        row = self._state.rows.setdefault(planned.trial, Row(short_name(planned.image), []))
        row.statuses = [*statuses, *row.statuses[len(statuses) :]]
        self._state.turn = planned.trial
        pulled = sum(status in {PULLED, ENDED} for status in statuses)
        self._pace.start(planned.trial, self._expected(planned), at)
        pace = self._pace.text(pulled, at, ended=over == len(statuses))
        done = (
            f"{number}/{total} {row.label.strip()}: {pulled} of {len(statuses)} nodes have pulled"
        )
        self.now(done + pace, over, len(statuses))

    def judged(self, cells: Sequence[CellRecord], nodes: Sequence[str]) -> None:
        """Show judged cells, in place of the status of their pods."""
        place = {name: index for index, name in enumerate(nodes)}
        for cell in cells:
            row = self._state.rows.get(cell.trial)
            index = place.get(cell.node)
            if row is not None and index is not None and index < len(row.statuses):
                row.statuses[index] = cell.status
        with self._survived():
            self._view.change(self._state)

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Show a table that stays; `rows` are the same as data."""
        with self._survived():
            self._view.table(table, rows)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show a phase while it lasts, and its duration afterwards."""
        state = self._state
        state.phase, state.started = name, time.monotonic()
        state.text, state.done, state.total = "", None, None
        self._changed = 0.0
        with self._survived():
            self._view.begin(state)
        try:
            yield
        finally:
            seconds = time.monotonic() - state.started
            self._log(f"{name} took {seconds:.1f} s")
            with self._survived():
                self._view.end(state, seconds)


class _Pace:
    """How fast the nodes of a trial pull, and when it is expected to end.

    The expected time of a trial is corrected by what the ones before it took, so the first one's
    end is not shown.
    """

    def __init__(self) -> None:
        self._trial = 0
        self._started = 0.0
        self._expected = 0.0
        self._all_expected = self._all_took = 0.0

    def start(self, trial: int, expected_s: float, at: float) -> None:
        """Name the trial under way; the first call for it is its start."""
        if trial != self._trial:
            self._trial, self._started, self._expected = trial, at, expected_s

    def text(self, pulled: int, at: float, *, ended: bool) -> str:
        """Return the end of a sentence about the trial under way."""
        passed = at - self._started
        if ended:
            self._all_expected += self._expected
            self._all_took += passed
            self._trial = 0
            return ""
        rate = f", {pulled / passed:.1f} a second" if pulled and passed > 0 else ""
        if not self._all_expected:
            return rate
        left = self._expected * self._all_took / self._all_expected - passed
        return f"{rate}, ends in about {left:.0f} s" if left > 0 else f"{rate}, later than expected"
