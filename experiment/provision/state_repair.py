"""A stack's state, mended: what exists in the cloud is put into it under the id that it must have.

Works on a deployment as `pulumi stack export` prints it, and talks to nobody. An entry put in here
holds what the program asks for and no more; a refresh by the engine then reads what is really
there, and drops what is not. That is possible since all names in the cloud are deterministic, but
for the bucket's, which outlives its stack anyway.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Deployment = dict[str, Any]
"""As `pulumi stack export` prints it, without the envelope."""

CLUSTER = "gcp:container/cluster:Cluster"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's mark of a value that is known only after an update."""
_GOOGLE_PROVIDER = "pulumi:providers:gcp"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a type of resource is found in the cloud, and by what it is known to be ours."""

    resource_id: str
    """With inputs in braces."""
    mark: str = ""
    """The property that holds words of this program; empty where the id itself has them."""


_KINDS: Mapping[str, _Kind] = {
    "gcp:serviceaccount/account:Account": _Kind(
        "projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com",
        "displayName",
    ),
    "gcp:projects/iAMCustomRole:IAMCustomRole": _Kind("projects/{project}/roles/{roleId}", "title"),
    "gcp:storage/bucket:Bucket": _Kind("{name}", "labels"),
    "gcp:projects/iAMMember:IAMMember": _Kind("{project}/{role}/{member}"),
    "gcp:logging/projectSink:ProjectSink": _Kind("projects/{project}/sinks/{name}", "description"),
    "gcp:storage/bucketIAMMember:BucketIAMMember": _Kind("b/{bucket}/{role}/{member}"),
    "gcp:cloudscheduler/job:Job": _Kind(
        "projects/{project}/locations/{region}/jobs/{name}", "description"
    ),
    CLUSTER: _Kind("projects/{project}/locations/{location}/clusters/{name}", "resourceLabels"),
    "gcp:container/nodePool:NodePool": _Kind(
        "projects/{project}/locations/{location}/clusters/{cluster}/nodePools/{name}"
    ),
}
"""In the order in which they are made: each may depend on those before it."""
_RANK = {kind: rank for rank, kind in enumerate(_KINDS)}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that the program wants and the state does not know.

    Attributes:
        urn: Pulumi's name of it.
        type: the type token.
        inputs: as far as they are known.
        parent: URN; empty for none.
        provider: URN and id of its provider.
        custom: it is a real one, not a component.
        retained: it stays when the stack goes.
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
    """A state with entries put in.

    Attributes:
        deployment: to be imported, then refreshed.
        wanted: inputs of what was put in, by URN.
    """

    deployment: Deployment
    wanted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def is_cloud(resource_type: str) -> bool:
    """Whether a type is a thing in the cloud or the cluster, neither provider nor component."""
    return not resource_type.startswith(("pulumi:", "pull-study:"))


def entry_of(deployment: Deployment, resource_type: str) -> dict[str, Any] | None:
    """The first entry of a type; None if the state has none."""
    resources = deployment.get("resources") or []
    return next((entry for entry in resources if entry["type"] == resource_type), None)


def pending_creates(deployment: Deployment) -> list[Resource]:
    """What a killed engine was making when it died."""
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


def adopt(deployment: Deployment, wanted: Sequence[Resource], project: str) -> Adoption:
    """Put what may exist into the state; pending operations are settled by it.

    Args:
        deployment: the state; it stays as it is.
        wanted: parents and providers before those that need them.
        project: Google Cloud project of resources that name none.
    """
    present = list(deployment.get("resources") or [])
    known = {entry["urn"] for entry in present}
    providers = {
        entry["urn"]: f"{entry['urn']}::{entry['id']}"
        for entry in present
        if entry["type"].startswith("pulumi:providers:")
    }
    frames: list[dict[str, Any]] = []
    things: list[dict[str, Any]] = []
    for resource in wanted:
        if resource.urn in known:
            continue
        entry = _entry(resource, project, providers)
        if entry is None:
            continue
        if entry["type"] == _GOOGLE_PROVIDER:
            providers[entry["urn"]] = f"{entry['urn']}::{entry['id']}"
        (things if resource.type in _KINDS else frames).append(entry)
        known.add(resource.urn)
    things.sort(key=lambda entry: _RANK[entry["type"]])
    for entry in things:
        entry["dependencies"] = _before(entry["type"], [*present, *things])
    state = {key: value for key, value in deployment.items() if key != "pending_operations"}
    state["resources"] = [*present, *frames, *things]
    return Adoption(state, {entry["urn"]: entry["inputs"] for entry in things})


def found(deployment: Deployment, wanted: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """URNs of what was put in and is there after a refresh."""
    return [entry["urn"] for entry in deployment.get("resources") or [] if entry["urn"] in wanted]


def strangers(deployment: Deployment, wanted: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Ids of what was put in and exists, but does not bear the words by which it would be ours."""
    return [
        str(entry["id"])
        for entry in deployment.get("resources") or []
        if entry["urn"] in wanted and not _is_ours(entry, wanted[entry["urn"]])
    ]


def without(deployment: Deployment, urns: Iterable[str]) -> Deployment:
    """The state without some entries and all mention of them."""
    gone = set(urns)
    resources = [
        {
            **entry,
            "dependencies": [urn for urn in entry.get("dependencies") or [] if urn not in gone],
        }
        for entry in deployment.get("resources") or []
        if entry["urn"] not in gone
    ]
    return {**deployment, "resources": resources}


def _entry(resource: Resource, project: str, providers: Mapping[str, str]) -> dict[str, Any] | None:
    """An entry of the state; None for what cannot be named yet, or is made again unasked."""
    entry: dict[str, Any] = {"urn": resource.urn, "type": resource.type, "custom": resource.custom}
    if resource.parent:
        entry["parent"] = resource.parent
    if not resource.custom:
        return entry
    inputs = {key: value for key, value in resource.inputs.items() if not _has_unknown(value)}
    if resource.type == _GOOGLE_PROVIDER:
        return {**entry, "id": str(uuid.uuid4()), "inputs": inputs, "outputs": inputs}
    kind = _KINDS.get(resource.type)
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
    # The provider reads by properties as well as by id: what is asked for stands for both.
    return {
        **entry,
        "id": resource_id,
        "inputs": inputs,
        "outputs": {**named, "id": resource_id},
        "provider": provider,
    }


def _before(resource_type: str, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a resource of this type is made after, so that it is removed before."""
    rank = _RANK[resource_type]
    return [entry["urn"] for entry in entries if _RANK.get(entry["type"], rank) < rank]


def _is_ours(entry: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    mark = _KINDS[entry["type"]].mark
    want, have = asked.get(mark), entry.get("outputs", {}).get(mark)
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
