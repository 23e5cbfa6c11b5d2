"""What the gcp provider knows of a resource type, and the steps that all types share."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.differences import Change, Rules
from rehearsal.pulumi.providers.gcp_translate import Table, from_rest, to_rest
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props, has_unknown
from rehearsal.pulumi.providers.shapes import Failure, input_class

ATTRIBUTION = {"goog-pulumi-provisioned": "true"}
"""The label that the official provider adds to everything that takes labels."""


@dataclass(frozen=True, slots=True)
class Update:
    """A change in place.

    Attributes:
        state: the outputs before.
        old: the inputs before.
        new: the inputs now.
        changes: what differs.
    """

    state: Props
    old: Props
    new: Props
    changes: list[Change]

    @property
    def tops(self) -> set[str]:
        """The top-level properties that differ."""
        return {change.top for change in self.changes}


class CreatedBrokenError(Exception):
    """It was created, but its operation failed or it is not in a good state.

    Attributes:
        resource_id: its id, under which it can be read and deleted.
    """

    def __init__(self, resource_id: str, said: str) -> None:
        super().__init__(said)
        self.resource_id = resource_id


@dataclass(frozen=True, slots=True)
class Pattern:
    """A legal form of a string, with the sentence's words for it."""

    form: str
    words: str


class Kind(ABC):
    """One resource type.

    Class attributes:
        resource_type: Pulumi's type token.
        supported: top-level properties that this stand-in implements; others are refused.
        table: names that differ between SDK and REST.
        rules: what changes mean.
        defaults: inputs that Check fills in, as the official provider does.
        state_only: properties that no answer of Google holds.
        auto_named: whether a name is made up where none is given.
        labels: the property with the user's labels; '' if there are none.
        patterns: legal forms of properties.
        enums: legal values, by path without indexes.
    """

    resource_type: ClassVar[str]
    supported: ClassVar[Collection[str]]
    table: ClassVar[Table] = Table()
    rules: ClassVar[Rules] = Rules()
    defaults: ClassVar[Mapping[str, Any]] = {}
    state_only: ClassVar[Collection[str]] = ()
    auto_named: ClassVar[bool] = False
    labels: ClassVar[str] = ""
    patterns: ClassVar[Mapping[str, Pattern]] = {}
    enums: ClassVar[Mapping[str, Collection[str]]] = {}

    @cached_property
    def args(self) -> type:
        """The SDK's input class."""
        module, _, name = self.resource_type.removeprefix("gcp:").rpartition(":")
        found = input_class(f"pulumi_gcp.{module.partition('/')[0]}", f"{name}Args")
        if found is None:
            raise ProviderError(f"pulumi_gcp has no {name}Args.")
        return found

    @property
    def title(self) -> str:
        """The type's short name, for sentences."""
        return self.resource_type.rpartition(":")[2]

    def refusals(self, inputs: Props) -> list[Failure]:
        """What the official provider refuses before any call, beyond the SDK's types."""
        return []

    @abstractmethod
    def create(self, api: GoogleApi, inputs: Props) -> str:
        """Make it and wait; returns its id.

        Raises:
            ProviderError: nothing was made.
            CreatedBrokenError: it was made, but is not as it should be.
        """

    @abstractmethod
    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """Google's answer about it, None if it is gone."""

    @abstractmethod
    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """Change it in place."""

    @abstractmethod
    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """Remove it and wait until it is gone."""

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """The outputs that Google's answer holds."""
        return from_rest(self.table, self.args, body)

    def body(self, api: GoogleApi, inputs: Props) -> Json:
        """The REST form of inputs, with all labels."""
        body = to_rest(self.table, inputs)
        if self.labels:
            body[self.labels] = all_labels(api, inputs.get(self.labels, {}))
        return body


def all_labels(api: GoogleApi, given: Mapping[str, str]) -> dict[str, str]:
    """Labels as Google gets them: the provider's, Pulumi's and the resource's own."""
    default: dict[str, str] = api.config.json("defaultLabels", {})
    attributed = api.config.json("addPulumiAttributionLabel", True)
    return {**default, **(ATTRIBUTION if attributed else {}), **given}


def project_of(api: GoogleApi, inputs: Mapping[str, Any]) -> str:
    """The project of a resource.

    Raises:
        ProviderError: neither the resource nor the provider names one.
    """
    project = inputs.get("project") or api.config.project()
    if not project:
        raise ProviderError(
            "project: required field is not set; set gcp:project or GOOGLE_CLOUD_PROJECT."
        )
    return str(project)


def location_of(api: GoogleApi, inputs: Mapping[str, Any], *, region: bool = False) -> str:
    """The zone or region of a resource.

    Raises:
        ProviderError: neither the resource nor the provider names one.
    """
    key = "region" if region else "location"
    default = api.config.region() if region else api.config.location()
    found = inputs.get("location") or inputs.get(key) or default
    if not found:
        raise ProviderError(
            f"{key}: required field is not set; set it on the resource or gcp:zone."
        )
    return str(found)


def enum_failures(kind: Kind, inputs: Any, at: str = "") -> list[Failure]:
    """Values that are none of the legal ones, at any depth."""
    if isinstance(inputs, list):
        return [failure for item in inputs for failure in enum_failures(kind, item, at)]
    if isinstance(inputs, Mapping):
        return [
            failure
            for key, item in inputs.items()
            for failure in enum_failures(kind, item, f"{at}.{key}" if at else key)
        ]
    legal = kind.enums.get(at)
    if legal is None or has_unknown(inputs) or inputs in legal:
        return []
    return [Failure(at, f"expected {at} to be one of {sorted(legal)}, got {inputs!r}.")]


def pattern_failures(kind: Kind, inputs: Props) -> list[Failure]:
    """Strings that do not have their legal form."""
    return [
        Failure(key, f"{key} {inputs[key]!r} is not legal: {pattern.words}.")
        for key, pattern in kind.patterns.items()
        if key in inputs
        and not has_unknown(inputs[key])
        and not re.fullmatch(pattern.form, str(inputs[key]))
    ]
