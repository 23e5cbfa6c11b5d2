"""What a provider is to the engine, without gRPC.

A provider is two objects: a `Provider`, which knows its configuration keys, and the `Session` that
it makes for each configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rehearsal.pulumi.providers.differences import Change
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.shapes import Failure


class ProviderError(Exception):
    """Something that the engine shows to the user as it is: one sentence."""


class NotReadyError(ProviderError):
    """The resource is there, but not as it should be: the state keeps it, the command fails.

    Attributes:
        resource_id: its id.
        outputs: its outputs as far as they can be read.
        reasons: what is wrong, a sentence each.
    """

    def __init__(self, resource_id: str, outputs: Props, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.resource_id = resource_id
        self.outputs = outputs
        self.reasons = list(reasons)


@dataclass(frozen=True, slots=True)
class Resource:
    """Which resource a call is about.

    Attributes:
        type: the type token, for example gcp:container/cluster:Cluster.
        name: its name in the program.
        timeout_s: what customTimeouts allow for this call; 0 if nothing is said.
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
    """What an update would do.

    Attributes:
        changes: none if the resource stays as it is.
        delete_first: a replacement cannot stand beside what it replaces (same name).
    """

    changes: list[Change]
    delete_first: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as it is."""

    resource_id: str
    inputs: Props
    outputs: Props


class Session(Protocol):
    """A configured provider. Calls come from many threads; each raises ProviderError."""

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """Refuse or complete inputs; no request leaves the process."""

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """Compare; no request leaves the process."""

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Make it and wait until it is ready: its id and outputs."""

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it; None if it is gone. `inputs` are empty for an import."""

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Change it in place: its outputs."""

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Remove it and wait until it is gone; a resource that is gone already is no error."""

    def cancel(self) -> None:
        """Give up what can be given up without losing sight of a resource."""


class Provider(Protocol):
    """A kind of provider."""

    name: str
    """The package, for example gcp."""
    version: str
    """Of the SDK whose types it checks against."""

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """The configuration keys whose change means another cloud: everything is made anew."""

    def configure(self, config: Mapping[str, str]) -> Session:
        """A session. Values that are not strings arrive as JSON."""
