"""Guards: limits that every stack of this repository must keep, whatever its settings and program.

Pure: it checks the resources that a preview plans, as they are sent to the providers. The limits
are in infra/limits.yaml, so that raising one is a reviewed change. It deliberately repeats what the
program does: it catches the change that would undo it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_LIMITS = Path(__file__).parent / "limits.yaml"
_WIDE_SCOPES = ("/cloud-platform", "/compute", "/devstorage.full_control", "/devstorage.read_write")
_WIDE_ROLES = ("roles/owner", "roles/editor")
_WIDE_WITHOUT_CONDITION = ("roles/container.admin", "roles/container.clusterAdmin")
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
_BUCKET = "gcp:storage/bucket:Bucket"


@dataclass(frozen=True, slots=True)
class Planned:
    """One resource of a preview.

    Attributes:
        type: Pulumi's type token.
        name: its name in the program.
        inputs: as they go to the provider.
    """

    type: str
    name: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a stack.

    Attributes:
        usd_per_hour: list price of the whole cluster.
        nodes: of all pools together.
    """

    usd_per_hour: float
    nodes: int


def load_limits(path: Path = _LIMITS) -> Limits:
    """Read the limits of this repository."""
    return Limits(**yaml.safe_load(path.read_text(encoding="utf-8")))


def violations(resources: Sequence[Planned], usd_per_hour: float, limits: Limits) -> list[str]:
    """Return one sentence for each guard that a planned stack breaks."""
    return [sentence for guard in _GUARDS for each in resources for sentence in guard(each)] + [
        *_too_many_nodes(resources, limits),
        *_too_expensive(usd_per_hour, limits),
    ]


def _too_expensive(usd_per_hour: float, limits: Limits) -> Iterator[str]:
    if usd_per_hour > limits.usd_per_hour:
        yield f"costs {usd_per_hour:.2f} USD an hour, above the limit of {limits.usd_per_hour:.2f}"


def _too_many_nodes(resources: Sequence[Planned], limits: Limits) -> Iterator[str]:
    nodes = sum(_most_nodes(each.inputs) for each in resources if each.type == NODE_POOL)
    if nodes > limits.nodes:
        yield f"has {nodes} nodes, above the limit of {limits.nodes}"


def _most_nodes(pool: Mapping[str, Any]) -> int:
    scaling = pool.get("autoscaling", {})
    most = (scaling.get("maxNodeCount"), scaling.get("totalMaxNodeCount"))
    return max(int(n or 0) for n in (pool.get("nodeCount"), pool.get("initialNodeCount"), *most))


def _cannot_be_destroyed(each: Planned) -> Iterator[str]:
    # The provider's default is True.
    if each.type == CLUSTER and each.inputs.get("deletionProtection") is not False:
        yield f"{each.name}: deletionProtection is not false, so `pulumi destroy` would fail"


def _public_bucket(each: Planned) -> Iterator[str]:
    if each.type != _BUCKET:
        return
    if each.inputs.get("publicAccessPrevention") != "enforced":
        yield f"{each.name}: publicAccessPrevention is not enforced"
    if each.inputs.get("uniformBucketLevelAccess") is not True:
        yield f"{each.name}: objects could have their own access rules"


def _rights_too_wide(each: Planned) -> Iterator[str]:
    if each.inputs.get("member") in _EVERYBODY:
        yield f"{each.name}: gives {each.inputs.get('role')} to {each.inputs['member']}"
    if each.inputs.get("role") in _WIDE_ROLES:
        yield f"{each.name}: gives {each.inputs['role']}, which covers the whole project"
    if each.inputs.get("role") in _WIDE_WITHOUT_CONDITION and not each.inputs.get("condition"):
        yield f"{each.name}: gives {each.inputs['role']} on every cluster of the project"


def _scopes_too_wide(each: Planned) -> Iterator[str]:
    if each.type not in {CLUSTER, NODE_POOL}:
        return
    node = each.inputs.get("nodeConfig", {})
    if each.type == NODE_POOL and not node.get("oauthScopes"):
        yield f"{each.name}: has no oauthScopes, so the provider would choose them"
    for scope in node.get("oauthScopes", ()):
        if scope.endswith(_WIDE_SCOPES):
            yield f"{each.name}: the scope {scope} is wider than a node needs"


def _image_by_tag(each: Planned) -> Iterator[str]:
    template = each.inputs.get("spec", {}).get("template", {})
    if not each.type.startswith("kubernetes:") or not template:
        return
    pod = template.get("spec", {})
    for container in [*pod.get("initContainers", ()), *pod.get("containers", ())]:
        if "@sha256:" not in container["image"]:
            yield f"{each.name}: the image {container['image']} is not pinned by its digest"


_GUARDS: tuple[Callable[[Planned], Iterator[str]], ...] = (
    _cannot_be_destroyed,
    _public_bucket,
    _rights_too_wide,
    _scopes_too_wide,
    _image_by_tag,
)
