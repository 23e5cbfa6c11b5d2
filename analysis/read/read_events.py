"""Reads Kubernetes events from files, in every recorded format, line by line.

Formats: the exporter's output (`kubectl logs`), this project's event records, Cloud Logging entries
(JSON exports and Cloud Storage sink objects) and `kubectl get events -o json`; plain or gzip. A
line is decoded once into a typed struct; only a line that is not exactly one event takes the slow
path. Nothing is dropped silently: text that is not an event is noted with file and line. Events are
streamed, not kept.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from analysis.read.event_form import Event
from schema.errors import UserError

NOTES_PER_FILE = 10_000
"""Lines of a file that are noted one by one; further lines are counted."""

_EXCERPT = 160
_CHUNK = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError)
_DISCARDED = "Event discarded as being older"
_LINE_PREFIX = re.compile(
    r"^[\s,\]}]*(\[pod/\S+\] )?"
    r"(\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d) )?(std(out|err) [FP] )?\s*$"
)
"""Prefix of a line before the object: kubectl logs --prefix --timestamps, or CRI's format."""


class UnreadableFileError(UserError):
    """A file cannot be read at all."""


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
            'discarded' (the exporter reports that it dropped an event) or 'unreadable'.
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


@dataclass(frozen=True, slots=True)
class Read:
    """An event as read.

    Attributes:
        event: the event.
        source: how it was recorded: 'watch', 'exporter', 'native' or 'kubectl'.
        cluster: the cluster that a Cloud Logging entry names; empty for other formats.
    """

    event: Event
    source: str
    cluster: str = ""


_decode_event = msgspec.json.Decoder(Event).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_decode_json = msgspec.json.Decoder().decode
_text_decoder = json.JSONDecoder()


def read_events(path: Path, notes: Notes) -> Iterator[Read]:
    """Yield all events of one file, in the file's order; other lines go to `notes`.

    Raises:
        UnreadableFileError: the file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.peek(2)[:2]
            lines = _unzipped(stream, str(path), notes) if magic == b"\x1f\x8b" else stream
            yield from _read_lines(lines, str(path), notes)
    except OSError as error:
        raise UnreadableFileError(
            f"The file {path} cannot be read ({error.strerror or error}): its events are missing.",
            f"ls -l {path}",
        ) from error


def _unzipped(stream: BinaryIO, file: str, notes: Notes) -> Iterator[bytes]:
    """Yield the lines of a gzip file; of a damaged one, those before the damage, which is noted."""
    unzip = zlib.decompressobj(wbits=_GZIP)
    rest = b""
    number = 0
    damage = ""
    while not damage and (packed := unzip.unused_data or stream.read(_CHUNK)):
        if unzip.eof:
            unzip = zlib.decompressobj(wbits=_GZIP)  # the next member
        try:
            data = rest + unzip.decompress(packed)
        except zlib.error as error:
            damage = str(error)
            break
        *lines, rest = data.splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n"):
            lines, rest = [*lines, rest], b""
        number += len(lines)
        yield from lines
    if rest:
        number += 1
        yield rest
    if damage or not unzip.eof:
        what = f"compressed data is truncated or damaged {damage}"
        notes.add(file, number + 1, "unreadable", what)


def _read_lines(stream: Iterable[bytes], file: str, notes: Notes) -> Iterator[Read]:
    lines = iter(enumerate(stream, 1))
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, b""))
    first = first.removeprefix(b"\xef\xbb\xbf")
    if first.strip() in {b"{", b"[", b"[{"}:
        rest = [first, *(line for _, line in lines)]
        yield from _read_document(b"".join(rest), file, number, notes)
        return
    # Nearly all lines of a file have one format: the one of the last line is tried first.
    usual: _Exact = _event_line
    for at, line in chain([(number, first)], lines):
        try:
            yield usual(line)
        except _UNDECODABLE:
            usual, found = _exact_line(line, usual)
            if found is not None:
                yield found
            else:
                yield from _read_line(line, file, at, notes)


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
    except _UNDECODABLE:
        return usual, None
    return other, found


def _read_line(line: bytes, file: str, number: int, notes: Notes) -> Iterator[Read]:
    """Read a line that is not exactly one event: a log entry, several events, or none."""
    stripped = line.strip()
    if not stripped:
        return
    try:
        value = _decode_json(stripped)
    except _UNDECODABLE:
        yield from _read_pieces(stripped.decode(errors="replace"), file, number, notes)
    else:
        yield from _read_value(value, file, number, notes)


def _read_document(data: bytes, file: str, number: int, notes: Notes) -> Iterator[Read]:
    """Read a file of one pretty-printed JSON value, or several in sequence."""
    try:
        value = _decode_json(data)
    except _UNDECODABLE:
        yield from _read_pieces(data.decode(errors="replace"), file, number, notes)
        return
    yield from _read_value(value, file, number, notes)


def _read_pieces(text: str, file: str, number: int, notes: Notes) -> Iterator[Read]:
    """Read the JSON objects in a text that is not JSON as a whole."""
    position = gap = 0
    gap_line = number
    while (start := text.find("{", position)) >= 0:
        try:
            value, end = _text_decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            position = _next_object(text, start + 1)
            continue
        line = gap_line + text.count("\n", gap, start)
        _note_gap(text[gap:start], file, gap_line, notes)
        yield from _read_value(value, file, line, notes)
        gap_line = line + text.count("\n", start, end)
        position = gap = end
    _note_gap(text[gap:], file, gap_line, notes)


def _next_object(text: str, start: int) -> int:
    """Return where the next object may start: at a line, or at an event's usual first field."""
    found = [
        place
        for place in (text.find('{"metadata"', start), _line_with_brace(text, start))
        if place >= 0
    ]
    return min(found, default=len(text))


def _line_with_brace(text: str, start: int) -> int:
    match = re.compile(r"^\s*\{", re.MULTILINE).search(text, start)
    return match.end() - 1 if match else -1


def _note_gap(gap: str, file: str, number: int, notes: Notes) -> None:
    # The brackets of a list and the prefix of a container's log line are not noted.
    if not gap.strip(" \t\r\n,[]{}") or _LINE_PREFIX.match(gap) or _is_list_frame(gap):
        return
    notes.add(file, number, "unreadable", gap.strip())


def _is_list_frame(gap: str) -> bool:
    return re.fullmatch(
        r'[\s{,]*("(apiVersion|kind)":\s*"[^"]*",?\s*)*"items":\s*\[\s*', gap
    ) is not (None)


def _read_value(value: Any, file: str, number: int, notes: Notes) -> Iterator[Read]:
    """A decoded JSON value: an event, a log entry, or a list of them."""
    if isinstance(value, list):
        for item in value:
            yield from _read_value(item, file, number, notes)
        return
    if not isinstance(value, dict):
        notes.add(file, number, "not-an-event", json.dumps(value))
        return
    if isinstance(value.get("items"), list):
        yield from _read_value(value["items"], file, number, notes)
        return
    found = _as_event(value)
    if found is not None:
        yield found
        return
    text = str(value.get("message") or value.get("msg") or json.dumps(value))
    if text.startswith(_DISCARDED):
        notes.add(file, number, "discarded", str(value.get("event name", "")))
    elif {"involvedObject", "regarding"} & value.keys():
        notes.add(file, number, "unreadable", f"an event with a field of the wrong type: {text}")
    else:
        notes.add(file, number, "not-an-event", text)


def _as_event(value: dict[str, Any]) -> Read | None:
    payload = value.get("jsonPayload")
    if payload is None and isinstance(value.get("textPayload"), str):
        payload = _json_object(value["textPayload"])
    if isinstance(payload, dict):
        labels = (value.get("resource") or {}).get("labels") or {}
        native = str(value.get("logName", "")).endswith("%2Fevents") or str(
            value.get("logName", "")
        ).endswith("/events")
        event = _convert(payload)
        source = "native" if native else "exporter"
        return Read(event, source, str(labels.get("cluster_name", ""))) if event else None
    if isinstance(value.get("object"), dict) and "involvedObject" in value["object"]:
        value = value["object"]  # kubectl get --watch --output-watch-events
    event = _convert(value)
    return Read(event, "kubectl") if event else None


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = _decode_json(text)
    except _UNDECODABLE:
        return None
    return value if isinstance(value, dict) else None


def _convert(value: dict[str, Any]) -> Event | None:
    if "regarding" in value:  # events.k8s.io/v1 has other names for some fields
        value = value | {
            "involvedObject": value["regarding"],
            "message": value.get("note"),
            "source": value.get("deprecatedSource"),
            "firstTimestamp": value.get("deprecatedFirstTimestamp"),
            "lastTimestamp": value.get("deprecatedLastTimestamp"),
            "count": value.get("deprecatedCount"),
            "reportingComponent": value.get("reportingController"),
        }
    try:
        return msgspec.convert(value, Event, strict=False)
    except msgspec.ValidationError:
        return None
