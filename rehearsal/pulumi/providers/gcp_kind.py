"""What all resource types of the gcp provider share: checks, and the translation to REST.

Property names agree nearly everywhere with Google's REST APIs, so a table holds the exceptions and
both directions read it. Paths have no list indexes: nodeConfig.taints.key.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.properties import (
    DEFAULTS,
    Change,
    Props,
    Rules,
    has_unknown,
    merged,
)
from rehearsal.pulumi.providers.protocol import ProviderError
from rehearsal.pulumi.providers.shapes import Failure, input_class, refusals

ATTRIBUTION = {"goog-pulumi-provisioned": "true"}
"""The label that the official provider adds to everything that takes labels."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where SDK and REST differ.

    Attributes:
        rows: SDK path to the REST path below the same parent object; '' for what is not sent.
        int64: SDK paths of numbers that travel as strings, as JSON of an int64 does.
        single: SDK paths of lists that hold the one REST object.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    int64: Collection[str] = ()
    single: Collection[str] = ()

    def to_rest(self, props: Mapping[str, Any], at: str = "") -> Props:
        """Return the REST body of these properties."""
        body: Props = {}
        for key, item in props.items():
            path = f"{at}.{key}" if at else key
            target = self.rows.get(path, key)
            if target and key != DEFAULTS:
                value = self._rest_value(item, path)
                for part in reversed(target.split(".")):
                    value = {part: value}
                body = merged(body, value)
        return body

    def _rest_value(self, item: Any, path: str) -> Any:
        if isinstance(item, Mapping):
            return self.to_rest(item, path)
        if isinstance(item, list):
            values = [self._rest_value(each, path) for each in item]
            return (values[0] if values else {}) if path in self.single else values
        return str(item) if path in self.int64 else item

    def from_rest(self, tree: "Tree", body: Mapping[str, Any], at: str = "") -> Props:
        """Return the properties of `tree` that a REST answer holds."""
        props: Props = {}
        for key, inner in tree.items():
            path = f"{at}.{key}" if at else key
            target = self.rows.get(path, key)
            found = _dig(body, target) if target else None
            if found is not None:
                props[key] = self._sdk_value(inner, found, path)
        return props

    def _sdk_value(self, tree: "Tree", found: Any, path: str) -> Any:
        if isinstance(found, Mapping):
            inner = self.from_rest(tree, found, path) if tree else dict(found)
            return [inner] if path in self.single else inner
        if isinstance(found, list):
            return [self._sdk_value(tree, each, path) for each in found]
        return int(found) if path in self.int64 else found


Tree = dict[str, Any]
"""Supported properties by name; those of an object below it, {} for a value or a map."""


def _dig(body: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(body, Mapping):
            return None
        body = body.get(key)
    return body


@dataclass(frozen=True, slots=True)
class Update:
    """A change in place: the outputs before, the inputs now, and what differs."""

    state: Props
    new: Props
    changes: list[Change]

    @property
    def tops(self) -> set[str]:
        """The top-level properties that differ."""
        return {change.top for change in self.changes}


class CreatedBrokenError(Exception):
    """The resource of this id was created, but its operation failed or its state is an error."""

    def __init__(self, resource_id: str, message: str) -> None:
        super().__init__(message)
        self.resource_id = resource_id


class Kind(ABC):
    """One resource type.

    Class attributes:
        resource_type: Pulumi's type token.
        service: the API that has it.
        properties: paths of the properties that are implemented, separated by spaces.
        needed: of these, what the SDK does not require but this fake does.
        table: names that differ between SDK and REST.
        rules: what changes mean.
        defaults: inputs that Check fills in, as the official provider does.
        state_only: properties that no answer of Google holds.
        auto_named: whether a name is generated where none is given.
        labels: the property with the user's labels; '' if there are none.
        patterns: legal form and its description, by property.
        enums: legal values, by path.
        minimums: least numbers, by path.
    """

    resource_type: ClassVar[str]
    service: ClassVar[str]
    properties: ClassVar[str]
    needed: ClassVar[Collection[str]] = ()
    table: ClassVar[Table] = Table()
    rules: ClassVar[Rules] = Rules()
    defaults: ClassVar[Mapping[str, Any]] = {}
    state_only: ClassVar[Collection[str]] = ()
    auto_named: ClassVar[bool] = False
    labels: ClassVar[str] = ""
    patterns: ClassVar[Mapping[str, tuple[str, str]]] = {}
    enums: ClassVar[Mapping[str, Collection[Any]]] = {}
    minimums: ClassVar[Mapping[str, int]] = {}

    @cached_property
    def args(self) -> type:
        """The SDK's input class."""
        module, _, name = self.resource_type.removeprefix("gcp:").rpartition(":")
        return input_class(f"pulumi_gcp.{module.partition('/')[0]}", f"{name}Args")

    @cached_property
    def tree(self) -> Tree:
        """The implemented properties."""
        tree: Tree = {}
        for path in self.properties.split():
            inner = tree
            for key in path.split("."):
                inner = inner.setdefault(key, {})
        return tree

    def type_failures(self, name: str, inputs: Props) -> list[Failure]:
        """Return what the SDK's types refuse, and what is not implemented here."""
        subject = f"{self.resource_type.rpartition(':')[2]} {name!r}"
        failures = refusals(self.args, inputs, subject)
        failures += [
            Failure(key, f"{subject} needs the property {key}, which is missing.")
            for key in self.needed
            if key not in inputs
        ]
        return failures or [
            Failure(path, f"{subject}: the fake gcp provider does not implement {path}.")
            for path in _unknown_paths(self.tree, inputs)
        ]

    def value_failures(self, inputs: Props) -> list[Failure]:
        """Return what the official provider refuses before any call, beyond the SDK's types."""
        failures = [
            Failure(key, f"{key} {inputs[key]!r} is not legal: {words}.")
            for key, (form, words) in self.patterns.items()
            if key in inputs
            and not has_unknown(inputs[key])
            and not re.fullmatch(form, str(inputs[key]))
        ]
        for path, value in _leaves(inputs):
            legal, least = self.enums.get(path), self.minimums.get(path)
            if legal is not None and value not in legal:
                words = f"to be one of {sorted(legal)}"
            elif least is not None and value < least:
                words = f"to be at least ({least})"
            else:
                continue
            failures.append(Failure(path, f"expected {path} {words}, got {value!r}."))
        return failures

    @abstractmethod
    def create(self, api: GoogleApi, inputs: Props) -> str:
        """Create it and wait; return its id.

        Raises:
            ProviderError: nothing was created.
            CreatedBrokenError: it was created, but is broken.
        """

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """Return Google's answer about it, None if it does not exist."""
        return api.find(self.service, resource_id)

    def outputs(self, resource_id: str, body: Json) -> Props:
        """Return the outputs that Google's answer holds."""
        return self.table.from_rest(self.tree, body)

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """Change it in place."""
        self.refuse_changes(resource_id, update.tops)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """Delete it and wait."""
        api.remove(self.service, resource_id)

    def refuse_changes(self, resource_id: str, paths: Collection[str]) -> None:
        """Raise ProviderError if there is any change that is not implemented."""
        if paths:
            raise ProviderError(
                f"The fake gcp provider cannot change {min(paths)} of {resource_id} in place; "
                "install the official plugin, or replace the resource."
            )

    def body(self, inputs: Props) -> Json:
        """Return the REST form of inputs, with all labels."""
        body = self.table.to_rest(inputs)
        if self.labels:
            body[self.labels] = ATTRIBUTION | inputs.get(self.labels, {})
        return body


def _unknown_paths(tree: Tree, inputs: Any, at: str = "") -> Iterator[str]:
    if isinstance(inputs, list):
        for item in inputs:
            yield from _unknown_paths(tree, item, at)
    elif isinstance(inputs, Mapping):
        for key, item in inputs.items():
            path = f"{at}.{key}" if at else key
            if key not in tree:
                yield path
            elif tree[key]:
                yield from _unknown_paths(tree[key], item, path)


def _leaves(inputs: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of everything that is known and neither list nor object."""
    if isinstance(inputs, list):
        for item in inputs:
            yield from _leaves(item, at)
    elif isinstance(inputs, Mapping):
        for key, item in inputs.items():
            yield from _leaves(item, f"{at}.{key}" if at else key)
    elif not has_unknown(inputs):
        yield at, inputs
