"""The dead-man switch: Google deletes the cluster at its deadline, whatever happens to the runner.

Cloud Scheduler jobs send GKE's delete request, as an account that may manage this cluster and
nothing else. GKE refuses to delete a cluster while an operation runs on it, so the requests go on:
every hour from the deadline to the end of its day, then every 15 minutes of the next day, each with
retries. The jobs are created before the cluster and deleted after it. The deadline is fixed when
the cluster is created: a later `up` reads it from the stack's exports and keeps it; only a deadline
that has passed (its cluster is deleted, and this `up` creates another) is replaced. It deliberately
deletes the cluster alone: the rest is left to `pulumi destroy`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi
from pulumi_gcp import cloudscheduler, projects, serviceaccount

EXPORT = "expires_at"
"""The stack's export from which a later `up` reads the deadline."""
SINCE_EXPORT = "upgrades_excluded_since"
"""The stack's export from which a later `up` reads since when the cluster is not upgraded."""
ROLE = "roles/container.clusterAdmin"
"""The smallest predefined role that may delete a cluster; the grant is limited by a condition.

A custom role would be smaller, but its id cannot be used again for 37 days after its deletion."""
EXPORT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
LABEL_FORMAT = "%Y-%m-%dt%H-%Mz"
"""Of the cluster's label `expires`: labels allow neither capitals nor colons."""
FALLBACK_REGION = "us-central1"
SCHEDULER_REGIONS = {
    "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3",
    "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3",
    "australia-southeast1", "europe-central2", "europe-west1", "europe-west12", "europe-west2",
    "europe-west3", "europe-west4", "europe-west6", "me-central1", "me-central2", "me-west1",
    "northamerica-northeast1", "northamerica-northeast2", "southamerica-east1", "us-central1",
    "us-east1", "us-east4", "us-west1", "us-west2", "us-west3", "us-west4",
}  # fmt: skip
"""Regions that have Cloud Scheduler, as far as its locations page and release notes were seen:
https://docs.cloud.google.com/scheduler/docs/locations, 2026-09."""
_RETRIES = cloudscheduler.JobRetryConfigArgs(
    # Cloud Scheduler's maximum: 25 minutes in all.
    retry_count=5,
    min_backoff_duration="60s",
    max_backoff_duration="600s",
)
_DAY = timedelta(days=1)
_GRANT_OUTLIVES_BY = timedelta(days=60)
_JULY = 7


@dataclass(frozen=True, slots=True)
class DeadManArgs:
    """Which cluster, and when.

    Attributes:
        project: Google Cloud project id.
        location: of the cluster.
        cluster_name: of the cluster; also the first job's name.
        stack: name of the stack.
        hours: from now to the deadline of a new cluster.
        until: a deadline set by the user instead.
        last_update: the stack's own exports (`last_update`).
    """

    project: str
    location: str
    cluster_name: str
    stack: str
    hours: int
    until: datetime | None
    last_update: pulumi.StackReference


def last_update() -> pulumi.StackReference:
    """Return the stack's own exports as of its last update; none for a new stack.

    Everything else must depend on it: the engine reads it from the checkpoint that it rewrites with
    every other resource, and in a backend of files it may find that file half-written.
    """
    own = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    return pulumi.StackReference("last-update", stack_name=own)


class DeadMan(pulumi.ComponentResource):
    """Scheduled requests to delete one cluster.

    Attributes:
        expires_at: deadline in UTC, RFC 3339.
        label: the deadline as a label's value, such as 2026-11-24t15-05z.
        excluded_since: start of the cluster's time without upgrades, RFC 3339.
        excluded_until: its end, a day after the deadline.
        jobs: must exist before the cluster.
    """

    def __init__(
        self, name: str, args: DeadManArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pull-study:infra:DeadMan", name, None, opts)
        now = datetime.now(UTC)
        earlier = args.last_update.get_output(EXPORT)
        since = args.last_update.get_output(SINCE_EXPORT)
        at = earlier.apply(lambda earlier: deadline(earlier, now, args.hours, args.until))
        self.expires_at: pulumi.Output[str] = at.apply(lambda at: at.strftime(EXPORT_FORMAT))
        self.label: pulumi.Output[str] = at.apply(lambda at: at.strftime(LABEL_FORMAT))
        self.excluded_since: pulumi.Output[str] = pulumi.Output.all(earlier, since).apply(
            lambda exports: excluded_since(exports[0], exports[1], now)
        )
        self.excluded_until = at.apply(lambda at: (at + _DAY).strftime(EXPORT_FORMAT))
        account, right = self._account_that_deletes(args, at)
        self.jobs = [
            cloudscheduler.Job(
                resource,
                name=job,
                region=scheduler_region(args.location),
                description=f"Deletes the cluster {args.cluster_name} {when}.",
                schedule=at.apply(schedule),
                time_zone="Etc/UTC",
                http_target=cloudscheduler.JobHttpTargetArgs(
                    http_method="DELETE",
                    uri="https://container.googleapis.com/v1/projects/"
                    f"{args.project}/locations/{args.location}/clusters/{args.cluster_name}",
                    oauth_token=cloudscheduler.JobHttpTargetOauthTokenArgs(
                        service_account_email=account.email
                    ),
                ),
                retry_config=_RETRIES,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[right]),
            )
            for resource, job, when, schedule in zip(
                ("deadline", "deadline-next-day"),
                job_names(args.cluster_name),
                ("at its deadline", "on the day after its deadline"),
                (cron, next_day_cron),
                strict=True,
            )
        ]
        self.register_outputs({EXPORT: self.expires_at})

    def _account_that_deletes(
        self, args: DeadManArgs, at: pulumi.Output[datetime]
    ) -> tuple[serviceaccount.Account, projects.IAMMember]:
        own = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            "expiry",
            account_id=expiry_account(args.stack),
            display_name=f"Deletes the cluster of pull-study {args.stack}",
            opts=own,
        )
        right = projects.IAMMember(
            "expiry-deletes-clusters",
            project=args.project,
            role=ROLE,
            member=account.member,
            condition=projects.IAMMemberConditionArgs(
                title=f"only {args.cluster_name}",
                expression=at.apply(lambda at: limit(args.location, args.cluster_name, at)),
            ),
            opts=own,
        )
        return account, right


def scheduler_region(location: str) -> str:
    """Return the region of a cluster's jobs: its own if that has Cloud Scheduler, else another.

    Args:
        location: zone or region of the cluster. The jobs need not be near it.
    """
    region = "-".join(location.split("-")[:2])
    return region if region in SCHEDULER_REGIONS else FALLBACK_REGION


def expiry_account(stack: str) -> str:
    """Return the id of the service account that deletes a stack's cluster."""
    return f"expiry-{stack}"


def job_names(cluster_name: str) -> tuple[str, str]:
    """Return the names of a cluster's jobs: of the deadline's day, and of the day after."""
    return cluster_name, f"{cluster_name}-next-day"


def limit(location: str, cluster_name: str, at: datetime) -> str:
    """Return the condition of the grant, in CEL: this cluster alone, and not in another year.

    A schedule names no year. Resources are named by `zones/` or by `locations/` in a zone, by
    `locations/` in a region (https://docs.cloud.google.com/iam/docs/conditions-resource-attributes).
    """
    places = ("zones", "locations") if location.count("-") > 1 else ("locations",)
    end = _end_of_grant(at).strftime(EXPORT_FORMAT)
    return " || ".join(
        f'resource.name.endsWith("/{place}/{location}/clusters/{cluster_name}")'
        f' && request.time < timestamp("{end}")'
        for place in places
    )


def _end_of_grant(at: datetime) -> datetime:
    # Two dates a year instead of one for each deadline: the grant of a cluster whose state was lost
    # is found by its condition.
    later = at + _GRANT_OUTLIVES_BY
    if later.month < _JULY:
        return datetime(later.year, _JULY, 1, tzinfo=UTC)
    return datetime(later.year + 1, 1, 1, tzinfo=UTC)


def deadline(
    earlier: str | None, now: datetime, hours: int, until: datetime | None = None
) -> datetime:
    """Return when a cluster is to be deleted, in UTC, on a whole minute.

    Args:
        earlier: the deadline exported by the stack's last update.
        now: the time of this update.
        hours: lifetime of a new cluster.
        until: set by the user; used unchanged.
    """
    if until is not None:
        return until
    if (known := _ahead(earlier, now)) is not None:
        return known
    return now.replace(second=0, microsecond=0) + timedelta(hours=hours, minutes=1)


def excluded_since(earlier: str | None, since: str | None, now: datetime) -> str:
    """Return since when a cluster is not upgraded: since it was first declared, RFC 3339.

    Args:
        earlier: the deadline exported by the stack's last update.
        since: what this function returned for that update.
        now: the time of this update.
    """
    if since and _ahead(earlier, now) is not None:
        return since
    return now.replace(second=0, microsecond=0).strftime(EXPORT_FORMAT)


def _ahead(earlier: str | None, now: datetime) -> datetime | None:
    if not earlier:
        return None
    known = datetime.strptime(earlier, EXPORT_FORMAT).replace(tzinfo=UTC)
    return known if known > now else None


def cron(at: datetime) -> str:
    """Return the unix-cron schedule that fires at a time, and hourly to the end of its day."""
    last = 23
    hours = f"{at.hour}-{last}" if at.hour < last else str(at.hour)
    return f"{at.minute} {hours} {at.day} {at.month} *"


def next_day_cron(at: datetime) -> str:
    """Return the unix-cron schedule of every 15 minutes of the day after a time."""
    day = at + _DAY
    return f"*/15 * {day.day} {day.month} *"
