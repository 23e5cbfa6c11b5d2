"""Checks of quotas: those of the regions and of the project, for one stack and for several."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from experiment.errors import Failure
from experiment.preflight.findings import Finding, ok, stop, warning
from experiment.provision.cluster_state import Json
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import StackFacts
from schema.names import PROJECT_LABEL


def check_quotas(api: GoogleApi, facts: StackFacts) -> Iterator[Finding]:
    """Check the quotas of the regions and of the project, less what the stack's cluster holds.

    A resumed run keeps that cluster, and a new run deletes what is left of it first. Only the
    first zone's region stops the run.
    """
    held = _held(api, facts)
    subject = "The stack needs"
    for place, region in enumerate(facts.needs.regions):
        own = [held[region]] if region in held else []
        yield from _compared(api, region, [facts], subject, held=own, fallback=place > 0)
    yield from _compared(api, "", [facts], subject, held=list(held.values()))


def check_quotas_together(
    api: GoogleApi, stacks: Sequence[StackFacts], parallel: int
) -> Iterator[Finding]:
    """Check the quotas for the largest stacks that can be up at the same time."""
    subject = f"The {min(parallel, len(stacks))} largest stacks, up at the same time, need"
    for region in dict.fromkeys(each.needs.region for each in stacks):
        there = [each for each in stacks if each.needs.region == region]
        yield from _compared(api, region, there, subject, parallel=parallel)
    yield from _compared(api, "", stacks, subject, parallel=parallel)


def _held(api: GoogleApi, facts: StackFacts) -> dict[str, StackFacts]:
    """The stack's own clusters by region, each as a stack with the pools that exist."""
    return {
        cluster.region: replace(
            facts, needs=facts.needs.of_pools([pool.name for pool in cluster.pools])
        )
        for cluster in api.clusters()
        if cluster.name == facts.cluster_name and cluster.labels.get("project") == PROJECT_LABEL
    }


def _compared(
    api: GoogleApi,
    region: str,
    stacks: Sequence[StackFacts],
    subject: str,
    *,
    held: Sequence[StackFacts] = (),
    parallel: int = 1,
    fallback: bool = False,
) -> Iterator[Finding]:
    """A finding for each metric of a region, or of the project for an empty name."""
    path = f"projects/{api.project}" + (f"/regions/{region}" if region else "")
    found = api.get("COMPUTE", path) or {}
    quotas = {quota["metric"]: quota for quota in found.get("quotas", [])}
    where = f"in {region}" if region else f"in all regions of the project {api.project}"
    count = partial(_counted, quotas=quotas, whole_project=not region)
    counted, own = [count(each) for each in stacks], [count(each) for each in held]
    for metric in dict.fromkeys(metric for each in counted for metric in each):
        largest = sorted((each[metric] for each in counted), reverse=True)[:parallel]
        need = max(sum(largest) - sum(each[metric] for each in own), 0)
        yield _quota(metric, need, quotas.get(metric), where, subject, fallback=fallback)


def _counted(facts: StackFacts, quotas: Mapping[str, Json], *, whole_project: bool) -> Counter[str]:
    """What a stack needs of the metrics of a region, or of the project.

    Spot nodes count against the ordinary quota where none was granted for them
    (https://cloud.google.com/compute/docs/instances/preemptible#quota).
    """
    counted: Counter[str] = Counter()
    for metric, need in facts.needs.quotas.items():
        granted = quotas.get(metric, {}).get("limit", 0)
        name = metric if granted else facts.needs.instead_of_spot.get(metric, metric)
        if need and (metric in facts.needs.project_quotas) == whole_project:
            counted[name] += need
    return counted


def _quota(
    metric: str, need: int, quota: Json | None, where: str, subject: str, *, fallback: bool
) -> Finding:
    if quota is None:
        return warning(
            "quotas",
            f"Google reports no quota {metric} {where}; {subject[0].lower()}{subject[1:]} {need}.",
            "see IAM & Admin, Quotas",
        )
    limit, usage = quota["limit"], quota["usage"]
    free = limit - usage
    if need <= free or limit < 0:
        return ok("quotas", f"{metric} {where}: {need} needed, {free:.0f} of {limit:.0f} free")
    text = f"{subject} {need} of {metric} {where}, but only {free:.0f} of {limit:.0f} are free."
    fix = (
        f"request {usage + need:.0f} {metric} under IAM & Admin, Quotas (not possible in a free "
        "trial), or choose a smaller stack or another zone"
    )
    if fallback:
        return warning("quotas", f"{text} The run could not move there.", fix)
    return stop("quotas", text, fix, Failure.QUOTA)
