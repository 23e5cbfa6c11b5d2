"""Property values as the engine sends them, and what a change of them means for a resource.

Values are plain JSON with a mark for "unknown". Secrets never arrive: the providers do not accept
them, so the engine sends plain values and marks the state secret itself.

New inputs are compared with the state, which Google or Kubernetes completed, so giving a default
explicitly is no change; only a property that the program gave before and gives no longer counts as
removed.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from pulumi.runtime.rpc import UNKNOWN

Props = dict[str, Any]
"""Property names in the SDK's wire form (camelCase) to JSON values; ints stay ints."""

DEFAULTS = "__defaults"
"""Bookkeeping property of checked inputs: the names that Check filled in."""


def from_struct(struct: Struct) -> Props:
    """Return the properties of a message; nulls are dropped, whole numbers become ints."""
    return {
        key: _from_value(value)
        for key, value in struct.fields.items()
        if value.WhichOneof("kind") not in {None, "null_value"}
    }


def _from_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def to_struct(props: Mapping[str, Any]) -> Struct:
    """Return the message of these properties; None values are dropped."""
    struct = Struct()
    for key, item in props.items():
        if item is not None:
            struct.fields[key].CopyFrom(_to_value(item))
    return struct


def _to_value(item: Any) -> Value:
    match item:
        case None:
            return Value(null_value=NULL_VALUE)
        case bool():
            return Value(bool_value=item)
        case int() | float():
            return Value(number_value=item)
        case str():
            return Value(string_value=item)
        case Mapping():
            return Value(struct_value=to_struct(item))
        case _:
            return Value(list_value=ListValue(values=[_to_value(each) for each in item]))


def has_unknown(item: Any) -> bool:
    """Return whether any part of a value is unknown, as happens in a preview."""
    if isinstance(item, Mapping):
        return any(has_unknown(each) for each in item.values())
    if isinstance(item, list):
        return any(has_unknown(each) for each in item)
    return bool(item == UNKNOWN)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Props:
    """Merge `over` into a copy of `under`, object by object; lists are replaced."""
    result = dict(under)
    for key, item in over.items():
        below = result.get(key)
        if isinstance(item, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, item)
        else:
            result[key] = item
    return result


class Effect(StrEnum):
    """What happened to a property."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Change:
    """One changed property, for example nodeConfig.labels["a/b"] or taints[0].effect."""

    path: str
    effect: Effect
    replace: bool = False

    @property
    def top(self) -> str:
        """The top-level property of the path."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a resource type takes changes. Paths have no list indexes and cover all below them.

    Attributes:
        replace: a change here replaces the resource.
        computed: may be left out later without a change, because the server fills it in.
        unordered: lists whose order means nothing.
        equal: whether two values of a path, (path, state, new), mean the same.
    """

    replace: Collection[str] = ()
    computed: Collection[str] = ()
    unordered: Collection[str] = ()
    equal: Callable[[str, Any, Any], bool] = lambda path, there, new: there == new


def _under(path: str, roots: Collection[str]) -> bool:
    plain = _plain(path)
    return any(plain == root or plain.startswith((f"{root}.", f"{root}[")) for root in roots)


def _plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


def changes(
    rules: Rules, state: Mapping[str, Any], old_inputs: Mapping[str, Any], new_inputs: Props
) -> list[Change]:
    """Return what changes when a resource gets new inputs; unknown values count as changed."""
    there = merged(old_inputs, state)
    return [
        Change(change.path, change.effect, _under(change.path, rules.replace))
        for change in _object(rules, there, old_inputs, new_inputs, "")
    ]


def _object(
    rules: Rules, there: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], at: str
) -> Iterator[Change]:
    for key in sorted(new.keys() | old.keys()):
        path = _joined(at, key)
        if key.startswith("__"):
            continue
        if key not in new:
            if _plain(path) not in rules.computed:
                yield Change(path, Effect.DELETE)
        elif key not in there:
            if new[key] or not isinstance(new[key], dict | list):
                yield Change(path, Effect.ADD)
        else:
            yield from _value(rules, there[key], old.get(key), new[key], path)


def _value(rules: Rules, there: Any, old: Any, new: Any, path: str) -> Iterator[Change]:
    if isinstance(there, Mapping) and isinstance(new, Mapping):
        yield from _object(rules, there, old if isinstance(old, Mapping) else {}, new, path)
    elif isinstance(there, list) and isinstance(new, list) and not has_unknown(new):
        yield from _list(rules, there, old, new, path)
    elif has_unknown(new) or not _same(rules, there, new, path):
        yield Change(path, Effect.UPDATE)


def _list(rules: Rules, there: list[Any], old: Any, new: list[Any], path: str) -> Iterator[Change]:
    if _permuted(rules, there, new, path):
        return
    if len(there) != len(new):
        yield Change(path, Effect.UPDATE)
        return
    before = old if isinstance(old, list) and len(old) == len(new) else [None] * len(new)
    for index, item in enumerate(new):
        yield from _value(rules, there[index], before[index], item, f"{path}[{index}]")


def _same(rules: Rules, there: Any, new: Any, path: str) -> bool:
    return bool(there == new or rules.equal(path, there, new))


def _permuted(rules: Rules, there: list[Any], new: list[Any], path: str) -> bool:
    return _under(path, rules.unordered) and sorted(map(str, there)) == sorted(map(str, new))


def refreshed(
    rules: Rules, inputs: Mapping[str, Any], live: Mapping[str, Any], at: str = ""
) -> Props:
    """Return inputs with the live value of each property that they name.

    A property that the live object lacks counts as removed, unless its value was the zero value
    (false, 0, "", empty), which Google's APIs always leave out.
    """
    return {
        key: _refreshed(rules, given, live.get(key), _joined(at, key))
        for key, given in inputs.items()
        if key in live or _zero(given)
    }


def _refreshed(rules: Rules, given: Any, found: Any, path: str) -> Any:
    if found is None:
        return given
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        return refreshed(rules, given, found, path)
    if isinstance(given, list) and isinstance(found, list):
        if _permuted(rules, found, given, path):
            return given
        if len(given) == len(found):
            return [
                _refreshed(rules, old, new, path) for old, new in zip(given, found, strict=True)
            ]
        return found
    return given if _same(rules, found, given, path) else found


def zeros(inputs: Mapping[str, Any]) -> Props:
    """Return the part of inputs that is false, 0, "" or empty, and so in no answer of Google."""
    return {
        key: zeros(item) if isinstance(item, Mapping) else item
        for key, item in inputs.items()
        if not item or (isinstance(item, Mapping) and zeros(item))
    }


def _zero(item: Any) -> bool:
    if isinstance(item, Mapping):
        return all(_zero(each) for each in item.values())
    return not item


def _joined(at: str, key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_$][\w$]*", key):
        return f'{at}["{key}"]'
    return f"{at}.{key}" if at else key
