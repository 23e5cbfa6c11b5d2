"""The fake of Pulumi's gcp provider: the session that puts the resource types together."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version

from rehearsal.pulumi.providers.gcp_iam import Account, BucketGrant, ProjectGrant
from rehearsal.pulumi.providers.gcp_kind import ATTRIBUTION, CreatedBrokenError, Kind, Update
from rehearsal.pulumi.providers.gcp_services import (
    Bucket,
    BucketObject,
    Job,
    ProjectSink,
    Repository,
    Service,
)
from rehearsal.pulumi.providers.gke import Cluster, NodePool
from rehearsal.pulumi.providers.google_rest import GoogleApi
from rehearsal.pulumi.providers.properties import DEFAULTS, Props, changes, merged, refreshed, zeros
from rehearsal.pulumi.providers.protocol import (
    Checked,
    Difference,
    Found,
    NotReadyError,
    ProviderError,
    Resource,
    Session,
    refuse_import,
)
from rehearsal.pulumi.providers.shapes import shape_of

KINDS: Mapping[str, Kind] = {
    kind.resource_type: kind
    for kind in (
        Account(), Bucket(), BucketGrant(), BucketObject(), Cluster(), Job(), NodePool(),
        ProjectGrant(), ProjectSink(), Repository(), Service(),
    )
}  # fmt: skip
_LONGEST_NAME = 63
_SUFFIX = 7


class GcpProvider:
    """The provider `gcp`."""

    name = "gcp"
    version = version("pulumi-gcp")

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """Return none: as with the official provider, resources name their project themselves."""
        return []

    def configure(self, config: Mapping[str, str]) -> Session:
        """Make a session; nothing is called yet."""
        return GcpSession(GoogleApi(config.get("project", "")))

    def warm_up(self) -> None:
        """Load the SDK's types, which takes a second or two, before the first preview."""
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
                f"The fake gcp provider does not implement {resource.type} ({resource.name}); "
                "install the official plugin to use it."
            )
        return kind

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        """Fill in defaults and a name; refuse what the official provider refuses."""
        kind = self._kind(resource)
        failures = kind.type_failures(resource.name, new)
        if failures:
            return Checked(new, failures)
        inputs = {**kind.defaults, **new}
        filled = [key for key in kind.defaults if key not in new]
        if kind.auto_named and "name" not in new:
            kept = old.get("name") if "name" in old.get(DEFAULTS, []) else None
            inputs["name"] = kept or _generated_name(resource.name, seed)
            filled.append("name")
        return Checked({**inputs, DEFAULTS: sorted(filled)}, kind.value_failures(inputs))

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        """Compare by the type's rules."""
        kind = self._kind(resource)
        found = changes(kind.rules, state, old, new)
        fixed_name = "name" in new and "name" not in new.get(DEFAULTS, [])
        same_name = state.get("name", old.get("name")) == new.get("name")
        replaced = any(change.replace for change in found)
        return Difference(found, delete_first=replaced and fixed_name and same_name)

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        """Create it, wait and read it."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        try:
            resource_id = kind.create(api, inputs)
        except CreatedBrokenError as error:
            seen = self._outputs(kind, api, error.resource_id, inputs)
            raise NotReadyError(error.resource_id, seen or {}, [str(error)]) from error
        return resource_id, self._existing(kind, api, resource_id, inputs)

    def _existing(self, kind: Kind, api: GoogleApi, resource_id: str, inputs: Props) -> Props:
        outputs = self._outputs(kind, api, resource_id, inputs)
        if outputs is None:
            raise ProviderError(f"{resource_id} no longer exists; refresh the stack.")
        return outputs

    def _outputs(self, kind: Kind, api: GoogleApi, resource_id: str, inputs: Props) -> Props | None:
        body = kind.fetch(api, resource_id, inputs)
        if body is None:
            return None
        given = {key: item for key, item in inputs.items() if key != DEFAULTS}
        outputs = merged(zeros(given), kind.outputs(resource_id, body))
        outputs |= {key: inputs[key] for key in kind.state_only if key in inputs}
        if kind.labels:
            own, live = inputs.get(kind.labels, {}), body.get(kind.labels, {})
            outputs |= {
                kind.labels: {key: value for key, value in live.items() if key in own},
                "effectiveLabels": live,
                "pulumiLabels": ATTRIBUTION | own,
            }
        return outputs

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        """Read it, with its inputs as they are in the cloud."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        if not inputs:
            raise refuse_import(resource)
        outputs = self._outputs(kind, api, resource_id, inputs)
        if outputs is None:
            return None
        found = refreshed(kind.rules, inputs, outputs)
        if DEFAULTS in inputs:
            found[DEFAULTS] = inputs[DEFAULTS]
        return Found(resource_id, found, outputs)

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        """Make the calls that the changes need, then read it."""
        kind, api = self._kind(resource), self._api.within(resource.timeout_s)
        kind.update(api, resource_id, Update(state, new, changes(kind.rules, state, old, new)))
        return self._existing(kind, api, resource_id, new)

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        """Delete it and wait."""
        self._kind(resource).delete(self._api.within(resource.timeout_s), resource_id, state)

    def cancel(self) -> None:
        """Do nothing: operations in progress are awaited, so that the state records them."""


def _generated_name(name: str, seed: bytes) -> str:
    suffix = hashlib.sha256(seed).hexdigest()[:_SUFFIX]
    return f"{name[: _LONGEST_NAME - _SUFFIX - 1]}-{suffix}".lower()
