"""The properties that a resource accepts, read from the input classes of the Pulumi SDKs.

The official providers refuse an unknown or mistyped property in preview; so do the fakes. A
misspelt key in a dict argument reaches the provider, because the SDK does not check dicts.
"""

import difflib
import importlib
import inspect
import threading
import types
import typing
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pulumi import Output
from pulumi._types import input_type_py_to_pulumi_names, input_type_types, is_input_type
from pulumi.runtime.rpc import UNKNOWN

_SIMPLE: Mapping[type, tuple[str, tuple[type, ...]]] = {
    str: ("a string", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}
_LOADING = threading.RLock()
"""The SDKs load their parts on first use; a second thread would see them half-loaded."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input is refused: the property, for example nodeConfig.machineTyp, and a sentence."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties of an SDK input class: wire names to types, and the required ones."""

    types: Mapping[str, Any]
    required: frozenset[str]


@cache
def shape_of(args: type) -> Shape:
    """Return the shape of an SDK input class such as `pulumi_gcp.container.ClusterArgs`."""
    with _LOADING:
        names = input_type_py_to_pulumi_names(args)
        known = input_type_types(args)
        parameters = inspect.signature(args).parameters
    required = {
        wire
        for python, wire in names.items()
        if python in parameters and parameters[python].default is inspect.Parameter.empty
    }
    return Shape({wire: known.get(wire, Any) for wire in names.values()}, frozenset(required))


@cache
def input_class(module: str, name: str) -> type:
    """Return the SDK class `module`.`name`."""
    with _LOADING:
        found: type = getattr(importlib.import_module(module), name)
    return found


def refusals(args: type, value: Mapping[str, Any], subject: str) -> list[Failure]:
    """Return what is wrong with a value by the SDK's own types, at any depth.

    Unknown values pass. `subject` names the resource in a sentence, for example "Cluster 'c'".
    """
    return list(_object(args, value, subject, ""))


def _object(args: type, value: Mapping[str, Any], subject: str, at: str) -> Iterator[Failure]:
    shape = shape_of(args)
    for key, item in value.items():
        path = f"{at}.{key}" if at else key
        if key in shape.types:
            yield from _value(shape.types[key], item, subject, path)
        elif not key.startswith("__"):
            yield Failure(path, f"{subject} has no property {path}{_nearest(key, shape)}")
    for key in sorted(shape.required - value.keys()):
        path = f"{at}.{key}" if at else key
        yield Failure(path, f"{subject} needs the property {path}, which is missing.")


def _value(declared: Any, value: Any, subject: str, path: str) -> Iterator[Failure]:
    allowed = _candidates(declared)
    if value == UNKNOWN or any(each in {Any, object, typing.Any} for each in allowed):
        return
    fitting = [each for each in allowed if _fits(each, value)]
    if not fitting:
        expected = " or ".join(dict.fromkeys(_named(each) for each in allowed))
        yield Failure(path, f"{subject}: {path} must be {expected}, not {value!r}.")
        return
    yield from _inside(fitting[0], value, subject, path)


def _candidates(declared: Any) -> list[Any]:
    """Return the plain types that a declared input type allows, without Output and None."""
    if get_origin(declared) not in {Union, types.UnionType}:
        return [declared]
    return [
        inner
        for each in get_args(declared)
        if each is not type(None) and get_origin(each) not in {Awaitable, Output}
        for inner in _candidates(each)
    ]


def _inside(kind: Any, value: Any, subject: str, path: str) -> Iterator[Failure]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _value(get_args(kind)[0], item, subject, f"{path}[{index}]")
    elif isinstance(value, Mapping) and isinstance(kind, type) and is_input_type(kind):
        yield from _object(kind, value, subject, path)
    elif isinstance(value, Mapping) and get_args(kind):
        for key, item in value.items():
            yield from _value(get_args(kind)[1], item, subject, f'{path}["{key}"]')


def _fits(kind: Any, value: Any) -> bool:
    if kind in _SIMPLE:
        return isinstance(value, _SIMPLE[kind][1]) and (kind is bool or not isinstance(value, bool))
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin is Sequence:
        return isinstance(value, list)
    if isinstance(kind, type) and issubclass(kind, str):  # an enumeration of the SDK
        return isinstance(value, str)
    return isinstance(value, Mapping)


def _named(kind: Any) -> str:
    if kind in _SIMPLE:
        return _SIMPLE[kind][0]
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(repr(each) for each in get_args(kind))
    return "a list" if origin is Sequence else "an object"


def _nearest(key: str, shape: Shape) -> str:
    close = difflib.get_close_matches(key, shape.types, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "."
