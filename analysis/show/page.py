"""A self-contained HTML page: sections, figures, tables and their data.

Renders a page from assets/; knows nothing about pulls. Vega's program is embedded (vl-convert has
it), so that a page opens from disk. Its Content-Security-Policy allows no request, and no script
but these two, by their hashes.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.ask.questions.cards import Card
from analysis.show.drawing import Drawn
from schema.inert import visible

ASSETS = Path(__file__).parent / "assets"

SVG_MARKS = 2_500
"""A plot with more marks is drawn on a canvas."""

UNFOLDED_ROWS = 16
"""A longer table is folded."""

Columns = dict[str, list[Any]]
"""A data set by column: lists of equal length, of text, numbers, booleans or None."""


@dataclass(frozen=True)
class Header:
    """A column's header; numbers are right-aligned."""

    name: str
    number: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table of the page, its cells as text; a long one is folded unless `open`."""

    caption: str
    header: Sequence[Header]
    rows: Sequence[Sequence[str]]
    provenance: str = ""
    open: bool = False

    @property
    def folded(self) -> bool:
        """Whether it is shown on demand only."""
        return not self.open and len(self.rows) > UNFOLDED_ROWS


@dataclass(frozen=True)
class Figure:
    """A plot with its caption and numbers.

    Attributes:
        key: its anchor on the page.
        spec: Vega-Lite specification (charts.py).
        uses: names of the page's data sets that the specification uses.
        intro: a paragraph above the plot.
        marks: approximate number of marks.
        provenance: what was not measured; empty for measured data.
        choice: shown only when its section's choice has this value; empty for always.
    """

    key: str
    title: str
    spec: dict[str, Any]
    uses: Sequence[str]
    caption: str
    intro: str = ""
    marks: int = 0
    provenance: str = ""
    table: PageTable | None = None
    choice: str = ""

    @property
    def renderer(self) -> str:
        """Vega's renderer: SVG if it is fast enough, since it is sharper and has labels."""
        return "svg" if self.marks <= SVG_MARKS else "canvas"


@dataclass(frozen=True)
class Section:
    """A part of the page; figures with a `choice` are shown one at a time."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    cards: Sequence[Card] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[PageTable] = ()
    choice_label: str = ""
    after: str = ""
    """A paragraph after the cards."""
    filters: bool = False
    """Whether the choice of images, duration and cells of the whole page is shown here."""

    @property
    def choices(self) -> list[str]:
        """The values to choose from, in the figures' order."""
        return list(dict.fromkeys(figure.choice for figure in self.figures if figure.choice))


@dataclass(frozen=True)
class Number:
    """A key number at the top of the page."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Banner:
    """A warning, or a line of facts, at the top of the page."""

    head: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        verdicts: cards whose verdicts are listed on the first screen.
        summary: lines of facts below them.
        data: data sets of the figures by name.
        repeat: what it costs to measure again, in a few words; a link to the section `repeat`.
    """

    title: str
    lede: str
    sections: Sequence[Section]
    banners: Sequence[Banner] = ()
    verdicts: Sequence[Card] = ()
    summary: Sequence[Banner] = ()
    numbers: Sequence[Number] = ()
    repeat: str = ""
    data: Mapping[str, Columns] = field(default_factory=dict)
    footer: str = ""


def render(page: Page, drawn: Drawn) -> str:
    """Return the page as HTML.

    Text is escaped, its control characters too; non-finite numbers become null in the data.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.filters |= {"inline": _inline, "anchor": _anchor, "digest": _digest}
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        page=page,
        data={name: _pack(columns) for name, columns in page.data.items()},
        css=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),  # noqa: S704 (our own)
        js=Markup(script),  # noqa: S704 (our own)
        vega=Markup(drawn.bundle),  # noqa: S704 (our own)
        policy=_policy(drawn.bundle, script),
        pictures=drawn.pictures,
    )


def _policy(*scripts: str) -> str:
    """Return the Content-Security-Policy: these scripts alone, pictures as data, no network."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _digest(figure: Figure, data: Mapping[str, Columns]) -> str:
    """Return the first digits of the SHA-256 of what a figure draws."""
    parts = [figure.spec, *(_pack(data[name]) for name in figure.uses)]
    return "sha256:" + hashlib.sha256(str(_inline(parts)).encode()).hexdigest()[:12]


def _visible(value: Any) -> Any:
    return visible(value, keep="\n") if type(value) is str else value


def _pack(columns: Columns) -> dict[str, Any]:
    """Replace columns with few distinct texts by an index into the list of these texts."""
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


def shown(value: Any) -> Any:
    """Return a specification or data with all text visible.

    Vega makes program text of labels; separators of lines, for example, would break it.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def _inline(value: Any) -> Markup:
    """Return JSON that is safe in a script element."""
    text = json.dumps(shown(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    escaped = text.replace("<", "\\u003c")
    return Markup(escaped)  # noqa: S704 (escaped above)
