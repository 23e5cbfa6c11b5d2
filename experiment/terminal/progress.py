"""What a run tells while it goes on: phases, lines that stay, and what is happening at the moment.

It keeps the state and thins it out; experiment.terminal.views draws it for a terminal, as plain
lines, as JSON, or not at all. Everything said is also in the run's log. It may be called at every
change of a pod: most calls cost a comparison.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.table import Table

from experiment.errors import print_error
from experiment.measure.pods import PodState
from experiment.terminal.grid import ENDED, PROBLEM, PULLED, PULLING, STAGED, short_name
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
    """Of each node, in their order: keys of experiment.terminal.grid.MARKS."""


@dataclass(slots=True)
class State:
    """What is happening at the moment."""

    phase: str = ""
    begun: float = 0.0
    """time.monotonic() when the phase began."""
    text: str = ""
    done: int | None = None
    total: int | None = None
    """Of what the text tells: resources, nodes, events."""
    turn: int = 0
    """Number of the trial under way; 0 before the first."""
    rows: dict[int, Row] = field(default_factory=dict)
    """By trial, in the order of their turns."""


class View(Protocol):
    """Draws a run for somebody."""

    def begin(self, state: State) -> None:
        """A phase begins."""

    def end(self, state: State, seconds: float) -> None:
        """The phase is over."""

    def line(self, text: str, *, result: bool = False) -> None:
        """A line that stays; a result is what the run is for."""

    def change(self, state: State) -> None:
        """Something happened; called a few times a second at most."""

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table that stays, and the same as data."""


class Progress:
    """Tells what happens.

    Args:
        view: draws it.
        log: also told every line.
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
        """A line that stays."""
        self._log(text)
        with self._survived():
            self._view.line(text)

    def result(self, text: str) -> None:
        """A line that is shown to those too who want nothing but the result."""
        self._log(text)
        with self._survived():
            self._view.line(text, result=True)

    def now(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """What is happening at the moment, with how much of it is done."""
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
        """Nodes that are Ready."""
        self.now(f"{ready} of {nodes} nodes are Ready", ready, nodes)

    def collected(self, found: int, wanted: int) -> None:
        """Events that Cloud Logging holds, of those that the watch saw."""
        self.now(f"{found} of {wanted} events in the log", found, wanted)

    def plan(
        self,
        trials: Sequence[PlannedTrial],
        nodes: int,
        expected: Callable[[PlannedTrial], float],
    ) -> None:
        """Say what is to come, for the grid and for when trials are expected to end.

        Args:
            trials: in their order.
            nodes: measured nodes.
            expected: seconds that a trial is expected to take.
        """
        self._expected = expected
        self._state.rows = {
            trial.trial: Row(short_name(trial.image), [""] * nodes) for trial in trials
        }

    def rows(self, rows: dict[int, Row]) -> None:
        """Replace the grid."""
        self._state.rows = rows

    def pods(
        self, number: int, total: int, planned: PlannedTrial, pods: Sequence[PodState]
    ) -> None:
        """How far the pods of the trial under way are.

        Args:
            number: turn of the trial, from 1.
            total: trials of this attempt.
            planned: the trial.
            pods: of its Job, by completion index.
        """
        at = time.monotonic()
        over = sum(pod.over for pod in pods)
        if at - self._changed < _LEAST_PAUSE_S and over < len(pods):
            return
        statuses = [_status(pod) for pod in pods]
        row = self._state.rows.setdefault(planned.trial, Row(short_name(planned.image), []))
        row.statuses = [*statuses, *row.statuses[len(statuses) :]]
        self._state.turn = planned.trial
        pulled = sum(status in {PULLED, ENDED} for status in statuses)
        self._pace.begin(planned.trial, self._expected(planned), at)
        pace = self._pace.tell(pulled, at, ended=over == len(pods))
        told = f"{number}/{total} {row.label.strip()}: {pulled} of {len(pods)} nodes have pulled"
        self.now(told + pace, over, len(pods))

    def judged(self, cells: Sequence[CellRecord], nodes: Sequence[str]) -> None:
        """The ledger's word on cells, in place of what was seen of their pods."""
        place = {name: index for index, name in enumerate(nodes)}
        for cell in cells:
            row = self._state.rows.get(cell.trial)
            index = place.get(cell.node)
            if row is not None and index is not None and index < len(row.statuses):
                row.statuses[index] = cell.status
        with self._survived():
            self._view.change(self._state)

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """A table that stays, and the same as data."""
        with self._survived():
            self._view.table(table, rows)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show a phase while it lasts, and its time afterwards."""
        state = self._state
        state.phase, state.begun = name, time.monotonic()
        state.text, state.done, state.total = "", None, None
        self._changed = 0.0
        with self._survived():
            self._view.begin(state)
        try:
            yield
        finally:
            seconds = time.monotonic() - state.begun
            self._log(f"{name} took {seconds:.1f} s")
            with self._survived():
                self._view.end(state, seconds)


def _status(pod: PodState) -> str:
    if pod.failure:
        return PROBLEM
    if pod.over:
        return ENDED
    if pod.phase == "Running":
        return PULLED
    return PULLING if pod.node else STAGED


class _Pace:
    """How fast the nodes of a trial pull, and when it is expected to end.

    What a trial was expected to take is corrected by what the ones before it took, so the first
    one's end is not told.
    """

    def __init__(self) -> None:
        self._trial = 0
        self._begun = 0.0
        self._expected = 0.0
        self._asked = self._took = 0.0

    def begin(self, trial: int, expected_s: float, at: float) -> None:
        """Name the trial under way; the first call for it is its beginning."""
        if trial != self._trial:
            self._trial, self._begun, self._expected = trial, at, expected_s

    def tell(self, pulled: int, at: float, *, ended: bool) -> str:
        """The end of a sentence about the trial under way."""
        passed = at - self._begun
        if ended:
            self._asked += self._expected
            self._took += passed
            self._trial = 0
            return ""
        rate = f", {pulled / passed:.1f} a second" if pulled and passed > 0 else ""
        if not self._asked:
            return rate
        left = self._expected * self._took / self._asked - passed
        return f"{rate}, ends in about {left:.0f} s" if left > 0 else f"{rate}, later than expected"
