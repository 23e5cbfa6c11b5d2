"""Property values as the engine sends them: plain JSON values with a mark for "not known yet".

Secrets never arrive here: the providers do not accept them, so the engine sends plain values and
marks the state secret itself.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from pulumi.runtime.rpc import UNKNOWN

Props = dict[str, Any]
"""Property names in the SDK's wire form (camelCase) to JSON values; ints stay ints."""

DEFAULTS = "__defaults"
"""Bookkeeping property of checked inputs: the names that Check filled in."""


def from_struct(struct: Struct) -> Props:
    """The properties of a message; nulls are dropped and whole numbers become ints."""
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
    """The message of these properties; None values are dropped."""
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
    """Whether any part of a value is not known yet, as it happens in a preview."""
    if isinstance(item, Mapping):
        return any(has_unknown(each) for each in item.values())
    if isinstance(item, list):
        return any(has_unknown(each) for each in item)
    return bool(item == UNKNOWN)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Props:
    """`under` with the values of `over` laid over it, object by object; lists are replaced."""
    result = dict(under)
    for key, item in over.items():
        below = result.get(key)
        if isinstance(item, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, item)
        else:
            result[key] = item
    return result
