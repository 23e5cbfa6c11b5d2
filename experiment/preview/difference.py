"""The difference between the planned inputs of two previews of a stack. Pure.

Both previews plan a new stack, so a value that only Google knows is unknown, and equal, in both.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_VOLATILE = {
    "gcp:cloudscheduler/job:Job": r"schedule",
    "gcp:container/cluster:Cluster": (
        r"\w*[lL]abels\.expires|maintenancePolicy\.maintenanceExclusions\[0\]\.(start|end)Time"
    ),
}
"""Paths of the deadline by type, which differs between any two previews."""
_BUCKET = "gcp:storage/bucket:Bucket"
"""The only type with a random suffix in its name."""

Resources = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one resource.

    Attributes:
        step: create, update or delete.
        type: Pulumi's type token.
        name: its name in the program.
        properties: paths of the inputs that differ; empty for create and delete.
    """

    step: str
    type: str
    name: str
    properties: tuple[str, ...] = ()


def changes(before: Resources, after: Resources) -> Iterator[Change]:
    """Compare the resources of two previews, in order of type and name."""
    old, new = _by_key(before), _by_key(after)
    for key in sorted(old.keys() | new.keys()):
        if key not in new:
            yield Change("delete", *key)
        elif key not in old:
            yield Change("create", *key)
        else:
            volatile = _VOLATILE.get(key[0], "")
            found = _paths(old[key], new[key])
            paths = tuple(path for path in found if not re.fullmatch(volatile, path))
            if paths:
                yield Change("update", *key, paths)


def _by_key(resources: Resources) -> dict[tuple[str, str], Any]:
    text = json.dumps(list(resources))
    for each in resources:
        if each["type"] == _BUCKET and "name" in each["inputs"]:
            text = text.replace(each["inputs"]["name"], each["name"])
    return {(each["type"], each["name"]): each["inputs"] for each in json.loads(text)}


def _paths(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Paths at which two values differ, such as nodeConfig.machineType or rules[0].days."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _paths(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _paths(*pair, f"{path}[{index}]")
    elif old != new:
        yield path
