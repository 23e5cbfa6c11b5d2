"""The thin stand-in of Pulumi's gcp provider: the session that puts the resource types together."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from rehearsal.pulumi.providers.base import (
    Checked,
    Difference,
    Found,
    NotReadyError,
    ProviderError,
    Resource,
    Session,
)
from rehearsal.pulumi.providers.differences import changes, refreshed, zeros
from rehearsal.pulumi.providers.gcp_cluster import Cluster
from rehearsal.pulumi.providers.gcp_iam import (
    Account,
    AccountGrant,
    BucketGrant,
    CustomRole,
    ProjectGrant,
)
from rehearsal.pulumi.providers.gcp_kind import (
    CreatedBrokenError,
    Kind,
    Update,
    all_labels,
    enum_failures,
    pattern_failures,
)
from rehearsal.pulumi.providers.gcp_node_pool import NodePool
from rehearsal.pulumi.providers.gcp_services import Bucket, Job, ProjectSink, Repository, Service
from rehearsal.pulumi.providers.google_rest import GcpConfig, GoogleApi
from rehearsal.pulumi.providers.properties import DEFAULTS, Props, merged
from rehearsal.pulumi.providers.shapes import Failure, refusals, shape_of

KINDS: Mapping[str, Kind] = {
    kind.resource_type: kind
    for kind in (
        Account(), AccountGrant(), Bucket(), BucketGrant(), Cluster(), CustomRole(), Job(),
        NodePool(), ProjectGrant(), ProjectSink(), Repository(), Service(),
    )
}  # fmt: skip
_LONGEST_NAME = 63
_SUFFIX = 7


class GcpProvider:
    """The provider `gcp`."""

    name = "gcp"
    version = version("pulumi-gcp")

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """None: as with the official provider, resources name their project themselves."""
        return []

    def configure(self, config: Mapping[str, str]) -> Session:
        """A session; nothing is called yet."""
        return GcpSession(GoogleApi(GcpConfig(config)))

    def warm_up(self) -> None:
        """Load the SDK's types, which takes a second or two, before the first preview needs it."""
        for kind in KINDS.values():
            shape_of(kind.args)


class GcpSession:
    """One configured gcp provider."""

    def __init__(self, api: GoogleApi) -> None:
        self._api = api

    def _kind(self, resource: Resource) -> Kind:
        kind = KINDS.get(resource.type)
        if kind is None:
            raise ProviderError(
                f"The stand-in of the gcp provider does not implement {resource.type} "
                f"({resource.name}); install the official plugin to use it."
            )
        return kind

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """Defaults, a name, and what the official provider refuses."""
        kind = self._kind(resource)
        subject = f"{kind.title} {resource.name!r}"
        failures = refusals(kind.args, new, subject)
        failures += [
            Failure(key, f"{subject}: the stand-in of the gcp provider does not implement {key}.")
            for key in new
            if key in shape_of(kind.args).types and key not in kind.supported
        ]
        if failures:
            return Checked(new, failures)
        inputs = {**kind.defaults, **new}
        filled = [key for key in kind.defaults if key not in new]
        if kind.auto_named and "name" not in new:
            kept = old.get("name") if "name" in old.get(DEFAULTS, []) else None
            inputs["name"] = kept or _made_up_name(resource.name, seed)
            filled.append("name")
        failures = [
            *kind.refusals(inputs),
            *enum_failures(kind, inputs),
            *pattern_failures(kind, inputs),
        ]
        return Checked({**inputs, DEFAULTS: sorted(filled)}, failures)

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """By the type's rules."""
        kind = self._kind(resource)
        found = changes(kind.rules, state, old, new)
        fixed_name = kind.auto_named and "name" not in new.get(DEFAULTS, [])
        same_name = state.get("name", old.get("name")) == new.get("name")
        replaced = any(change.replace for change in found)
        return Difference(found, delete_first=replaced and fixed_name and same_name)

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Make it, wait and read it."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        try:
            resource_id = kind.create(api, inputs)
        except CreatedBrokenError as error:
            seen = self._outputs(kind, api, error.resource_id, inputs)
            raise NotReadyError(error.resource_id, seen or {}, [str(error)]) from error
        outputs = self._outputs(kind, api, resource_id, inputs)
        if outputs is None:
            raise ProviderError(f"{resource_id} was created and is gone already.")
        return resource_id, outputs

    def _outputs(self, kind: Kind, api: GoogleApi, resource_id: str, inputs: Props) -> Props | None:
        body = kind.fetch(api, resource_id, inputs)
        if body is None:
            return None
        given = {key: item for key, item in inputs.items() if key != DEFAULTS}
        outputs = merged(zeros(given), kind.outputs(api, resource_id, body))
        outputs |= {key: inputs[key] for key in kind.state_only if key in inputs}
        if kind.labels:
            outputs |= self._labels(kind, inputs, body.get(kind.labels, {}))
        return outputs

    def _labels(self, kind: Kind, inputs: Props, live: Mapping[str, str]) -> Props:
        own = inputs.get(kind.labels, {})
        return {
            kind.labels: {key: value for key, value in live.items() if key in own},
            "effectiveLabels": dict(live),
            "pulumiLabels": all_labels(self._api, own),
        }

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it, with inputs that say what is really there."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        outputs = self._outputs(kind, api, resource_id, inputs)
        if outputs is None:
            return None
        if not inputs:
            known = {*shape_of(kind.args).types} & {*kind.supported}
            imported = {key: item for key, item in outputs.items() if key in known}
            return Found(resource_id, {**kind.defaults, **imported}, outputs)
        found = refreshed(kind.rules, inputs, outputs)
        if DEFAULTS in inputs:
            found[DEFAULTS] = inputs[DEFAULTS]
        return Found(resource_id, found, outputs)

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Make the calls that the changes need, then read it."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        found = changes(kind.rules, state, old, new)
        kind.update(api, resource_id, Update(state, old, new, found))
        outputs = self._outputs(kind, api, resource_id, new)
        if outputs is None:
            raise ProviderError(f"{resource_id} is gone; refresh the stack.")
        return outputs

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Remove it, as far as its deletion policy lets go of it."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        policy: Any = state.get("deletionPolicy", "DELETE")
        if policy == "PREVENT":
            raise ProviderError(
                f"Cannot destroy {resource_id} because deletion_policy is set to PREVENT."
            )
        if policy != "ABANDON":
            kind.delete(api, resource_id, state)

    def cancel(self) -> None:
        """Nothing: what was started is waited for, so that the state knows of it."""


def _made_up_name(name: str, seed: bytes) -> str:
    suffix = hashlib.sha256(seed).hexdigest()[:_SUFFIX]
    return f"{name[: _LONGEST_NAME - _SUFFIX - 1]}-{suffix}".lower()
