"""What a comparison of the query language means for an entry.

A field has the type that google.logging.v2.LogEntry gives it; inside jsonPayload it has the type of
the value that is there. A value that cannot be read as that type matches nothing, except for the
times and severities of an entry, where it is refused. Of LogEntry's fields httpRequest, operation,
protoPayload, sourceLocation and metadata are not known here.
"""

import operator
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rehearsal.cloud_logging.entries import SEVERITIES, Entry, log_id, parse_time

Predicate = Callable[[Entry], bool]
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_STRINGS = {
    ("insertId",),
    ("logName",),
    ("resource", "type"),
    ("spanId",),
    ("textPayload",),
    ("trace",),
}
_TIMES: dict[tuple[str, ...], Callable[[Entry], int]] = {
    ("timestamp",): lambda entry: entry.timestamp,
    ("receiveTimestamp",): lambda entry: entry.received,
}
_SEVERITY = ("severity",)
_MAPS = {("labels",), ("resource", "labels")}
_STRUCT = "jsonPayload"
_NULL = "NULL_VALUE"
_NOT_RE2 = re.compile(r"\(\?(?:=|!|<=|<!)|\\[1-9]")
"""What Python's regular expressions have beyond RE2."""


class OperandError(Exception):
    """A field or a value with which no comparison can be made."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of a filter, as written."""

    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Field:
    """The path of a field."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)

    @staticmethod
    def of(path: tuple[str, ...]) -> "Field":
        """The field of a path.

        Raises:
            OperandError: entries have no such field, or it is not known here.
        """
        known = (
            path in _STRINGS
            or path in _TIMES
            or path == _SEVERITY
            or path in _MAPS
            or path[:-1] in _MAPS
            or path[0] == _STRUCT
        )
        if not known:
            raise OperandError(f"The field {'.'.join(path)} is not known")
        return Field(path)

    def present(self, entry: Entry) -> list[Any]:
        """The values at this path, one for each member of an array; none if it is missing."""
        found: list[Any] = [entry.data]
        for name in self.path:
            found = [value[name] for value in found if isinstance(value, dict) and name in value]
            found = [member for value in found for member in _members(value)]
        return found

    def values(self, entry: Entry) -> list[Any]:
        """The same, but a field that LogEntry itself defines is empty where it is missing."""
        found = self.present(entry)
        return [""] if not found and self.path in _STRINGS else found


def compare(field: Field, sign: str, literal: Literal | None) -> Predicate:
    """The comparison of a field with a value, None for `:*`.

    Raises:
        OperandError: the value cannot be compared with such a field in this way.
    """
    if literal is None:
        return lambda entry: bool(field.present(entry))
    if sign in {"=~", "!~"}:
        return _matches(field, literal.text, wanted=sign == "=~")
    if field.path in _TIMES:
        return _compare_times(field, sign, literal.text)
    if field.path == _SEVERITY:
        return _compare_severity(sign, literal.text)
    if sign == ":":
        return _has(field, literal.text)
    test = _value_test(sign, literal)
    return lambda entry: any(map(test, field.values(entry)))


def in_any_field(literal: Literal) -> Predicate:
    """A value alone: some field contains it."""
    contains = _contains(literal.text)
    return lambda entry: any(map(contains, _scalars(entry.data)))


def log_id_is(literal: Literal) -> Predicate:
    """log_id(value)."""
    wanted = _fold(log_id(f"/logs/{literal.text}"))
    return lambda entry: _fold(entry.log_id) == wanted


def _matches(field: Field, pattern: str, *, wanted: bool) -> Predicate:
    foreign = _NOT_RE2.search(pattern)
    if foreign is not None:
        raise OperandError(f"Regular expressions are RE2, which has no {foreign[0]!r}")
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise OperandError(f"The regular expression {pattern!r} is not valid: {error}") from None
    return lambda entry: any(
        (search(_text(value)) is not None) == wanted for value in field.values(entry)
    )


def _compare_times(field: Field, sign: str, text: str) -> Predicate:
    if sign == ":":
        raise OperandError(f"The operator : cannot be used with {field}")
    try:
        wanted = parse_time(text)
    except ValueError as error:
        raise OperandError(str(error)) from None
    order, time_of = _ORDER[sign], _TIMES[field.path]
    return lambda entry: order(time_of(entry), wanted)


def _compare_severity(sign: str, text: str) -> Predicate:
    name = text.upper()
    if name not in SEVERITIES and not text.isdecimal():
        raise OperandError(f"{text!r} is not a severity")
    wanted = SEVERITIES[name] if name in SEVERITIES else int(text)
    order = _ORDER["=" if sign == ":" else sign]
    return lambda entry: order(SEVERITIES.get(entry.data.get("severity", ""), 0), wanted)


def _has(field: Field, text: str) -> Predicate:
    contains = _contains(text)
    return lambda entry: any(
        contains(scalar) for value in field.values(entry) for scalar in _scalars(value)
    )


def _value_test(sign: str, literal: Literal) -> Callable[[Any], bool]:
    order = _ORDER[sign]
    folded = _fold(literal.text)
    number = _number(literal.text)
    truth = {"true": True, "false": False}.get(folded)

    def test(value: Any) -> bool:
        if isinstance(value, bool):
            return truth is not None and order(value, truth)
        if isinstance(value, int | float):
            return number is not None and order(value, number)
        if isinstance(value, str):
            return order(_fold(value), folded)
        is_null = value is None and not literal.quoted and literal.text == _NULL
        return is_null and sign == "="

    return test


def _contains(text: str) -> Callable[[Any], bool]:
    folded = _fold(text)
    return lambda value: folded in _fold(_text(value))


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _scalars(value: Any) -> Iterator[Any]:
    """All values and, of maps, keys, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner)
    elif value is not None:
        yield value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
