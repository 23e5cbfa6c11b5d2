"""Text from outside made harmless for terminals, pages and spreadsheets. Pure."""

import re
import unicodedata

FORMULA_STARTS = "=+-@\t\r"
"""A spreadsheet takes a cell that starts with one of these for a formula."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories of control, format, surrogate, private and separator characters."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def visible(text: str, keep: str = "") -> str:
    r"""Return text with its control and format characters as escapes: `\x1b`, `\u202e`.

    A terminal does not obey them, and a page does not reorder or hide text. `keep` has characters
    that stay, such as line breaks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _HIDDEN
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def csv_cell(value: object) -> object:
    """Return a cell for a CSV file: text that a spreadsheet takes for a formula gets a quote."""
    if not isinstance(value, str):
        return value
    text = visible(value, keep="\n\t")
    if value and value[0] in FORMULA_STARTS and not _NUMBER.fullmatch(value):
        return f"'{text}"
    return text
