"""What a terminal shows of texts from outside."""

import io

from rich.table import Table
from rich.text import Text

from experiment.terminal.views import PipeSafeConsole


def test_control_characters_are_printed_as_escapes() -> None:
    out = io.StringIO()
    console = PipeSafeConsole(file=out, width=120, force_terminal=True)
    table = Table("reason")
    table.add_row("\x1b]0;title\x07\x1b[2J \u202eevil")
    console.print(table)
    console.print(Text("\x1b[2Jline \u202eevil"))
    text = out.getvalue()
    assert "\\x1b[2Jline \\u202eevil" in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert not {"\x07", "\u202e"} & set(text)
