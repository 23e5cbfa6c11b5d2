"""Rules of a stack's configuration that need Google's catalogue or more than one key.

Pure: a rule looks at settings that already have the right types and says what is wrong. What a
single key's type and range can say stands with its field in `infra.settings`.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from infra.prices import MACHINE_TYPES, REGIONS, ZONES

if TYPE_CHECKING:
    from infra.settings import Settings

_SIZE_STACK = re.compile(r"size-(\d+)(-.*)?")
_LABEL_KEY = re.compile(r"(?!goog)[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_OWN_LABELS = frozenset({"project", "stack", "run", "expires"})
_PROGRAMS_LABELS = len(_OWN_LABELS) + 1
_MOST_LABELS = 64 - _PROGRAMS_LABELS
_PODS_PER_NODE_PREFIX = 24
"""GKE gives each node a /24 at its default of 110 pods a node."""
_FIRST_MINOR_WITH_PARALLEL_PULLS = 33
_LONGEST_LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the settings break.

    Attributes:
        key: which key; labels.team for one key of a mapping.
        value: what it is set to.
        rule: why that cannot be, as the end of "KEY is VALUE, but ...".
        fix: a value that would keep the rule; empty to remove the key.
    """

    key: str
    value: object
    rule: str
    fix: object


def broken_rule(settings: "Settings", now: datetime) -> Broken | None:
    """The first rule that the settings break at a time, None if they keep all."""
    broken = (rule(settings) for rule in _RULES)
    return next(filter(None, broken), None) or _deadline_is_ahead(settings, now)


def _size_is_in_the_name(settings: "Settings") -> Broken | None:
    match = _SIZE_STACK.fullmatch(settings.stack)
    if match is None or int(match[1]) == settings.node_count:
        return None
    rule = f"a stack of this name has {match[1]} nodes, and plots go by the name"
    return Broken("nodeCount", settings.node_count, rule, match[1])


def _zone_exists(settings: "Settings") -> Broken | None:
    return _known("zone", settings.zone, ZONES, "Google Cloud has no such zone")


def _region_holds_the_zone(settings: "Settings") -> Broken | None:
    region = settings.control_plane_region
    if not region:
        return None
    unknown = _known("region", region, REGIONS, "Google Cloud has no such region")
    if unknown or region == settings.region:
        return unknown
    rule = (
        f"all nodes are in one zone of that region and zone is {settings.zone}: set zone to one "
        "of the region's as well"
    )
    return Broken("region", region, rule, settings.region)


def _machine_types_exist(settings: "Settings") -> Broken | None:
    unknown = "infra/prices.py knows no such machine type and so no price"
    return _known("machineType", settings.machine_type, MACHINE_TYPES, unknown) or _known(
        "monitoringMachineType", settings.monitoring_machine_type, MACHINE_TYPES, unknown
    )


def _local_ssds_fit(settings: "Settings") -> Broken | None:
    count, counts = settings.local_ssd_count, MACHINE_TYPES[settings.machine_type].local_ssd_counts
    if count == 0 or count in counts:
        return None
    rule = f"{settings.machine_type} takes {_one_of((0, *counts))} local SSDs"
    return Broken("localSsdCount", count, rule, min((0, *counts), key=lambda n: abs(n - count)))


def _parallel_pulls_are_possible(settings: "Settings") -> Broken | None:
    pulls, version = settings.max_parallel_image_pulls, settings.kubernetes_version
    if pulls == 1:
        rule = "it must be 0 (GKE's own choice) or 2 to 5, the kubelet setting's range on GKE"
        return Broken("maxParallelImagePulls", pulls, rule, 2)
    if pulls and version and int(version.split(".")[1]) < _FIRST_MINOR_WITH_PARALLEL_PULLS:
        rule = f"GKE has this setting from 1.33 on and kubernetesVersion is {version}"
        return Broken("maxParallelImagePulls", pulls, rule, 0)
    return None


def _nodes_fit_the_pod_range(settings: "Settings") -> Broken | None:
    # One more: GKE starts a default pool of one node, which is removed once the cluster is up.
    nodes = settings.node_count + int(settings.monitoring_pool) + 1
    prefix = settings.pod_range_prefix
    room = 2 ** (_PODS_PER_NODE_PREFIX - prefix)
    if nodes <= room:
        return None
    needed = _PODS_PER_NODE_PREFIX - (nodes - 1).bit_length()
    rule = f"a /{prefix} holds pod addresses for {room} nodes and this cluster starts {nodes}"
    return Broken("podRangePrefix", prefix, rule, needed)


def _deadline_is_ahead(settings: "Settings", now: datetime) -> Broken | None:
    at = settings.expires_at
    if at is None or now < at <= now + _LONGEST_LIFE:
        return None
    if at <= now:
        rule = "that time has passed, and a cluster made now would never be deleted by itself"
    else:
        rule = f"a cluster may live for {_LONGEST_LIFE.days} days at most"
    return Broken("expiresAt", f"{at:%Y-%m-%dT%H:%MZ}", rule, "")


def _labels_are_legal(settings: "Settings") -> Broken | None:
    if len(settings.labels) > _MOST_LABELS:
        rule = (
            f"Google takes {_MOST_LABELS + _PROGRAMS_LABELS} labels a resource and "
            f"{_PROGRAMS_LABELS} are this program's and its provider's"
        )
        return Broken("labels", f"{len(settings.labels)} labels", rule, "")
    for key, value in settings.labels.items():
        problem = _label_problem(key, value)
        if problem:
            return Broken(f"labels.{key}", repr(value), problem, "")
    return None


def _label_problem(key: str, value: str) -> str:
    if key in _OWN_LABELS:
        return f"the label {key} is this program's own, by which clusters are found"
    if not _LABEL_KEY.fullmatch(key):
        return (
            "a label's key is 1 to 63 lower-case letters, digits, _ and -, "
            "beginning with a letter and not with goog"
        )
    if not _LABEL_VALUE.fullmatch(value):
        return "a label's value is up to 63 lower-case letters, digits, _ and -"
    return ""


def _known(key: str, value: str, known: Iterable[str], rule: str) -> Broken | None:
    known = sorted(known)
    if value in known:
        return None
    nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
    return Broken(key, value, f"{rule} (nearest: {nearest})", nearest)


def _one_of(numbers: Iterable[int]) -> str:
    *first, last = [str(number) for number in numbers]
    return f"{', '.join(first)} or {last}" if first else last


_RULES: tuple[Callable[["Settings"], Broken | None], ...] = (
    _size_is_in_the_name,
    _zone_exists,
    _region_holds_the_zone,
    _machine_types_exist,
    _local_ssds_fit,
    _parallel_pulls_are_possible,
    _nodes_fit_the_pod_range,
    _labels_are_legal,
)
