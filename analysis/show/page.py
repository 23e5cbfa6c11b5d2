"""A self-contained HTML page: sections, figures, tables and the data behind them.

Knows how a page is put together from assets/, and nothing of pulls. Vega's own program is part of
the page (vl-convert holds it), so that a page opens from disk and asks no address for anything.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"

SVG_MARKS = 2_500
"""Above so many marks a plot is drawn on a canvas."""

UNFOLDED_ROWS = 16
"""A longer table is folded."""

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Header:
    """A column's head; numbers are set flush right."""

    name: str
    number: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table as it stands on the page, its cells as text; a long one is folded."""

    caption: str
    header: Sequence[Header]
    rows: Sequence[Sequence[str]]
    provenance: str = ""
    open: bool = False
    """It is what the page is about: it is never folded."""

    @property
    def folded(self) -> bool:
        """Whether it is so long that it opens on demand only."""
        return not self.open and len(self.rows) > UNFOLDED_ROWS


@dataclass(frozen=True)
class Figure:
    """A plot with its caption and the numbers behind it.

    Attributes:
        key: its anchor on the page.
        spec: Vega-Lite specification (charts.py).
        uses: names of the page's data that the specification uses.
        marks: about how many marks it draws.
        provenance: what was not measured; empty for measured data.
        choice: shown only when its section's choice has this value; empty for always.
    """

    key: str
    title: str
    spec: dict[str, Any]
    uses: Sequence[str]
    caption: str
    say: str = ""
    marks: int = 0
    provenance: str = ""
    table: PageTable | None = None
    choice: str = ""

    @property
    def renderer(self) -> str:
        """Vega's renderer: SVG where it is quick enough, since it is sharper and has labels."""
        return "svg" if self.marks <= SVG_MARKS else "canvas"


@dataclass(frozen=True)
class Answer:
    """A question and what the data say to it; `told` is false where they cannot tell."""

    question: str
    fact: str
    detail: str = ""
    told: bool = True
    provenance: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; figures with a `choice` are shown one at a time."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    answers: Sequence[Answer] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[PageTable] = ()
    choice_label: str = ""

    @property
    def choices(self) -> list[str]:
        """What can be chosen, in the figures' order."""
        return list(dict.fromkeys(figure.choice for figure in self.figures if figure.choice))


@dataclass(frozen=True)
class Number:
    """A figure of the page's head, with what it counts."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Banner:
    """A note that nobody may overlook."""

    head: str
    text: str


@dataclass(frozen=True)
class Page:
    """All that a page shows; `data` holds columns by name for its figures."""

    title: str
    lede: str
    sections: Sequence[Section]
    banners: Sequence[Banner] = ()
    numbers: Sequence[Number] = ()
    data: Mapping[str, Columns] = field(default_factory=dict)
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML. Text is escaped; a number that is not finite becomes null in the data."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["inline"] = _inline
    return environment.get_template("report.html.j2").render(
        page=page,
        data={name: _pack(columns) for name, columns in page.data.items()},
        css=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),  # noqa: S704 (our own)
        js=Markup((ASSETS / "report.js").read_text(encoding="utf-8")),  # noqa: S704
        vega=Markup(vega_bundle()),  # noqa: S704
    )


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, without the addresses that it never needs."""
    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    for address in (
        "https://vega.github.io/editor/",
        "https://vega.github.io/schema/vega/v6.json",
        "https://github.com/vega/vega-lite/issues/2415",
    ):
        bundle = bundle.replace(address, "")
    return bundle.replace("</script", "<\\/script")


def _pack(columns: Columns) -> dict[str, Any]:
    """Columns with few different texts become an index into the list of these texts."""
    packed: dict[str, Any] = {}
    for name, values in columns.items():
        texts = {value for value in values if isinstance(value, str)}
        if texts and len(texts) * 2 < len(values) and all(isinstance(v, str) for v in values):
            ordered = sorted(texts)
            place = {text: number for number, text in enumerate(ordered)}
            packed[name] = {"values": ordered, "index": [place[value] for value in values]}
        else:
            packed[name] = [_finite(value) for value in values]
    return packed


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _inline(value: Any) -> Markup:
    """JSON that may stand in a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    escaped = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup(escaped)  # noqa: S704 (escaped above)
