from __future__ import annotations

import io

import pytest

from experiment.errors import Interrupted, PlanError
from experiment.terminal.confirm import confirm
from schema.errors import ExitCode


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "message"),
    [("n\n", "Nothing was started."), ("", "Interrupted; nothing was started.")],
)
def test_a_no_and_an_interruption_have_the_same_exit_code(
    monkeypatch: pytest.MonkeyPatch, typed: str, message: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))  # its end is taken for Ctrl-C
    with pytest.raises(Interrupted) as caught:
        confirm("Continue?", "nothing was started")
    assert (caught.value.problem, caught.value.exit_code) == (message, ExitCode.INTERRUPTED)


def test_a_yes_is_taken_from_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    confirm("Continue?", "nothing was started")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(PlanError, match="not a terminal; nothing was started") as caught:
        confirm("Continue?", "nothing was started")
    assert caught.value.fix == "--yes"
