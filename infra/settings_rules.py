"""Rules of a stack's configuration that span several keys or need the table of machine types.

Pure: a rule gets settings whose types and ranges are already checked by `infra.settings`.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.prices import MACHINE_TYPES
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
_FIRST_MINOR_WITH_PARALLEL_UNPACKS = 34
"""Nodes of 1.33 have containerd 2.0, and 2.2 is the first that unpacks in parallel. Which patches
of later minors have it was not published where it could be read: the runner looks at the nodes."""
_LONGEST_LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that the settings violate.

    Attributes:
        key: which key; labels.team for one key of a mapping, zones[1] for one item of a list.
        value: what it is set to.
        rule: why that is refused, as the end of "KEY is VALUE, but ...".
        fix: a value that satisfies the rule; empty to remove the key.
    """

    key: str
    value: object
    rule: str
    fix: object


def first_violation(settings: Settings, now: datetime) -> Violation | None:
    """Return the first rule that the settings violate, None if there is none."""
    violations = (rule(settings) for rule in _RULES)
    return next(filter(None, violations), None) or _deadline_is_ahead(settings, now)


def _size_is_in_the_name(settings: Settings) -> Violation | None:
    match = _SIZE_STACK.fullmatch(settings.stack)
    if match is None or int(match[1]) == settings.node_count:
        return None
    rule = f"a stack of this name must have {match[1]} nodes: plots are labelled by the name"
    return Violation("nodeCount", settings.node_count, rule, match[1])


def _zones_differ(settings: Settings) -> Violation | None:
    for index, zone in enumerate(settings.zones):
        if zone in settings.zones[:index]:
            return Violation(f"zones[{index}]", zone, "the list has this zone already", "")
    return None


def _machine_types_exist(settings: Settings) -> Violation | None:
    unknown = "infra/prices.yaml has no such machine type"
    return _known("machineType", settings.machine_type, MACHINE_TYPES, unknown) or _known(
        "monitoringMachineType", settings.monitoring_machine_type, MACHINE_TYPES, unknown
    )


def _local_ssds_fit(settings: Settings) -> Violation | None:
    count, counts = settings.local_ssd_count, MACHINE_TYPES[settings.machine_type].local_ssd_counts
    if count == 0 or count in counts:
        return None
    rule = f"{settings.machine_type} takes {_one_of((0, *counts))} local SSDs"
    return Violation("localSsdCount", count, rule, min((0, *counts), key=lambda n: abs(n - count)))


def _preloaded_images_are_streamed(settings: Settings) -> Violation | None:
    if settings.preloaded_image == "" or settings.image_streaming:
        return None
    rule = "GKE uses the images of preloadedImage on nodes with image streaming only"
    return Violation("imageStreaming", "false", rule, True)


def _the_operator_is_not_on_measured_nodes(settings: Settings) -> Violation | None:
    if settings.flux_operator_image == "" or settings.monitoring_pool:
        return None
    rule = "the pod of fluxOperator would run on a measured node, beside its pulls"
    return Violation("monitoringPool", "false", rule, True)


def _one_region_has_the_remote_repository(settings: Settings) -> Violation | None:
    if settings.remote_repository == "":
        return None
    for index, zone in enumerate(settings.zones):
        if zone.rpartition("-")[0] != settings.region:
            rule = (
                f"the images' names of remoteRepository are planned with one region, "
                f"{settings.region}"
            )
            return Violation(f"zones[{index}]", zone, rule, "")
    return None


def _parallel_pulls_are_possible(settings: Settings) -> Violation | None:
    pulls = settings.max_parallel_image_pulls
    if pulls == 1:
        rule = "it must be 0 (GKE's own choice) or 2 to 5, GKE's range of this setting"
        return Violation("maxParallelImagePulls", pulls, rule, 2)
    if pulls and _is_older(settings, _FIRST_MINOR_WITH_PARALLEL_PULLS):
        rule = (
            f"GKE supports it from 1.33 on and kubernetesVersion is {settings.kubernetes_version}"
        )
        return Violation("maxParallelImagePulls", pulls, rule, 0)
    return None


def _parallel_unpacks_are_possible(settings: Settings) -> Violation | None:
    unpacks = settings.parallel_unpacks
    if unpacks == 1:
        rule = "it must be 0 (containerd's own choice, one) or 2 to 16"
        return Violation("parallelUnpacks", unpacks, rule, 2)
    if unpacks and _is_older(settings, _FIRST_MINOR_WITH_PARALLEL_UNPACKS):
        rule = (
            f"it needs containerd 2.2, nodes before 1.34 have an older one, and kubernetesVersion "
            f"is {settings.kubernetes_version}"
        )
        return Violation("parallelUnpacks", unpacks, rule, 0)
    if unpacks and settings.image_streaming:
        rule = "the snapshotter of image streaming does not unpack in parallel"
        return Violation("imageStreaming", "true", rule, False)
    return None


def _is_older(settings: Settings, minor: int) -> bool:
    """Whether the stack names a Kubernetes before 1.`minor`; without a name it is unknown."""
    version = settings.kubernetes_version
    return version != "" and int(version.split(".")[1]) < minor


def _nodes_fit_the_pod_range(settings: Settings) -> Violation | None:
    # One more: GKE starts a default pool of one node, which is removed once the cluster is up.
    nodes = settings.node_count + int(settings.monitoring_pool) + 1
    prefix = settings.pod_range_prefix
    room = 2 ** (_PODS_PER_NODE_PREFIX - prefix)
    if nodes <= room:
        return None
    needed = _PODS_PER_NODE_PREFIX - (nodes - 1).bit_length()
    rule = f"a /{prefix} holds pod addresses for {room} nodes and this cluster has {nodes}"
    return Violation("podRangePrefix", prefix, rule, needed)


def _deadline_is_ahead(settings: Settings, now: datetime) -> Violation | None:
    at = settings.expires_at
    if at is None or now < at <= now + _LONGEST_LIFE:
        return None
    if at <= now:
        rule = "that time has passed, so the cluster would never be deleted automatically"
    else:
        rule = f"the maximum is {_LONGEST_LIFE.days} days from now"
    return Violation("expiresAt", f"{at:%Y-%m-%dT%H:%MZ}", rule, "")


def _labels_are_legal(settings: Settings) -> Violation | None:
    if len(settings.labels) > _MOST_LABELS:
        rule = (
            f"Google allows {_MOST_LABELS + _PROGRAMS_LABELS} labels a resource and "
            f"{_PROGRAMS_LABELS} are reserved by this program and its provider"
        )
        return Violation("labels", f"{len(settings.labels)} labels", rule, "")
    for key, value in settings.labels.items():
        problem = _label_problem(key, value)
        if problem:
            return Violation(f"labels.{key}", repr(value), problem, "")
    return None


def _label_problem(key: str, value: str) -> str:
    if key in _OWN_LABELS:
        return f"the label {key} is reserved: this program finds its clusters by it"
    if not _LABEL_KEY.fullmatch(key):
        return (
            "a label's key must be 1 to 63 lower-case letters, digits, _ and -, "
            "starting with a letter and not with goog"
        )
    if not _LABEL_VALUE.fullmatch(value):
        return "a label's value must be up to 63 lower-case letters, digits, _ and -"
    return ""


def _known(key: str, value: str, known: Iterable[str], rule: str) -> Violation | None:
    known = sorted(known)
    if value in known:
        return None
    nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
    return Violation(key, value, f"{rule} (nearest: {nearest})", nearest)


def _one_of(numbers: Iterable[int]) -> str:
    *first, last = [str(number) for number in numbers]
    return f"{', '.join(first)} or {last}" if first else last


_RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _size_is_in_the_name,
    _zones_differ,
    _machine_types_exist,
    _local_ssds_fit,
    _preloaded_images_are_streamed,
    _the_operator_is_not_on_measured_nodes,
    _one_region_has_the_remote_repository,
    _parallel_pulls_are_possible,
    _parallel_unpacks_are_possible,
    _nodes_fit_the_pod_range,
    _labels_are_legal,
)
