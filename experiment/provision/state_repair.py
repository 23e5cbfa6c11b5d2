"""Repairs a stack's state: adds resources under the id that they must have in the cloud. Pure.

Works on a deployment as printed by `pulumi stack export`. An added entry holds only the declared
inputs; a refresh by the engine then reads the real resource, or drops the entry. All names in the
cloud are deterministic except the bucket's, which outlives its stack anyway.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Deployment = dict[str, Any]
"""As printed by `pulumi stack export`, without the envelope."""

CLUSTER = "gcp:container/cluster:Cluster"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's placeholder of a value that is known only after an update."""
_GOOGLE_PROVIDER = "pulumi:providers:gcp"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a type of resource is found in the cloud and recognised as this program's."""

    resource_id: str
    """Inputs are in braces."""
    mark: str = ""
    """The property with this program's words; empty if the id has them."""


ADOPTED: Mapping[str, _Kind] = {
    "gcp:serviceaccount/account:Account": _Kind(
        "projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com",
        "displayName",
    ),
    "gcp:storage/bucket:Bucket": _Kind("{name}", "labels"),
    "gcp:storage/bucketObject:BucketObject": _Kind("{bucket}-{name}"),
    "gcp:projects/iAMMember:IAMMember": _Kind("{project}/{role}/{member}"),
    "gcp:logging/projectSink:ProjectSink": _Kind("projects/{project}/sinks/{name}", "description"),
    "gcp:storage/bucketIAMMember:BucketIAMMember": _Kind("b/{bucket}/{role}/{member}"),
    "gcp:cloudscheduler/job:Job": _Kind(
        "projects/{project}/locations/{region}/jobs/{name}", "description"
    ),
    "gcp:artifactregistry/repository:Repository": _Kind(
        "projects/{project}/locations/{location}/repositories/{repositoryId}", "labels"
    ),
    CLUSTER: _Kind("projects/{project}/locations/{location}/clusters/{name}", "resourceLabels"),
    "gcp:container/nodePool:NodePool": _Kind(
        "projects/{project}/locations/{location}/clusters/{cluster}/nodePools/{name}"
    ),
}
"""In order of creation: each may depend on those before it."""
IDEMPOTENT = frozenset({"gcp:projects/service:Service"})
"""Types whose creation succeeds if the resource exists: they need no adoption."""
_RANK = {kind: rank for rank, kind in enumerate(ADOPTED)}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that the program declares and the state lacks.

    Attributes:
        urn: Pulumi's name of it.
        type: the type token.
        inputs: the known ones.
        parent: URN; empty for none.
        provider: URN and id of its provider.
        custom: a real resource, not a component.
        retained: it outlives the stack.
    """

    urn: str
    type: str
    inputs: Mapping[str, Any]
    parent: str = ""
    provider: str = ""
    custom: bool = True
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Adoption:
    """A state with added entries.

    Attributes:
        deployment: to import, then refresh.
        declared: inputs of the added resources, by URN.
    """

    deployment: Deployment
    declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def is_cloud(resource_type: str) -> bool:
    """Return whether a type is a resource in the cloud or the cluster."""
    return not resource_type.startswith(("pulumi:", "pull-study:"))


def entry_of(deployment: Deployment, resource_type: str) -> dict[str, Any] | None:
    """Return the first entry of a type; None if there is none."""
    resources = deployment.get("resources") or []
    return next((entry for entry in resources if entry["type"] == resource_type), None)


def pending_creates(deployment: Deployment) -> list[Resource]:
    """Return what a killed engine was creating."""
    return [
        Resource(
            urn=pending["resource"]["urn"],
            type=pending["resource"]["type"],
            inputs=pending["resource"].get("inputs") or {},
            parent=pending["resource"].get("parent", ""),
            provider=pending["resource"].get("provider", ""),
            retained=bool(pending["resource"].get("retainOnDelete")),
        )
        for pending in deployment.get("pending_operations") or []
        if pending["type"] == "creating"
    ]


def adopt(deployment: Deployment, declared: Sequence[Resource], project: str) -> Adoption:
    """Add what may exist to the state; this settles pending operations.

    Args:
        deployment: the state; not modified.
        declared: parents and providers first.
        project: Google Cloud project of resources without one.
    """
    present = list(deployment.get("resources") or [])
    known = {entry["urn"] for entry in present}
    providers = {
        entry["urn"]: f"{entry['urn']}::{entry['id']}"
        for entry in present
        if entry["type"].startswith("pulumi:providers:")
    }
    parents: list[dict[str, Any]] = []
    adopted: list[dict[str, Any]] = []
    for resource in declared:
        if resource.urn in known:
            continue
        entry = _entry(resource, project, providers)
        if entry is None:
            continue
        if entry["type"] == _GOOGLE_PROVIDER:
            providers[entry["urn"]] = f"{entry['urn']}::{entry['id']}"
        (adopted if resource.type in ADOPTED else parents).append(entry)
        known.add(resource.urn)
    adopted.sort(key=lambda entry: _RANK[entry["type"]])
    for entry in adopted:
        entry["dependencies"] = _before(entry["type"], [*present, *adopted])
    state = {key: value for key, value in deployment.items() if key != "pending_operations"}
    state["resources"] = [*present, *parents, *adopted]
    return Adoption(state, {entry["urn"]: entry["inputs"] for entry in adopted})


def found(deployment: Deployment, declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the URNs of added resources that exist after a refresh."""
    return [entry["urn"] for entry in deployment.get("resources") or [] if entry["urn"] in declared]


def foreign_resources(
    deployment: Deployment, declared: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return ids of added resources whose labels or description are not this program's."""
    return [
        str(entry["id"])
        for entry in deployment.get("resources") or []
        if entry["urn"] in declared and not _is_ours(entry, declared[entry["urn"]])
    ]


def without(deployment: Deployment, urns: Iterable[str]) -> Deployment:
    """Return the state without some entries and their references."""
    removed = set(urns)
    resources = [
        {
            **entry,
            "dependencies": [urn for urn in entry.get("dependencies") or [] if urn not in removed],
        }
        for entry in deployment.get("resources") or []
        if entry["urn"] not in removed
    ]
    return {**deployment, "resources": resources}


def _entry(resource: Resource, project: str, providers: Mapping[str, str]) -> dict[str, Any] | None:
    """An entry of the state; None if its id is unknown or its type needs no adoption."""
    entry: dict[str, Any] = {"urn": resource.urn, "type": resource.type, "custom": resource.custom}
    if resource.parent:
        entry["parent"] = resource.parent
    if not resource.custom:
        return entry
    inputs = {key: value for key, value in resource.inputs.items() if not _has_unknown(value)}
    if resource.type == _GOOGLE_PROVIDER:
        return {**entry, "id": str(uuid.uuid4()), "inputs": inputs, "outputs": inputs}
    kind = ADOPTED.get(resource.type)
    provider = providers.get(resource.provider.rpartition("::")[0])
    if kind is None or provider is None:
        return None
    named = {"project": project, **inputs}
    if "cluster" in named:
        named["cluster"] = str(named["cluster"]).rpartition("/")[2]
    try:
        resource_id = kind.resource_id.format(**named)
    except KeyError:
        return None
    if resource.retained:
        entry["retainOnDelete"] = True
    # The provider reads by properties as well as by id: inputs serve as both.
    return {
        **entry,
        "id": resource_id,
        "inputs": inputs,
        "outputs": {**named, "id": resource_id},
        "provider": provider,
    }


def _before(resource_type: str, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is created before this type of resource, and deleted after it."""
    rank = _RANK[resource_type]
    return [entry["urn"] for entry in entries if _RANK.get(entry["type"], rank) < rank]


def _is_ours(entry: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    mark = ADOPTED[entry["type"]].mark
    want, have = inputs.get(mark), entry.get("outputs", {}).get(mark)
    if isinstance(want, dict):
        ours = ("project", "stack")
        return {key: want.get(key) for key in ours} == {key: (have or {}).get(key) for key in ours}
    return bool(want == have) if mark else True


def _has_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unknown(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_unknown(each) for each in value)
    return isinstance(value, str) and _UNKNOWN in value
