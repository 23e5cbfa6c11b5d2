"""Reads Kubernetes events from files, in every recorded format, line by line.

Formats: the exporter's output (`kubectl logs`), this project's event records, `kubectl get events`
as JSON or YAML, and whatever a collector of logs wraps around an event (unwrap.py); compressed or
not (lines.py). A line is decoded once into a typed struct; only a line that is not exactly one
event takes the slow path. Nothing is dropped silently: text that is not an event is noted with file
and line. Events are streamed, not kept.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from analysis.read.event_form import Event
from analysis.read.lines import collect, open_lines
from analysis.read.unwrap import DEEPEST, UNDECODABLE, Read, find_events, objects_in

NOTES_PER_FILE = 10_000
"""Lines of a file that are noted one by one; further lines are counted."""

_EXCERPT = 160
_FIELDS_NAMED = 10
_SEARCHED = 4_000
_DISCARDED = "Event discarded as being older"
_LINE_PREFIX = re.compile(r"""[^{}"]{0,300}""")
"""What a tool prints before an object: times, pods, containers, levels; no part of JSON."""

_YAML = re.compile(rb"(---|%YAML|- )?\s*(apiVersion|kind|items|metadata|regarding|involvedObject):")


class _Record(msgspec.Struct, gc=False):
    """A line of this project's events.*.jsonl (schema.run_records.EventRecord)."""

    source: str
    event: Event


@dataclass(frozen=True, slots=True)
class Note:
    """A line, or a part of one, that is not an event.

    Attributes:
        file: path as given or found.
        line: 1 for the first; 0 for the whole file.
        kind: 'not-an-event' (valid JSON of another kind, such as the exporter's own log),
            'other-form' (JSON that describes an event in a form that is not read), 'left-out' (a
            file without events), 'discarded' (the exporter reports that it dropped an event) or
            'unreadable'.
        detail: what is wrong, or the start of the text.
    """

    file: str
    line: int
    kind: str
    detail: str


@dataclass(slots=True)
class Notes:
    """Lines that are not events, collected while reading."""

    listed: list[Note] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of notes by (file, kind), including those beyond NOTES_PER_FILE."""
    at: tuple[str, int] = ("", 0)
    """File and line that is being read."""

    def add(self, file: str, line: int, kind: str, detail: str) -> None:
        """Note one line."""
        self.counts[file, kind] += 1
        if self.counts[file, kind] <= NOTES_PER_FILE:
            self.listed.append(Note(file, line, kind, " ".join(detail[:_EXCERPT].split())))

    def total(self, kind: str, file: str | None = None) -> int:
        """How many of a kind, in one file or in all."""
        return sum(
            count
            for (where, which), count in self.counts.items()
            if which == kind and file in {None, where}
        )


_decode_event = msgspec.json.Decoder(Event).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_decode_json = msgspec.json.Decoder().decode


def read_events(path: Path, notes: Notes) -> Iterator[Read]:
    """Yield all events of one file, in the file's order; other lines go to `notes`.

    Raises:
        UnreadableFileError: the file cannot be opened, or has a form that is not read.
    """
    file = str(path)

    def damage(line: int, what: str) -> None:
        notes.add(file, line, "unreadable", what)

    with open_lines(path, damage) as lines:
        yield from _Reader(file, notes, damage).read(lines)


class _Reader:
    """Reads one file."""

    def __init__(self, file: str, notes: Notes, damage: Callable[[int, str], None]) -> None:
        self._file = file
        self._notes = notes
        self._damage = damage

    def read(self, stream: Iterator[bytes]) -> Iterator[Read]:
        lines = enumerate(stream, 1)
        number, first = next(((n, line) for n, line in lines if line.strip()), (0, b""))
        first = first.removeprefix(b"\xef\xbb\xbf")
        if _YAML.match(first):
            rest = (line for _, line in lines)
            yield from self._yaml(collect(chain([first], rest), self._damage, number), number)
            return
        notes, file = self._notes, self._file
        # Nearly all lines of a file have one format: the one of the last line is tried first.
        usual: _Exact = _event_line
        for at, line in chain([(number, first)], lines):
            try:
                found: Read | None = usual(line)
            except UNDECODABLE:
                usual, found = _exact_line(line, usual)
            if found is not None:
                notes.at = file, at
                yield found
            elif line.strip() in _OPENING:  # a pretty-printed document, up to the file's end
                rest = (each for _, each in lines)
                yield from self._document(collect(chain([line], rest), self._damage, at), at)
                return
            else:
                yield from self._line(line, at)

    def _line(self, line: bytes, number: int) -> Iterator[Read]:
        """Read a line that is not exactly one event: a log entry, several events, or none."""
        stripped = line.strip()
        if not stripped:
            return
        yield from self._document(stripped, number)

    def _document(self, data: bytes, number: int) -> Iterator[Read]:
        """Read one JSON value, or several in sequence with other text between them."""
        try:
            value = _decode_json(data)
        except UNDECODABLE:
            yield from self._pieces(data.decode(errors="replace"), number)
        else:
            yield from self._value(value, number)

    def _yaml(self, data: bytes, number: int) -> Iterator[Read]:
        import yaml  # noqa: PLC0415 (few files need it)

        try:
            for document in yaml.load_all(data, Loader=yaml.CSafeLoader):
                if document is not None:
                    yield from self._value(document, number)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = number + mark.line if mark else number
            self._damage(line, f"not YAML: {getattr(error, 'problem', None) or error}")

    def _pieces(self, text: str, number: int) -> Iterator[Read]:
        """Read the JSON objects in a text that is not JSON as a whole."""
        gap = 0
        line = number
        for start, end, value in objects_in(text):
            at = line + text.count("\n", gap, start)
            before, _, prefix = text[gap:start].rpartition("\n")
            self._gap(before, line)
            if not _LINE_PREFIX.fullmatch(prefix):
                self._gap(prefix, at)
            yield from self._value(value, at)
            line = at + text.count("\n", start, end)
            gap = end
        self._gap(text[gap:], line)

    def _gap(self, gap: str, number: int) -> None:
        # The brackets of a list are not noted.
        if gap.strip(" \t\r\n,[]{}") and not _LIST_FRAME.fullmatch(gap):
            self._damage(number, gap.strip())

    def _value(self, value: Any, number: int, levels: int = DEEPEST) -> Iterator[Read]:
        """Read a decoded value: an event, a log entry, a list of them, or something else."""
        items = value.get("items") if isinstance(value, dict) else value
        if isinstance(items, list):
            if not levels:
                self._damage(number, f"more than {DEEPEST} lists in each other")
                return
            for item in items:
                yield from self._value(item, number, levels - 1)
            return
        self._notes.at = self._file, number
        none = True
        for found in find_events(value):
            none = False
            if isinstance(found, str):
                self._damage(number, found)
            else:
                yield found
        if none:
            self._other(value, number)

    def _other(self, value: Any, number: int) -> None:
        """Note a value without events."""
        if not isinstance(value, dict):
            self._notes.add(self._file, number, "not-an-event", str(value))
            return
        text = str(value.get("message") or value.get("msg") or _shortened(value))
        if text.startswith(_DISCARDED):
            self._notes.add(self._file, number, "discarded", str(value.get("event name", "")))
        elif _tells_of_event(value):
            fields = ", ".join([str(name) for name in value][:_FIELDS_NAMED])
            self._notes.add(self._file, number, "other-form", f"fields {fields}")
        else:
            self._notes.add(self._file, number, "not-an-event", text)


_OPENING = {b"{", b"[", b"[{"}
_LIST_FRAME = re.compile(r'[\s{,]*("(apiVersion|kind)":\s*"[^"]*",?\s*)*"items":\s*\[\s*')
_PULL_WORDS = ("pulling image", "pulled image", "already present on machine", "pull image")


def _tells_of_event(value: dict[str, Any]) -> bool:
    """Return whether an object may be an event in another form."""
    if {"reason", "message"} <= value.keys() and "level" not in value:
        return True
    return any(word in _shortened(value).lower() for word in _PULL_WORDS)


def _shortened(value: dict[str, Any]) -> str:
    try:
        return json.dumps(value, default=str)[:_SEARCHED]
    except (RecursionError, ValueError, TypeError):
        return "an object that is nested too deeply"


def _event_line(line: bytes) -> Read:
    return Read(_decode_event(line), "exporter")


def _record_line(line: bytes) -> Read:
    record = _decode_record(line)
    return Read(record.event, record.source)


_Exact = Callable[[bytes], Read]


def _exact_line(line: bytes, usual: _Exact) -> tuple[_Exact, Read | None]:
    """Try the other format; return the format to continue with, and the event if it fits."""
    other = _record_line if usual is _event_line else _event_line
    try:
        found = other(line)
    except UNDECODABLE:
        return usual, None
    return other, found
