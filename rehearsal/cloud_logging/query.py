"""The part of Cloud Logging's query language that the log sink and the runner send.

    expression = term { "AND" term | "OR" term }     OR binds tighter than AND
    term       = "(" expression ")" | "log_id" "(" STRING ")"
               | FIELD "=" STRING | FIELD "=" "(" STRING { "OR" STRING } ")"
               | TIME ">=" STRING
    FIELD      = "resource.type" | "resource.labels.NAME" | "jsonPayload.NAME..." | "insertId"
    TIME       = "timestamp" | "receiveTimestamp"

Strings compare without regard to case; a comparison with a missing field is false. Everything else
that Google accepts is refused with its position, never ignored.
https://cloud.google.com/logging/docs/view/logging-query-language
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.cloud_logging.entries import Entry, parse_time

Predicate = Callable[[Entry], bool]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<operator>>=|=)
  | (?P<mark>[()])
  | (?P<word>[A-Za-z_][\w.-]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_FIELD = re.compile(r"resource\.type|resource\.labels\.\w+|jsonPayload(?:\.\w+)+|insertId")
_TIMES: dict[str, Callable[[Entry], int]] = {
    "timestamp": lambda entry: entry.timestamp,
    "receiveTimestamp": lambda entry: entry.received,
}


class FilterError(Exception):
    """A filter that is wrong or beyond what is known here; `position` is counted from 0."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"{problem} at position {position}")
        self.position = position


def parse_filter(text: str) -> Predicate:
    """Return a filter as a function that returns whether an entry matches.

    Raises:
        FilterError: with the position of what is wrong.
    """
    parser = _Parser(_tokens(text))
    if parser.next.kind == "end":
        return lambda _entry: True
    predicate = parser.expression()
    parser.take("end")
    return predicate


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FilterError(f"Unexpected {text[position]!r}", position)
        kind = match.lastgroup or ""
        if kind in {"operator", "mark"} or match[0] in {"AND", "OR", "NOT"}:
            kind = match[0]
        if kind != "space":
            tokens.append(_Token(kind, match[0], position))
        position = match.end()
    return [*tokens, _Token("end", "the end", len(text))]


class _Parser:
    """Recursive descent: a method for each rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens

    @property
    def next(self) -> _Token:
        return self._tokens[0]

    def take(self, kind: str) -> _Token:
        token = self.next
        if token.kind != kind:
            problem = f"Expected {kind}, found {token.text}"
            raise FilterError(problem, token.position)
        return self._tokens.pop(0) if kind != "end" else token

    def expression(self) -> Predicate:
        """Return terms joined by AND and OR."""
        factors = [self._factor(self._term)]
        while self.next.kind == "AND":
            self.take("AND")
            factors.append(self._factor(self._term))
        return lambda entry: all(factor(entry) for factor in factors)

    def _factor(self, term: Callable[[], Predicate]) -> Predicate:
        terms = [term()]
        while self.next.kind == "OR":
            self.take("OR")
            terms.append(term())
        return lambda entry: any(term(entry) for term in terms)

    def _term(self) -> Predicate:
        if self.next.kind == "(":
            return self._parenthesized(self.expression)
        name = self.take("word")
        if name.text == "log_id":
            return self._parenthesized(self._log_id)
        if name.text in _TIMES:
            return self._since(_TIMES[name.text])
        if not _FIELD.fullmatch(name.text):
            raise FilterError(f"The field {name.text} is not known", name.position)
        path = name.text.split(".")
        self.take("=")
        if self.next.kind == "(":
            return self._parenthesized(lambda: self._factor(lambda: self._equals(path)))
        return self._equals(path)

    def _parenthesized(self, inner: Callable[[], Predicate]) -> Predicate:
        self.take("(")
        predicate = inner()
        self.take(")")
        return predicate

    def _log_id(self) -> Predicate:
        requested = self._string()
        return lambda entry: entry.log_id.casefold() == requested.casefold()

    def _since(self, time_of: Callable[[Entry], int]) -> Predicate:
        self.take(">=")
        token = self.next
        try:
            since = parse_time(self._string())
        except ValueError as error:
            raise FilterError(str(error), token.position) from error
        return lambda entry: time_of(entry) >= since

    def _equals(self, path: list[str]) -> Predicate:
        requested = self._string()

        def equals(entry: Entry) -> bool:
            value: Any = entry.data
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            return isinstance(value, str) and value.casefold() == requested.casefold()

        return equals

    def _string(self) -> str:
        return re.sub(r"\\(.)", r"\1", self.take("string").text[1:-1], flags=re.DOTALL)
