from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from rich.table import Table

from experiment.terminal import progress as progress_module
from experiment.terminal.grid import ENDED, PULLING
from experiment.terminal.progress import Progress, Row, State
from experiment.terminal.views import (
    JsonView,
    LiveView,
    PipeSafeConsole,
    PlainView,
    choose_view,
    draw_grid,
)
from schema.output import Output
from schema.run_records import Status
from tests.experiment.cells import cell, planned


class Clock:
    """time.monotonic that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


class Listener(PlainView):
    """Keeps the texts and states."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.states: list[State] = []
        self.texts: list[str] = []

    def change(self, state: State) -> None:
        self.states.append(state)
        self.texts.append(state.text)


def plain() -> tuple[PlainView, io.StringIO]:
    text = io.StringIO()
    return PlainView(Console(file=text, width=120)), text


def test_a_phase_is_named_and_timed_in_plain_lines(clock: Clock) -> None:
    view, text = plain()
    log: list[str] = []
    progress = Progress(view, log.append)
    with progress.phase("provision"):
        clock.seconds += 12.34
    progress.say("a [bracket] stays")
    assert text.getvalue() == "provision ...\nprovision     12.3 s\na [bracket] stays\n"
    assert log == ["provision took 12.3 s", "a [bracket] stays"]


def test_a_trial_shows_how_many_have_pulled_and_fills_the_grid(clock: Clock) -> None:
    view = Listener()
    progress = Progress(view, lambda _line: None)
    progress.plan([planned(1), planned(2)], 5, lambda _trial: 10.0)
    statuses = ["staged", "pulling", "pulled", "ended", "problem"]
    progress.trial(1, 2, planned(1), statuses)
    clock.seconds += 2
    progress.trial(1, 2, planned(1), statuses)
    (state, _) = view.states
    assert state.rows[1].statuses == statuses
    assert state.rows[2].statuses == [""] * 5
    assert state.text == "1/2 9 x     48.7 MB: 2 of 5 nodes have pulled, 1.0 a second"
    assert (state.done, state.total, state.turn) == (2, 5, 1)


def test_the_end_of_a_trial_is_estimated_from_those_before_it(clock: Clock) -> None:
    view = Listener()
    progress = Progress(view, lambda _line: None)
    progress.plan([planned(1), planned(2)], 1, lambda trial: 10.0 * trial.trial)
    progress.trial(1, 2, planned(1), [PULLING])
    clock.seconds += 5
    progress.trial(1, 2, planned(1), [ENDED])
    clock.seconds += 1
    progress.trial(2, 2, planned(2), [PULLING])
    clock.seconds += 4
    progress.trial(2, 2, planned(2), [PULLING])
    clock.seconds += 9
    progress.trial(2, 2, planned(2), [PULLING])
    assert [text.partition("pulled")[2] for text in view.texts] == [
        "",
        "",
        ", ends in about 10 s",
        ", ends in about 6 s",
        ", later than expected",
    ]


def test_calls_in_quick_succession_cost_the_view_nothing(clock: Clock) -> None:
    view = Listener()
    progress = Progress(view, lambda _line: None)
    for _ in range(1000):
        progress.trial(1, 1, planned(1), [PULLING, ENDED])
        clock.seconds += 0.001
    assert len(view.states) <= 6


def test_the_ledger_overrides_the_status_of_pods() -> None:
    view = Listener()
    progress = Progress(view, lambda _line: None)
    progress.plan([planned(1)], 2, lambda _trial: 0.0)
    cells = [cell(1, "node-2", status=Status.EVICTED, reason="x"), cell(1, "elsewhere")]
    progress.judged(cells, ["node-1", "node-2"])
    assert view.states[-1].rows[1].statuses == ["", "evicted"]


def test_a_closed_output_does_not_end_a_run() -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    log: list[str] = []
    progress = Progress(PlainView(PipeSafeConsole(file=Closed())), log.append)
    with progress.phase("teardown"):
        progress.say("x")
        progress.table(Table())
    assert log[0] == "x"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    progress = Progress(JsonView(), lambda _line: None)
    progress.plan([planned(1)], 2, lambda _trial: 0.0)
    with progress.phase("measure"):
        progress.trial(1, 1, planned(1), [ENDED, PULLING])
        clock.seconds += 1
        progress.trial(1, 1, planned(1), [ENDED, ENDED])
    progress.result("Report: r")
    progress.table(Table(title="t"), [{"image": "i"}])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["kind"] for each in told] == [
        "begin",
        "progress",
        "progress",
        "end",
        "result",
        "table",
    ]
    assert (told[2]["done"], told[2]["total"]) == (2, 2)
    assert (told[2]["cells_ended"], told[2]["cells"]) == (2, 2)
    assert told[5]["rows"] == [{"image": "i"}]
    assert all(each["at"].endswith("+00:00") for each in told)


def test_quiet_shows_results_alone(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(choose_view(quiet=True), lambda _line: None)
    with progress.phase("measure"):
        progress.say("noise")
        progress.now("more noise")
    progress.result("Report: r")
    assert capsys.readouterr().out == "Report: r\n"


def test_plain_lines_show_news_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("experiment.terminal.views.time", clock)
    view, text = plain()
    progress = Progress(view, lambda _line: None)
    with progress.phase("collect"):
        for found in (1, 1, 2, 2, 3):
            clock.seconds += 4
            progress.collected(found, 3)
    assert text.getvalue().splitlines() == [
        "collect ...",
        "  1 of 3 events in the log",
        "  2 of 3 events in the log",
        "collect       20.0 s",
    ]


def test_the_view_is_chosen_by_options_and_by_where_output_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(choose_view(json_log=True), JsonView)
    assert type(choose_view()) is PlainView  # pytest's output is no terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(choose_view(), LiveView)


def grid_text(state: State, width: int, height: int, *, plain: bool = False) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width).print(draw_grid(state, width, height, plain))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_the_grid_shows_the_trials_around_the_one_under_way() -> None:
    rows = {n: Row(f"image {n}", ["ended" if n < 40 else ""] * 4) for n in range(1, 72)}
    rows[40] = Row("image 40", ["ended", "pulled", "pulling", "problem"])
    lines = grid_text(State(turn=40, rows=rows), 80, 5)
    assert lines == [
        " image 38                      ████",
        " image 39                      ████",
        ">image 40                      █▓▒!",
        " image 41                      ····",
        " image 42                      ····",
        "71 trials; ! problem, · not started, ▒ pulling, ▓ pulled, █ ended",
    ]
    assert grid_text(State(turn=40, rows=rows), 80, 1, plain=True)[0].endswith("#=~!")


def test_the_grid_of_256_nodes_fits_80_columns() -> None:
    statuses = ["ended"] * 255 + ["problem"]
    lines = grid_text(State(turn=1, rows={1: Row("image", statuses)}), 80, 5)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].endswith("█!")
    assert "a column is 6 nodes and shows the worst" in " ".join(lines)


def test_as_rows_the_result_is_alone_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(choose_view(output=Output.CSV), lambda _line: None)
    progress.say("A line.")
    progress.table(Table(caption="5 of 6 cells are valid"), [{"image": "=i", "valid": 5}])
    progress.result("Report: x")
    out, err = capsys.readouterr()
    assert out.splitlines() == ["image,valid", "'=i,5"]
    assert err.splitlines() == ["A line.", "5 of 6 cells are valid", "Report: x"]
