"""Mutations of recorded lines, and what the tables of any lines may hold.

A batch is a file of lines, drawn from its seed alone: cut, spliced, damaged, wrapped and with
values of other lines. `invented` returns what the tables made of it that no line says.
"""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from analysis.read.lines import UnreadableFileError
from analysis.read.load_runs import NothingRecordedError
from analysis.tables import open_tables, write_tables
from tests.analysis.recorded import lines as recording
from tests.analysis.recorded import study_events

INPUTS = Path(__file__).parents[2] / "data" / "inputs"
FILES, LINES = 20, 500
_KEPT = 0.35
"""Share of lines that stay as they are, so that there are pulls beside what is damaged."""
_TOKENS = (
    b"\x00", b"\x1b[2J", b"\r", b"\n", b'"', b"\\", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800",
    b"\\u0000", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"{" * 300, b"[" * 2000,
    b"}", b"]", b",", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 400, b"0.1",
    b'""', b"[]", b"{}", b'"9999-12-31T23:59:59Z"', b'"0000-00-00T00:00:00Z"', b"=1+1", b"---\n",
    b'"in 99999999999999h"', b'Successfully pulled image "', b"already present on machine",
    b" including waiting)",
)  # fmt: skip
_VALUE = re.compile(rb'"(\w+)":("(?:[^"\\]|\\.)*"|-?[\d.]+|null|true|false)')
_WRAPPERS = (
    b'{"log":%s}', b'{"body":%s,"severity":9}', b'{"line":%s}', b'{"items":[%s]}', b"[%s]",
    b'{"event":%s,"old_event":{}}', b'{"jsonPayload":%s}', b'{"a":{"b":{"c":%s}}}',
)  # fmt: skip
_PREFIXES = (b"2024-11-10T06:49:08.1Z stdout F ", b"[pod/x] ", b"I1110 06:49:08 1 x.go:1] ", b"  ")
_DURATION = re.compile(r"(?: in -?|\()((?:\d+(?:\.\d*)?(?:h|ms|m|us|µs|μs|ns|s))+)")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|us|µs|μs|ns|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DEEPEST = 4
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])')
_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def corpus(recorded: Path | None) -> list[bytes]:
    """Lines of a study of the tests, of their inputs, and of a folder of recorded events."""
    paths = [path for path in sorted(INPUTS.rglob("*")) if path.is_file() and path.suffix != ".gz"]
    paths += sorted(recorded.rglob("events*.gz")) if recorded else []
    lines = recording(study_events(16)).encode().splitlines()
    for path in paths:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        lines += [line for line in data.split(b"\n") if 2 < len(line) < 20_000]
    return lines


def mutated(line: bytes, other: bytes, rng: random.Random) -> bytes:
    """One line damaged in one to three ways, with parts of another."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        line = rng.choice(_WAYS)(line, other, rng)
    return line


def _cut(line: bytes, _: bytes, rng: random.Random) -> bytes:
    return line[: rng.randrange(len(line) + 1)]


def _splice(line: bytes, other: bytes, rng: random.Random) -> bytes:
    return line[: rng.randrange(len(line) + 1)] + other[rng.randrange(len(other)) :]


def _flip(line: bytes, _: bytes, rng: random.Random) -> bytes:
    data = bytearray(line)
    for _flips in range(rng.randrange(1, 5)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _insert(line: bytes, _: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(line) + 1)
    return line[:at] + rng.choice(_TOKENS) + line[at:]


def _drop(line: bytes, _: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(line) + 1)
    return line[:at] + line[at + rng.randrange(1, 80) :]


def _repeat(line: bytes, _: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(line) + 1)
    end = at + rng.randrange(1, 400)
    return line[:end] + line[at:]


def _value(line: bytes, other: bytes, rng: random.Random) -> bytes:
    """Another value for one key: a strange one, or what the other line has."""
    found = list(_VALUE.finditer(line))
    if not found:
        return line
    one = rng.choice(found)
    theirs = [match[2] for match in _VALUE.finditer(other) if match[1] == one[1]]
    new = rng.choice(theirs) if theirs and rng.random() < 0.5 else rng.choice(_TOKENS)
    return line[: one.start(2)] + new + line[one.end(2) :]


def _wrap(line: bytes, _: bytes, rng: random.Random) -> bytes:
    text = json.dumps(line.decode("utf-8", "replace")).encode() if rng.random() < 0.5 else line
    return rng.choice(_WRAPPERS) % text


def _prefix(line: bytes, _: bytes, rng: random.Random) -> bytes:
    return rng.choice(_PREFIXES) + line


_WAYS: Sequence[Callable[[bytes, bytes, random.Random], bytes]] = (
    _cut, _splice, _flip, _insert, _drop, _repeat, _value, _value, _wrap, _prefix,
)  # fmt: skip


def write_batch(lines: Sequence[bytes], folder: Path, seed: int, files: int = FILES) -> list[Path]:
    """Write files of LINES lines each."""
    rng = random.Random(seed)
    paths = [folder / f"events-{number}.json" for number in range(files)]
    for path in paths:
        drawn = []
        for _ in range(LINES):
            line = rng.choice(lines)
            drawn.append(line if rng.random() < _KEPT else mutated(line, rng.choice(lines), rng))
        path.write_bytes(b"\n".join(drawn))
    return paths


def read(paths: Sequence[Path], out: Path | None = None) -> dict[str, list[dict[str, object]]]:
    """The tables of files, written too with `out`; empty where nothing of them is an event."""
    try:
        with open_tables(paths) as tables:
            if out:
                write_tables(tables, out)
            names = ("pulls", "cells", "other_pulls", "events")
            return {name: tables.rows(f"FROM {name}") for name in names}
    except (NothingRecordedError, UnreadableFileError):
        return {}


def invented(tables: dict[str, list[dict[str, object]]], data: bytes) -> Iterator[str]:
    """Say which images, nodes, pods and seconds of the tables are not in the data."""
    said = _Said(_without_halves(data.decode("utf-8", "replace")))
    for name, rows in tables.items():
        for column in ("image", "node", "pod", "object"):
            for value in {row[column] for row in rows if row.get(column)}:
                if not said.has(str(value)):
                    yield f"{name}: {column} {value!r}"
        for column in ("pull_s", "pull_and_wait_s"):
            for value in {row[column] for row in rows if row.get(column) is not None}:
                if not said.has_duration(float(str(value))):
                    yield f"{name}: {column} {value!r}"
    pulls = said.texts[0].lower().count("pull")
    made = len(tables.get("pulls", [])) + len(tables.get("other_pulls", []))
    if made > pulls:
        yield f"{made} pulls, and the lines name {pulls}"


class _Said:
    """What a text says, also within its texts in texts."""

    def __init__(self, text: str) -> None:
        self.texts = [text]
        self._words: set[str] = set()
        self._durations: set[float] = set()
        self._take(text)

    def _take(self, text: str) -> None:
        self._words.update(text.split('"'))
        self._durations |= {_seconds(found) for found in set(_DURATION.findall(text))}

    def _unwrap(self) -> bool:
        """Undo the escapes of one more text in a text; False where no known form has more."""
        if len(self.texts) > _DEEPEST:
            return False
        self.texts.append(_without_halves(_unescaped(self.texts[-1])))
        self._take(self.texts[-1])
        return True

    def has(self, word: str) -> bool:
        word = _without_halves(word)
        while word not in self._words:
            if any(word in text for text in self.texts):
                return True
            if not self._unwrap():
                return False
        return True

    def has_duration(self, seconds: float) -> bool:
        while round(seconds, 9) not in self._durations:
            if not self._unwrap():
                return False
        return True


def _without_halves(text: str) -> str:
    """A text whose parts that are no UTF-8 are "?", as in the tables."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\ufffd", "?")


def _unescaped(text: str) -> str:
    def meant(match: re.Match[str]) -> str:
        what = match[1]
        return _MEANT.get(what, what) if len(what) == 1 else chr(int(what[1:], 16))

    return _ESCAPE.sub(meant, text)


def _seconds(duration: str) -> float:
    return round(sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(duration)), 9)
