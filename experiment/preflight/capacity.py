"""Checks of a plan against what nodes, registries and the exporter bear. Pure.

Each limit stands with its source. What Google's own quotas allow is in experiment.preflight.checks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiment.plan.cost import Estimate
from experiment.plan.trial_order import disk_bytes, removals
from experiment.preflight.findings import Finding, ok, stop, warning
from schema.run_records import PlannedTrial

IMAGE_GC_SHARE = 0.85
"""The kubelet begins to remove images at this share of the disk (imageGCHighThresholdPercent)."""

SYSTEM_BYTES = 12e9
"""Disk that a GKE node's system and its images take: a COS node reports about 94 of 100 GB as
capacity, and the original study's fresh nodes held a few GB of images."""

_ARTIFACT_REGISTRY_PER_MINUTE = 60_000
"""Requests per project and region (https://cloud.google.com/artifact-registry/quotas, 2026-06)."""
_DOCKER_HUB_PER_HOUR = 10
"""Pulls without an account from one address (https://docs.docker.com/docker-hub/usage/pulls, as
written in 2025-03; before that 100 in six hours)."""
_DOCKER_HUB = {"docker.io", "registry-1.docker.io", "index.docker.io"}
_BESIDE_LAYERS = 3
"""Requests of a pull beside its layers: the tag's or digest's manifest twice, and the config."""
_EVENTS_PER_POD = 5
_LEAST_AGE_S = 60
_LEAST_QPS = 20


def room_bytes(disk_gb: int) -> float:
    """Bytes that images may take on a node before the kubelet removes some."""
    return max(disk_gb * 1e9 * IMAGE_GC_SHARE - SYSTEM_BYTES, 0.0)


def check_disk(trials: Sequence[PlannedTrial], disk_gb: int) -> Iterator[Finding]:
    """All images of a run fit on a node's disk without the kubelet removing any.

    An image that is removed in mid-study is a pull that another one's garbage collection disturbs,
    and at disk pressure pods are evicted, as in the original study.

    Args:
        trials: of the run.
        disk_gb: disk of a measured node that images are unpacked to, GB.
    """
    needed, room = disk_bytes(trials), room_bytes(disk_gb)
    if needed > room:
        enough = round((needed + SYSTEM_BYTES) / IMAGE_GC_SHARE / 1e9) + 10
        yield stop(
            "disk",
            f"The images of this study take {needed / 1e9:.0f} GB unpacked and a node has room for "
            f"{room / 1e9:.0f} GB before the kubelet removes images, so pulls would be disturbed "
            "and pods evicted.",
            f"pulumi config set pull-study:diskSizeGb {enough}, or split the study",
        )
        return
    yield ok(
        "disk",
        f"images take {needed / 1e9:.1f} GB of the {room / 1e9:.0f} GB that a node has for them "
        f"before the kubelet removes any (at {IMAGE_GC_SHARE:.0%} of {disk_gb} GB)",
    )
    again = removals(trials)
    if again:
        yield ok(
            "disk",
            f"before {len(again)} trials their image is removed from every node, and its absence "
            "proved",
        )


def check_registry_limits(
    trials: Sequence[PlannedTrial], nodes: int, *, private_nodes: bool
) -> Iterator[Finding]:
    """What registries bear, against N nodes that pull at once.

    Args:
        trials: of the run.
        nodes: that pull at once.
        private_nodes: all leave through one address.
    """
    by_host: dict[str, list[PlannedTrial]] = defaultdict(list)
    for trial in trials:
        by_host[trial.image.repository.partition("/")[0]].append(trial)
    for host, own in by_host.items():
        most = nodes * max(len(trial.image.layers) + _BESIDE_LAYERS for trial in own)
        if host.endswith(("-docker.pkg.dev", "gcr.io")):
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
            "ask for more under IAM & Admin, Quotas, Artifact Registry, or choose fewer layers",
        )
    return ok("registry limits", text)


def _docker_hub(host: str, pulls: int) -> Finding:
    text = (
        f"{host}: {pulls} pulls from one address, of {_DOCKER_HUB_PER_HOUR} an hour without an "
        "account"
    )
    if pulls > _DOCKER_HUB_PER_HOUR:
        return warning(
            "registry limits",
            f"{text}; nodes would be throttled and their cells be `failed`.",
            "copy the images to Artifact Registry: python -m images copy",
        )
    return ok("registry limits", text)


def check_exporter(exporter: Mapping[str, Any], nodes: int) -> Iterator[Finding]:
    """The event exporter loses nothing at N nodes.

    With its defaults (maxEventAgeSeconds 5, kubeQPS 5, look-ups on) it lost nine tenths of the
    original study's events at 16 nodes.

    Args:
        exporter: its configuration.
        nodes: whose pods begin at once.
    """
    age = exporter.get("maxEventAgeSeconds", 5)
    qps = exporter.get("kubeQPS", 5)
    looks_up = not exporter.get("omitLookup", False)
    told = (
        f"the exporter takes events up to {age} s old, {'looks up' if looks_up else 'looks up no'} "
        f"objects, and may ask {qps} times a second"
    )
    burst = nodes * _EVENTS_PER_POD
    if age < _LEAST_AGE_S or (looks_up and burst > age * qps) or qps < _LEAST_QPS:
        yield stop(
            "exporter",
            f"{told}: of the {burst} events of a trial it would lose many.",
            "maxEventAgeSeconds 1200, kubeQPS 100 and omitLookup true in infra/event_exporter.py",
        )
    else:
        yield ok("exporter", f"{told}; a trial makes about {burst} events")


def check_cost(
    estimate: Estimate, budget_usd: float | None, deadline_hours: int
) -> Iterator[Finding]:
    """The run is expected to end within its budget and before the cluster deletes itself."""
    _, expected, highest = estimate.usd
    if budget_usd is None:
        yield ok("cost", f"about {expected:.2f} US dollars at list prices, {highest:.2f} at most")
    elif expected > budget_usd:
        yield warning(
            "cost",
            f"The run is expected to cost {expected:.2f} US dollars and ends when the next trial "
            f"would exceed {budget_usd:.2f}, so trials will be left.",
            f"--budget-usd {highest:.0f}, or a smaller study",
        )
    else:
        yield ok("cost", f"about {expected:.2f} US dollars of a budget of {budget_usd:.2f}")
    longest = estimate.hours[2]
    if longest > deadline_hours:
        yield warning(
            "deadline",
            f"The run may take {longest:.1f} hours and the cluster deletes itself after "
            f"{deadline_hours}.",
            f"pulumi config set pull-study:deadlineHours {longest * 1.5:.0f}",
        )
    else:
        yield ok(
            "deadline",
            f"the cluster deletes itself after {deadline_hours} hours; the run takes "
            f"{longest:.1f} at most",
        )
