"""Checks of what a stack finds in its project: zones, Cloud Scheduler, network, account."""

from collections.abc import Iterator

from experiment.errors import Failure
from experiment.preflight.findings import Finding, Level, listed, ok, stop
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import StackFacts


def check_zones(api: GoogleApi, facts: StackFacts) -> Iterator[Finding]:
    """Check that each zone exists and has the machine types and the CPU platform.

    Only the first zone stops the run: to the others it moves if that has no capacity.
    """
    needs = facts.needs
    for place, zone in enumerate(needs.zones):
        problem = _lacking(api, facts, zone)
        if not problem:
            types = listed(list(needs.machine_types))
            yield ok("zones", f"{zone} has {types}")
            continue
        yield Finding(
            "zones",
            Level.WARNING if place else Level.STOP,
            f"{problem} Nodes could not be created there, once the cluster costs money.",
            f"pulumi config set --path 'pull-study:zones[{place}]' ZONE",
        )


def _lacking(api: GoogleApi, facts: StackFacts, zone: str) -> str:
    """What a zone lacks, as a sentence; empty for nothing."""
    path = f"projects/{api.project}/zones/{zone}"
    found = api.get("COMPUTE", path)
    if found is None:
        region = api.get("COMPUTE", f"projects/{api.project}/regions/{zone.rpartition('-')[0]}")
        zones = sorted(str(each).rpartition("/")[2] for each in (region or {}).get("zones", []))
        others = f"; its region has {listed(zones)}" if zones else ""
        return f"Google Cloud has no zone {zone}{others}."
    missing = [
        name
        for name in facts.needs.machine_types
        if api.get("COMPUTE", f"{path}/machineTypes/{name}") is None
    ]
    if missing:
        return f"The zone {zone} has no machine type {listed(missing)}."
    platforms = found.get("availableCpuPlatforms", [])
    required = facts.needs.min_cpu_platform
    if required and required not in platforms:
        has = f"it has {listed(platforms)}" if platforms else "it names none"
        return f"The zone {zone} has no CPU platform {required}; {has}."
    return ""


def check_scheduler(api: GoogleApi, facts: StackFacts) -> Iterator[Finding]:
    """Check that Cloud Scheduler exists in the region of the dead-man switch."""
    path = f"projects/{api.project}/locations"
    regions = {each["locationId"] for each in api.get_all("CLOUD_SCHEDULER", path, "locations")}
    region = facts.needs.scheduler_region
    if region in regions:
        yield ok("scheduler", f"Cloud Scheduler exists in {region}")
    else:
        yield stop(
            "scheduler",
            f"Cloud Scheduler does not exist in {region}, so nothing would delete the cluster at "
            "its deadline.",
            "choose a zone of another region: pulumi config set --path 'pull-study:zones[0]' ZONE",
        )


def check_network(api: GoogleApi, _facts: StackFacts) -> Iterator[Finding]:
    """Check that the project has the network that clusters are created in."""
    project = api.project
    if api.get("COMPUTE", f"projects/{project}/global/networks/default") is None:
        yield stop(
            "network",
            f"The project {project} has no network `default`, in which GKE creates clusters.",
            f"gcloud compute networks create default --subnet-mode auto --project {project}",
        )
    else:
        yield ok("network", "the network `default` exists")


def check_account(api: GoogleApi, _facts: StackFacts) -> Iterator[Finding]:
    """Check the account of the node with which GKE creates a cluster, and which is removed."""
    project = api.project
    email = (api.get("COMPUTE", f"projects/{project}") or {}).get("defaultServiceAccount", "")
    account = api.get("IAM_BETA", f"projects/{project}/serviceAccounts/{email}") if email else None
    what = "default Compute Engine service account, which GKE needs to create a cluster"
    if account is None:
        yield stop(
            "account",
            f"The project {project} has no {what}.",
            "undelete it within 30 days (https://cloud.google.com/iam/docs/"
            "service-accounts-delete-undelete), or use another project",
            Failure.PERMISSION,
        )
    elif account.get("disabled"):
        yield stop(
            "account",
            f"The account {email} is disabled: it is the project's {what}.",
            f"gcloud iam service-accounts enable {email} --project {project}",
            Failure.PERMISSION,
        )
    else:
        yield ok("account", "the default Compute Engine service account is enabled")


def check_preloaded(api: GoogleApi, facts: StackFacts) -> Iterator[Finding]:
    """Check that the disk image of the secondary boot disks exists and is ready."""
    if not facts.preloaded:
        return
    image = api.get("COMPUTE", facts.preloaded)
    state = str(image.get("status")) if image else ""
    if image and state == "READY":
        size = f"{image.get('diskSizeGb', '?')} GB"
        yield ok("preloaded images", f"{facts.preloaded} is ready: a disk of {size} for each node")
        return
    yield stop(
        "preloaded images",
        f"The disk image {facts.preloaded} {f'is {state}' if state else 'does not exist'}, so no "
        "measured node could be created, once the cluster costs money.",
        f"gcloud compute images describe {facts.preloaded} shows it; docs/running-on-gke.md says "
        "how to make it (size-16-preloaded)",
    )
