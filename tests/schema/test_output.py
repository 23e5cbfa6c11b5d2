"""One option for what a command prints, in four forms."""

import csv
import io
import json
import re
from collections.abc import Sequence

import pytest
from typer import Typer
from typer.testing import CliRunner

from schema.output import Output, OutputRow, print_rows, text_of
from tests.schema.test_program import APPS, COMMANDS

ROWS: list[OutputRow] = [
    {"image": "=HYPERLINK(1)", "pull_s": 1.5, "marks": ["a", "b"], "note": None},
    {"image": "a|b\x1b[2J", "pull_s": -2.0, "marks": [], "note": "two\nlines"},
]
WITH_OUTPUT = {
    *("analysis audit", "analysis compare", "analysis predict"),
    *(
        "experiment collect",
        "experiment files",
        "experiment ledger",
        "experiment list",
        "experiment plan",
    ),
    *("experiment preflight", "experiment preview", "experiment run", "experiment time"),
    *("images inspect", "images sizes", "rehearsal doctor", "rehearsal faults"),
}
"""Every command that prints rows or tables."""


def form(output: Output, *rows: OutputRow) -> str:
    return text_of(output, {"": rows or ROWS})


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_has_another_spelling_of_the_form(command: str) -> None:
    program, name = command.split()
    width = {"COLUMNS": "250", "TERMINAL_WIDTH": "250"}
    shown = CliRunner().invoke(APPS[program], [name, "-h"], env=width).output
    spellings = set(re.findall(r"--?[a-z][a-z-]*", shown))
    assert ("--output" in spellings) == (command in WITH_OUTPUT)
    assert not {"--json", "--format", "--csv", "--markdown", "--as", "-o"} & spellings
    if "--output" in spellings:
        assert "<table|json|csv|markdown>" in shown
        assert "PULL_STUDY_OUTPUT" in shown


def test_a_form_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = CliRunner().invoke(APPS["rehearsal"], ["faults", "--output", "xml"])
    assert done.exit_code == 2
    assert all(repr(each.value) in done.output for each in Output)


def test_json_is_an_array_of_objects_with_the_columns_of_csv() -> None:
    printed = json.loads(form(Output.JSON))
    columns = next(csv.reader(io.StringIO(form(Output.CSV))))
    assert [[*row] for row in printed] == [columns] * 2
    assert printed[0] == ROWS[0]


def test_csv_holds_no_formula_and_no_control_character() -> None:
    first, second = csv.DictReader(io.StringIO(form(Output.CSV)))
    assert first == {"image": "'=HYPERLINK(1)", "pull_s": "1.5", "marks": "a; b", "note": ""}
    assert second["pull_s"] == "-2.0"
    assert second["image"] == "a|b\\x1b[2J"


def test_no_cell_can_break_markdown() -> None:
    assert form(Output.MARKDOWN).splitlines() == [
        "| image | pull_s | marks | note |",
        "| --- | --- | --- | --- |",
        "| =HYPERLINK(1) | 1.5 | a; b |  |",
        "| a\\|b\\x1b[2J | -2.0 |  | two lines |",
    ]


def test_a_table_shows_every_cell_and_obeys_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(Output.TABLE, ROWS)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["image", "pull", "s", "marks", "note"]
    assert "a|b\\x1b[2J" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (Output.JSON, "[]\n"),
        (Output.CSV, "a,b\r\n"),
        (Output.MARKDOWN, "| a | b |\n| --- | --- |\n"),
    ],
)
def test_a_table_without_rows_keeps_its_columns(output: Output, text: str) -> None:
    assert text_of(output, {"": []}, ["a", "b"]) == text


def test_several_tables_are_told_apart() -> None:
    tables: dict[str, Sequence[OutputRow]] = {"one": [{"a": 1}], "two": [{"b": 2}], "none": []}
    assert json.loads(text_of(Output.JSON, tables)) == [
        {"table": "one", "a": 1},
        {"table": "two", "b": 2},
    ]
    assert text_of(Output.CSV, tables) == "table,a,b\r\none,1,\r\ntwo,,2\r\n"
    assert text_of(Output.MARKDOWN, tables) == (
        "**one**\n\n| a |\n| --- |\n| 1 |\n\n**two**\n\n| b |\n| --- |\n| 2 |\n"
    )


def expect_the_same_rows(app: Typer, *arguments: object, codes: Sequence[int] = (0,)) -> None:
    """Expect a command to print one set of rows, alone on standard output, in its four forms."""

    def answer(output: Output) -> str:
        words = [*map(str, arguments), "--output", output.value]
        done = CliRunner().invoke(app, words)
        assert done.exit_code in codes, done.output
        return done.stdout

    printed = json.loads(answer(Output.JSON))
    assert printed
    columns = list(dict.fromkeys(name for row in printed for name in row))
    written = csv.DictReader(io.StringIO(answer(Output.CSV)))
    assert (len(list(written)), written.fieldnames) == (len(printed), columns)
    tables = len({row.get("table", "") for row in printed}) if columns[0] == "table" else 1
    lines = [line for line in answer(Output.MARKDOWN).splitlines() if line.startswith("| ")]
    assert len(lines) == len(printed) + 2 * tables
    assert answer(Output.TABLE).strip()


@pytest.mark.parametrize("command", ["faults", "doctor"])
def test_a_rehearsal_prints_the_same_rows_in_four_forms(command: str) -> None:
    expect_the_same_rows(APPS["rehearsal"], command, codes=(0, 4))
