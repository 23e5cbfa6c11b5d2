"""Translates between the SDK's property names and the bodies of Google's REST APIs.

The names agree nearly everywhere, so a table holds the exceptions and both directions read it.
Paths have no list indexes: nodePools.nodeConfig.taints.key.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.pulumi.providers.properties import DEFAULTS, Props, merged
from rehearsal.pulumi.providers.shapes import candidates, object_class, shape_of


@dataclass(frozen=True, slots=True)
class Table:
    """Where the two sides differ.

    Attributes:
        rows: SDK path to the REST path below the same parent object; '' for what the API never
            sees.
        int64: SDK paths of numbers that travel as strings, as JSON of an int64 does.
        single: SDK paths of lists that hold the one REST object.
        upper_bools: SDK paths of "TRUE" and "FALSE" that are a bool in REST.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    int64: Collection[str] = ()
    single: Collection[str] = ()
    upper_bools: Collection[str] = ()

    def below(self, prefix: str) -> "Table":
        """This table for an object that is the property `prefix` of another."""

        def moved(paths: Collection[str]) -> list[str]:
            return [f"{prefix}.{path}" for path in paths]

        return Table(
            {f"{prefix}.{path}": target for path, target in self.rows.items()},
            moved(self.int64),
            moved(self.single),
            moved(self.upper_bools),
        )

    def __or__(self, other: "Table") -> "Table":
        return Table(
            {**self.rows, **other.rows},
            [*self.int64, *other.int64],
            [*self.single, *other.single],
            [*self.upper_bools, *other.upper_bools],
        )


def to_rest(table: Table, props: Mapping[str, Any], at: str = "") -> Props:
    """The REST body of these properties (without those that the API never sees)."""
    body: Props = {}
    for key, item in props.items():
        path = f"{at}.{key}" if at else key
        target = table.rows.get(path, key)
        if target and key != DEFAULTS:
            body = merged(body, _nested(target, _rest_value(table, item, path)))
    return body


def _rest_value(table: Table, item: Any, path: str) -> Any:
    if isinstance(item, Mapping):
        return to_rest(table, item, path)
    if isinstance(item, list):
        values = [_rest_value(table, each, path) for each in item]
        return (values[0] if values else {}) if path in table.single else values
    if path in table.int64:
        return str(item)
    if path in table.upper_bools:
        return item == "TRUE"
    return item


def _nested(target: str, item: Any) -> Props:
    for key in reversed(target.split(".")):
        item = {key: item}
    return dict(item)


def from_rest(table: Table, args: type, body: Mapping[str, Any], at: str = "") -> Props:
    """The properties, of those that the SDK input class `args` has, that a REST answer holds."""
    props: Props = {}
    for key, declared in shape_of(args).types.items():
        path = f"{at}.{key}" if at else key
        target = table.rows.get(path, key)
        found = dig(body, target) if target else None
        if found is not None:
            props[key] = _sdk_value(table, declared, found, path)
    return props


def _sdk_value(table: Table, declared: Any, found: Any, path: str) -> Any:
    args = object_class(declared)
    if isinstance(found, Mapping):
        inner = from_rest(table, args, found, path) if args else dict(found)
        return [inner] if path in table.single else inner
    if isinstance(found, list):
        return [_sdk_value(table, declared, each, path) for each in found]
    if path in table.upper_bools:
        return str(found).upper()
    if isinstance(found, str) and candidates(declared) == [int]:
        return int(found)
    return found


def dig(body: Any, path: str) -> Any:
    """The value at a dotted path, None if there is none."""
    for key in path.split("."):
        if not isinstance(body, Mapping):
            return None
        body = body.get(key)
    return body
