"""Text from outside, made harmless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.inert import csv_cell, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ghcr.io/lab/image:1", "ghcr.io/lab/image:1"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\u202eb\u2028c\x7f\x9b", "a\\u202eb\\u2028c\\x7f\\x9b"),
        ("lone \ud800", "lone \\ud800"),
        ("Größe 日本 🙂", "Größe 日本 🙂"),
    ],
    ids=["plain", "terminal title", "bidirectional and separators", "surrogate", "letters"],
)
def test_control_characters_are_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_no_text_keeps_a_character_that_a_terminal_obeys(text: str) -> None:
    assert not set(visible(text)) & {chr(n) for n in (*range(32), *range(127, 160))}


@pytest.mark.parametrize("start", ["=1+1", "+1+cmd", "-1+2", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_becomes_text(start: str) -> None:
    assert str(csv_cell(start)).startswith("'")


@pytest.mark.parametrize("value", ["-1.5", "+3e8", "image", "", 7, -2.5, None])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert csv_cell(value) == value
