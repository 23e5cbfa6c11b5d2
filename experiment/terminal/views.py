"""Views of a run: live on a terminal, as plain lines, as JSON, or its results alone.

rich honours NO_COLOR and TERM=dumb; where standard output is not a terminal, lines are plain.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from experiment.terminal.grid import columns, legend, row
from experiment.terminal.progress import State, View
from experiment.waiting import now
from schema.inert import visible
from schema.output import Output, print_rows

_PLAIN_WIDTH = 120
_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 1.0
_BAR_WIDTH = 30
_LABEL_WIDTH = 30


class PipeSafeConsole(Console):
    """A console that survives a closed pipe and obeys no text from outside.

    At a closed pipe rich would end the program, with the cluster up. Control characters in texts of
    nodes and registries are printed as escapes.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, with control characters visible."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text, keep="\n\t")
            yield Segment(text, segment.style, segment.control)

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True


def choose_view(
    *, quiet: bool = False, json_log: bool = False, output: Output = Output.TABLE
) -> View:
    """Return the view for these options and for where standard output goes."""
    if json_log:
        return JsonView()
    if output is not Output.TABLE:
        return RowsView(output, results_only=quiet)
    console = make_console()
    if quiet or not console.is_terminal:
        return PlainView(console, results_only=quiet)
    return LiveView(console)


def make_console() -> Console:
    """Return a console on standard output; without a terminal it is wide enough for tables."""
    return PipeSafeConsole() if sys.stdout.isatty() else PipeSafeConsole(width=_PLAIN_WIDTH)


class PlainView:
    """A line when something has happened, and one every few seconds meanwhile.

    Args:
        console: to print to.
        results_only: print nothing but results and tables.
    """

    def __init__(self, console: Console, *, results_only: bool = False) -> None:
        self.console = console
        self._results_only = results_only
        self._printed_at = 0.0
        self._last = ""

    def begin(self, state: State) -> None:
        """Print the phase's name."""
        self._printed_at = time.monotonic()
        self.line(f"{state.phase} ...")

    def end(self, state: State, seconds: float) -> None:
        """Print how long it took."""
        self.line(f"{state.phase:<10} {seconds:7.1f} s")

    def line(self, text: str, *, result: bool = False) -> None:
        """Print it."""
        if result or not self._results_only:
            self.console.print(escape(text), highlight=False, soft_wrap=True)

    def change(self, state: State) -> None:
        """Print what is happening every few seconds, if it is new."""
        if state.text in {"", self._last} or time.monotonic() - self._printed_at < _PLAIN_EVERY_S:
            return
        self._printed_at, self._last = time.monotonic(), state.text
        self.line(f"  {state.text}")

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print it."""
        del rows
        self.console.print(table)


class LiveView(PlainView):
    """A bar and the run's grid below the lines, updated in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._state = State()
        self._live: Live | None = None

    def begin(self, state: State) -> None:
        """Start to draw."""
        self._state = state
        self._live = Live(
            get_renderable=self._draw, console=self.console, refresh_per_second=5, transient=True
        )
        self._live.start()

    def end(self, state: State, seconds: float) -> None:
        """Replace the drawing by the phase's duration."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        super().end(state, seconds)

    def change(self, state: State) -> None:
        """Do nothing: the drawing updates itself."""

    def _draw(self) -> RenderableType:
        state = self._state
        head = Text(f"{state.phase:<10} {time.monotonic() - state.started:5.0f} s  ", style="bold")
        head.append(state.text, style="not bold")
        head.no_wrap, head.overflow = True, "ellipsis"
        parts: list[RenderableType] = [head]
        if state.total:
            bar = Table.grid()  # a bar alone does not end its line
            bar.add_row(ProgressBar(state.total, state.done or 0, width=_BAR_WIDTH))
            parts.append(bar)
        if state.rows:
            room = self.console.height - len(parts) - 3
            parts.append(draw_grid(state, self.console.width, max(room, 3), self._plain))
        return Group(*parts)

    @property
    def _plain(self) -> bool:
        return not self.console.encoding.lower().startswith("utf")


def draw_grid(state: State, width: int, height: int, plain: bool) -> RenderableType:
    """Return the grid's rows around the trial under way, with a legend."""
    rows = list(state.rows.items())
    turn = next((at for at, (trial, _) in enumerate(rows) if trial == state.turn), 0)
    first = min(max(0, turn - height // 2), max(0, len(rows) - height))
    nodes = max(len(each.statuses) for _, each in rows)
    per_column = columns(nodes, width - _LABEL_WIDTH - 2)
    lines = []
    for trial, each in rows[first : first + height]:
        label = f"{'>' if trial == state.turn else ' '}{each.label[: _LABEL_WIDTH - 1]}"
        text = Text(f"{label:<{_LABEL_WIDTH}} ").append(row(each.statuses, per_column, plain=plain))
        text.no_wrap = True
        lines.append(text)
    statuses = {status for _, each in rows for status in each.statuses}
    hidden = f"{len(rows)} trials; " if len(rows) > height else ""
    note = Text(hidden + legend(sorted(statuses), per_column, plain=plain), style="dim")
    return Group(*lines, note)


class RowsView(PlainView):
    """The rows of the closing table on standard output, and everything else on standard error."""

    def __init__(self, output: Output, *, results_only: bool) -> None:
        super().__init__(PipeSafeConsole(stderr=True), results_only=results_only)
        self._output = output

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print its rows."""
        if caption := str(table.caption or ""):
            self.line(caption, result=True)
        print_rows(self._output, rows)


class JsonView:
    """One JSON object a line, on standard output."""

    def __init__(self) -> None:
        self._written_at = 0.0

    def begin(self, state: State) -> None:
        """Kind begin: a phase starts."""
        self._written_at = 0.0
        self._write("begin", phase=state.phase)

    def end(self, state: State, seconds: float) -> None:
        """Kind end: it is over."""
        self._write("end", phase=state.phase, seconds=round(seconds, 3))

    def line(self, text: str, *, result: bool = False) -> None:
        """Kind line, or kind result."""
        self._write("result" if result else "line", text=text)

    def change(self, state: State) -> None:
        """Kind progress: what is happening, at most once a second."""
        over = state.total is not None and state.done == state.total
        if not state.phase:
            return
        if not over and time.monotonic() - self._written_at < _JSON_EVERY_S:
            return
        self._written_at = time.monotonic()
        ended = sum(
            status not in {"", "staged", "pulling", "pulled"}
            for each in state.rows.values()
            for status in each.statuses
        )
        self._write(
            "progress",
            phase=state.phase,
            text=state.text,
            done=state.done,
            total=state.total,
            trial=state.turn or None,
            cells_ended=ended,
            cells=sum(len(each.statuses) for each in state.rows.values()),
        )

    def table(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Kind table: its rows."""
        self._write("table", title=str(table.title or ""), rows=list(rows))

    @staticmethod
    def _write(kind: str, **fields: Any) -> None:
        at = now().isoformat(timespec="milliseconds")
        sys.stdout.write(json.dumps({"at": at, "kind": kind, **fields}) + "\n")
        sys.stdout.flush()
