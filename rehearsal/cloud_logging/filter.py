"""Cloud Logging's query language: the part of it that people write, parsed and applied.

    expression  = factor { ["AND"] factor }
    factor      = term { "OR" term }            OR binds tighter than AND
    term        = [ "NOT" | "-" ] ( "(" expression ")" | function | comparison | value )
    comparison  = field operator ( value | "(" values ")" )
    function    = "log_id" "(" value ")"

Strings compare without regard to case (NFKC, folded), regular expressions with. A comparison with a
missing field is false, `!=` too. What Google would accept and this does not (SEARCH, cast, sample,
fields such as httpRequest) is refused with its position, never ignored.
https://cloud.google.com/logging/docs/view/logging-query-language
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from rehearsal.cloud_logging.entries import Entry
from rehearsal.cloud_logging.match import (
    Field,
    Literal,
    OperandError,
    compare,
    in_any_field,
    log_id_is,
)

Predicate = Callable[[Entry], bool]
_LONGEST = 20_000
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<operator>!=|>=|<=|=~|!~|=|>|<|:)
  | (?P<mark>[().,*])
  | (?P<number>-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w./+-]))
  | (?P<minus>-)
  | (?P<word>[^\s"'=!<>:~(),.*-][^\s"'=!<>:~(),.*]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class FilterError(Exception):
    """A filter that cannot be read.

    Args:
        problem: what is wrong.
        position: where it begins, counted from 0.
    """

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"{problem} at position {position}")
        self.position = position


def parse_filter(text: str) -> Predicate:
    """What a filter says, as a function that tells whether an entry matches.

    Raises:
        FilterError: it is not in the language, or beyond the part of it that is known here.
    """
    if len(text) > _LONGEST:
        raise FilterError(f"The filter is longer than {_LONGEST} characters", _LONGEST)
    parser = _Parser(_tokens(text))
    if parser.peek().kind == "end":
        return lambda _entry: True
    predicate = parser.expression()
    parser.expect("end")
    return predicate


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FilterError(f"Unexpected {text[position]!r}", position)
        kind = match.lastgroup or ""
        if kind in {"operator", "mark", "minus"} or (
            kind == "word" and match[0] in {"AND", "OR", "NOT"}
        ):
            kind = match[0]
        if kind != "space":
            tokens.append(_Token(kind, match[0], position))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


_OPERATORS = {"=", "!=", ">", ">=", "<", "<=", ":", "=~", "!~"}
_VALUES = {"string", "number", "word"}


class _Parser:
    """Recursive descent: a method for each rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> _Token:
        token = self.peek()
        self._at += 1
        return token

    def accept(self, kind: str) -> bool:
        if self.peek().kind != kind:
            return False
        self._at += 1
        return True

    def expect(self, kind: str) -> None:
        token = self.take()
        if token.kind != kind:
            wanted = "the end" if kind == "end" else repr(kind)
            raise FilterError(f"Expected {wanted}, found {token}", token.position)

    def expression(self) -> Predicate:
        return self._sequence(self._term)

    def _sequence(self, term: Callable[[], Predicate]) -> Predicate:
        factors = [self._factor(term)]
        while self.peek().kind not in {"end", ")"}:
            self.accept("AND")
            factors.append(self._factor(term))
        if len(factors) == 1:
            return factors[0]
        return lambda entry: all(factor(entry) for factor in factors)

    def _factor(self, term: Callable[[], Predicate]) -> Predicate:
        terms = [self._negatable(term)]
        while self.accept("OR"):
            terms.append(self._negatable(term))
        if len(terms) == 1:
            return terms[0]
        return lambda entry: any(term(entry) for term in terms)

    def _negatable(self, term: Callable[[], Predicate]) -> Predicate:
        if self.accept("NOT") or self.accept("-"):
            negated = term()
            return lambda entry: not negated(entry)
        return term()

    def _term(self) -> Predicate:
        if self.accept("("):
            inner = self.expression()
            self.expect(")")
            return inner
        token = self.peek()
        if self._calls(token, self.peek(1)):
            return self._function()
        # A field's name is written as words and strings with dots between; a lone one is a value.
        if token.kind in {"word", "string"} and self.peek(1).kind in {".", *_OPERATORS}:
            return self._comparison()
        return in_any_field(self._value())

    def _function(self) -> Predicate:
        name = self.take()
        if name.text.lower() != "log_id":
            raise FilterError(f"The function {name.text} is not known here", name.position)
        self.expect("(")
        value = self._value()
        self.expect(")")
        return log_id_is(value)

    def _comparison(self) -> Predicate:
        field = self._field()
        operator = self.take()
        if operator.kind not in _OPERATORS:
            problem = f"Expected an operator after {field}, found {operator}"
            raise FilterError(problem, operator.position)

        def compared() -> Predicate:
            if self.accept("("):
                return values()
            token = self.peek()
            exists = operator.kind == ":" and self.accept("*")
            try:
                return compare(field, operator.kind, None if exists else self._value())
            except OperandError as error:
                raise FilterError(str(error), token.position) from None

        def values() -> Predicate:
            inner = self._sequence(compared)
            self.expect(")")
            return inner

        return compared()

    @staticmethod
    def _calls(token: _Token, after: _Token) -> bool:
        """Whether two tokens begin a function's call; with a space between they are two terms."""
        touching = after.position == token.position + len(token.text)
        return token.kind == "word" and after.kind == "(" and touching

    def _field(self) -> Field:
        start = self.peek()
        names = [self._name()]
        while self.accept("."):
            names.append(self._name())
        try:
            return Field.of(tuple(names))
        except OperandError as error:
            raise FilterError(str(error), start.position) from None

    def _name(self) -> str:
        token = self.take()
        if token.kind == "string":
            return _unquoted(token.text)
        if token.kind not in {"word", "number"}:
            raise FilterError(f"Expected a field's name, found {token}", token.position)
        return token.text

    def _value(self) -> Literal:
        token = self.take()
        if token.kind not in _VALUES:
            raise FilterError(f"Expected a value, found {token}", token.position)
        after = self.peek()
        unquoted = token.kind != "string" and after.kind in _OPERATORS
        if after.kind == "." or unquoted or self._calls(token, after):
            problem = f"Unexpected {after} after the value {token}: quote the value"
            raise FilterError(problem, after.position)
        text = _unquoted(token.text) if token.kind == "string" else token.text
        return Literal(text, quoted=token.kind == "string")


def _unquoted(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xu" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8))
        return _CONTROL.get(code, code)

    return _ESCAPE.sub(character, text[1:-1])
