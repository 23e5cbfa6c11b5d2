"""Decides what a changed program means for a resource: nothing, an update or a replacement.

The new inputs are compared with what is there (the state, which Google or Kubernetes filled in),
so saying a default aloud is no change; only a property that the program gave before and no longer
gives counts as removed.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rehearsal.pulumi.providers.properties import Props, has_unknown, merged


class Effect(StrEnum):
    """What became of a property."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Change:
    """One changed property.

    Attributes:
        path: for example nodeConfig.labels["pull-study/measured"] or taints[0].effect.
        effect: added, removed or changed.
        replace: whether the resource must be made anew for it.
    """

    path: str
    effect: Effect
    replace: bool = False

    @property
    def top(self) -> str:
        """The top-level property that this change is in."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a resource type takes changes. Paths have no list indexes and name all below them.

    Attributes:
        replace: a change here makes the resource anew.
        computed: may be left out later without a change, because the other side fills it in.
        unordered: lists whose order means nothing.
        links: may be given as a name or as a path that ends in it.
        sizes: address ranges that may be given as a size alone (/14).
        ignore_case: strings that differ in case alone are the same.
        equal: says of a path and two values whether they mean the same nevertheless.
    """

    replace: Collection[str] = ()
    computed: Collection[str] = ()
    unordered: Collection[str] = ()
    links: Collection[str] = ()
    sizes: Collection[str] = ()
    ignore_case: Collection[str] = ()
    equal: Callable[[str, Any, Any], bool] | None = None


def under(path: str, roots: Collection[str]) -> bool:
    """Whether a path (its list indexes do not matter) is one of `roots` or below one."""
    plain = _plain(path)
    return any(plain == root or plain.startswith((f"{root}.", f"{root}[")) for root in roots)


def _plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


def changes(
    rules: Rules, state: Mapping[str, Any], old_inputs: Mapping[str, Any], new_inputs: Props
) -> list[Change]:
    """What changes when a resource gets new inputs.

    Args:
        rules: of the resource type.
        state: its outputs, as last read.
        old_inputs: what the program gave last time.
        new_inputs: what the program gives now; values not known yet count as changed.
    """
    there = merged(old_inputs, state)
    return [
        Change(change.path, change.effect, under(change.path, rules.replace))
        for change in _object(rules, there, old_inputs, new_inputs, "")
    ]


def _object(
    rules: Rules, there: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], at: str
) -> Iterator[Change]:
    for key in sorted(new.keys() | old.keys()):
        path = joined(at, key)
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
    if under(path, rules.unordered) and sorted(map(str, there)) == sorted(map(str, new)):
        return
    if len(there) != len(new):
        yield Change(path, Effect.UPDATE)
        return
    before = old if isinstance(old, list) and len(old) == len(new) else [None] * len(new)
    for index, item in enumerate(new):
        yield from _value(rules, there[index], before[index], item, f"{path}[{index}]")


def _same(rules: Rules, there: Any, new: Any, path: str) -> bool:
    if there == new or (rules.equal is not None and rules.equal(path, there, new)):
        return True
    if not (isinstance(there, str) and isinstance(new, str)):
        return False
    if under(path, rules.ignore_case):
        return there.lower() == new.lower()
    if under(path, rules.sizes) and new.startswith("/"):
        return there.endswith(new)
    if under(path, rules.links):
        return there.rpartition("/")[2] == new.rpartition("/")[2]
    return False


def refreshed(rules: Rules, inputs: Mapping[str, Any], live: Mapping[str, Any]) -> Props:
    """Inputs with what is really there: the live value of each property that they name.

    A property that the live object leaves out is taken as removed, unless its value was the zero
    value (false, 0, "", empty), which Google's APIs leave out always.
    """
    return {
        key: _refreshed(rules, given, live.get(key), key)
        for key, given in inputs.items()
        if key in live or _zero(given)
    }


def _refreshed(rules: Rules, given: Any, found: Any, path: str) -> Any:
    if found is None:
        return given
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        return {
            key: _refreshed(rules, item, found.get(key), joined(path, key))
            for key, item in given.items()
            if key in found or _zero(item)
        }
    if isinstance(given, list) and isinstance(found, list):
        if under(path, rules.unordered) and sorted(map(str, given)) == sorted(map(str, found)):
            return given
        if len(given) == len(found):
            return [
                _refreshed(rules, old, new, path) for old, new in zip(given, found, strict=True)
            ]
        return found
    return given if _same(rules, found, given, path) else found


def zeros(inputs: Mapping[str, Any]) -> Props:
    """The part of inputs that is false, 0, "" or empty, and so in no answer of Google's."""
    return {
        key: zeros(item) if isinstance(item, Mapping) else item
        for key, item in inputs.items()
        if not item or (isinstance(item, Mapping) and zeros(item))
    }


def _zero(item: Any) -> bool:
    if isinstance(item, Mapping):
        return all(_zero(each) for each in item.values())
    return not item


def joined(at: str, key: str) -> str:
    """The path of a property below `at`, in Pulumi's spelling."""
    if not re.fullmatch(r"[A-Za-z_$][\w$]*", key):
        return f'{at}["{key}"]'
    return f"{at}.{key}" if at else key
