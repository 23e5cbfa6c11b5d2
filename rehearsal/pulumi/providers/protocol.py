"""A provider as the engine sees it, without gRPC.

A `Provider` knows its configuration keys and makes a `Session` for each configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rehearsal.pulumi.providers.properties import Change, Props
from rehearsal.pulumi.providers.shapes import Failure


class ProviderError(Exception):
    """One sentence that the engine shows to the user as it is."""


class NotReadyError(ProviderError):
    """The resource exists but is broken: the state keeps it, the command fails."""

    def __init__(self, resource_id: str, outputs: Props, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.resource_id = resource_id
        self.outputs = outputs
        self.reasons = list(reasons)


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource of a call.

    Attributes:
        type: type token, for example gcp:container/cluster:Cluster.
        name: its name in the program.
        timeout_s: from customTimeouts; 0 if not set.
    """

    type: str
    name: str
    timeout_s: float = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """Inputs with defaults filled in, or what is wrong with them."""

    inputs: Props
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Difference:
    """What an update would do; `delete_first` if a replacement has the same name."""

    changes: list[Change]
    delete_first: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as it is."""

    resource_id: str
    inputs: Props
    outputs: Props


class Session(Protocol):
    """A configured provider. Called from many threads; every method raises ProviderError."""

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """Refuse or complete inputs, without a request."""

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """Compare, without a request."""

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Create it and wait until it is ready; return its id and outputs."""

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it; None if it does not exist."""

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Change it in place; return its outputs."""

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Delete it and wait; a resource that does not exist is no error."""

    def cancel(self) -> None:
        """Stop waiting, unless the state would lose a resource."""


class Provider(Protocol):
    """A kind of provider; `version` is that of the SDK whose types it checks against."""

    name: str
    version: str

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """Return the changed configuration keys that replace every resource."""

    def configure(self, config: Mapping[str, str]) -> Session:
        """Make a session. Values that are not strings arrive as JSON."""


def refuse_import(resource: Resource) -> ProviderError:
    """Return the error of a read without inputs."""
    return ProviderError(
        f"The fake provider cannot import {resource.type} ({resource.name}); install the official "
        "plugin to import it."
    )
