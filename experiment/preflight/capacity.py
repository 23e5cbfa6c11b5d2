"""Capacity checks: node disk, registry rate limits, exporter settings, cost. Pure.

Each limit names its source. Google's quotas are in experiment.preflight.google_checks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiment.plan.cost import Estimate, is_googles
from experiment.plan.trial_order import disk_bytes, removals
from experiment.preflight.findings import Finding, ok, stop, warning
from schema.run_records import PlannedTrial

IMAGE_GC_SHARE = 0.85
"""The kubelet starts to remove images at this share of the disk (imageGCHighThresholdPercent)."""

SYSTEM_BYTES = 12e9
"""Disk used by a GKE node's system and its images: a COS node reports about 94 of 100 GB as
capacity, and the original study's new nodes held a few GB of images."""

_ARTIFACT_REGISTRY_PER_MINUTE = 60_000
"""Requests per project and region (https://cloud.google.com/artifact-registry/quotas, 2026-06)."""
_DOCKER_HUB_PULLS = 100
"""In six hours, without an account, from one IPv4 address or IPv6 /64 subnet
(https://docs.docker.com/docker-hub/usage/pulls, 2026; ten an hour were announced in 2025 and
withdrawn)."""
_DOCKER_HUB = {"docker.io", "registry-1.docker.io", "index.docker.io"}
_BESIDE_LAYERS = 3
"""Requests of a pull besides its layers: the tag's or digest's manifest twice, and the config."""
_EVENTS_PER_POD = 5
_LEAST_AGE_S = 60
_LEAST_QPS = 20


def room_bytes(disk_gb: int) -> float:
    """Return the bytes that images can use on a node before the kubelet removes some."""
    return max(disk_gb * 1e9 * IMAGE_GC_SHARE - SYSTEM_BYTES, 0.0)


def check_disk(
    trials: Sequence[PlannedTrial], disk_gb: int, *, of_stack: bool = True
) -> Iterator[Finding]:
    """Check that a run's images fit on a node's disk without garbage collection.

    Garbage collection during a study disturbs pulls, and at disk pressure pods are evicted, as in
    the original study.

    Args:
        trials: of the run.
        disk_gb: disk of a measured node to which images are unpacked, GB.
        of_stack: a setting of the stack decides the size of the disk.
    """
    needed, room = disk_bytes(trials), room_bytes(disk_gb)
    if needed > room:
        enough = round((needed + SYSTEM_BYTES) / IMAGE_GC_SHARE / 1e9) + 10
        larger = (
            f"pulumi config set pull-study:diskSizeGb {enough}"
            if of_stack
            else f"choose nodes with {enough} GB for images: --node-selector LABEL=VALUE"
        )
        yield stop(
            "disk",
            f"The images of this study need {needed / 1e9:.0f} GB unpacked, but a node has only "
            f"{room / 1e9:.0f} GB before the kubelet removes images: pulls would be disturbed and "
            "pods evicted.",
            f"{larger}, or split the study",
        )
        return
    yield ok(
        "disk",
        f"images need {needed / 1e9:.1f} GB; a node has {room / 1e9:.0f} GB before the kubelet "
        f"removes images (at {IMAGE_GC_SHARE:.0%} of {disk_gb} GB)",
    )
    again = removals(trials)
    if again:
        yield ok(
            "disk",
            f"before {len(again)} trials the image is removed from every node, and its absence "
            "proved",
        )


def check_registry_limits(
    trials: Sequence[PlannedTrial], nodes: int, *, private_nodes: bool
) -> Iterator[Finding]:
    """Check the registries' rate limits for N nodes that pull at the same time.

    Args:
        trials: of the run.
        nodes: number of nodes.
        private_nodes: all nodes share one public address.
    """
    by_host: dict[str, list[PlannedTrial]] = defaultdict(list)
    for trial in trials:
        by_host[trial.image.repository.partition("/")[0]].append(trial)
    for host, own in by_host.items():
        most = nodes * max(len(trial.image.layers) + _BESIDE_LAYERS for trial in own)
        if is_googles(host):
            yield _artifact_registry(host, most)
        elif host in _DOCKER_HUB:
            yield _docker_hub(host, len(own) * (nodes if private_nodes else 1))
        else:
            known = "; ghcr.io publishes no limit for public images" if host == "ghcr.io" else ""
            yield ok("registry limits", f"{host}: up to {most} requests in a trial{known}")


def _artifact_registry(host: str, most: int) -> Finding:
    text = (
        f"{host}: up to {most} requests in a trial, of {_ARTIFACT_REGISTRY_PER_MINUTE} a minute "
        "for a project and region"
    )
    if most > _ARTIFACT_REGISTRY_PER_MINUTE:
        return warning(
            "registry limits",
            f"{text}; nodes would be throttled and their pulls retried.",
            "request more under IAM & Admin, Quotas, Artifact Registry, or use fewer layers",
        )
    return ok("registry limits", text)


def _docker_hub(host: str, pulls: int) -> Finding:
    text = (
        f"{host}: {pulls} pulls from one address, of {_DOCKER_HUB_PULLS} in six hours without an "
        "account"
    )
    if pulls > _DOCKER_HUB_PULLS:
        return warning(
            "registry limits",
            f"{text}; nodes would be throttled and their cells `failed`.",
            "copy the images to Artifact Registry: skopeo copy --preserve-digests",
        )
    return ok("registry limits", text)


def check_exporter(exporter: Mapping[str, Any], nodes: int) -> Iterator[Finding]:
    """Check that the event exporter loses nothing at N nodes.

    With its defaults (maxEventAgeSeconds 5, kubeQPS 5, look-ups on) it lost nine tenths of the
    original study's events at 16 nodes.

    Args:
        exporter: its configuration.
        nodes: number of nodes, whose pods start at the same time.
    """
    age = exporter.get("maxEventAgeSeconds", 5)
    qps = exporter.get("kubeQPS", 5)
    looks_up = not exporter.get("omitLookup", False)
    lookup = "looks up objects" if looks_up else "does not look up objects"
    settings = (
        f"the exporter accepts events up to {age} s old, {lookup}, and sends up to {qps} requests "
        "a second"
    )
    burst = nodes * _EVENTS_PER_POD
    if age < _LEAST_AGE_S or (looks_up and burst > age * qps) or qps < _LEAST_QPS:
        yield stop(
            "exporter",
            f"{settings}: it would lose many of the {burst} events of a trial.",
            "maxEventAgeSeconds 1200, kubeQPS 100 and omitLookup true in infra/event_exporter.py",
        )
    else:
        yield ok("exporter", f"{settings}; a trial causes about {burst} events")


def check_traffic(estimate: Estimate) -> Iterator[Finding]:
    """Check what the pulls of private nodes cost, beside the cluster."""
    if estimate.traffic_usd:
        yield warning(
            "traffic",
            f"Nodes without public addresses pull through Cloud NAT, for about "
            f"{estimate.traffic_usd:.2f} USD of this run.",
            "copy the images to Artifact Registry, which private nodes reach by Private Google "
            "Access at no cost: pull-study-images copy",
        )


def check_cost(
    estimate: Estimate, budget_usd: float | None, deadline_hours: int
) -> Iterator[Finding]:
    """Check that the run ends within its budget and before the cluster's automatic deletion."""
    _, expected, highest = estimate.usd
    if budget_usd is None:
        yield ok("cost", f"about {expected:.2f} USD at list prices, {highest:.2f} at most")
    elif expected > budget_usd:
        yield warning(
            "cost",
            f"The run is expected to cost {expected:.2f} USD, above the budget of "
            f"{budget_usd:.2f}; it would stop before its last trials.",
            f"--budget-usd {highest:.0f}, or a smaller study",
        )
    else:
        yield ok("cost", f"about {expected:.2f} USD of a budget of {budget_usd:.2f}")
    longest = estimate.hours[2]
    if longest > deadline_hours:
        yield warning(
            "deadline",
            f"The run may take {longest:.1f} hours, but the cluster is deleted after "
            f"{deadline_hours}.",
            f"pulumi config set pull-study:deadlineHours {longest * 1.5:.0f}",
        )
    else:
        yield ok(
            "deadline",
            f"the cluster is deleted after {deadline_hours} hours; the run takes {longest:.1f} at "
            "most",
        )
