"""The dead-man switch: Google deletes the cluster at its deadline, whatever happens to the runner.

A Cloud Scheduler job sends GKE's delete request, as an account that may do nothing else. It is
created before the cluster and deleted after it. The deadline is fixed when the cluster is created:
a later `up` reads it from the stack's exports and keeps it; only a deadline that has passed (its
cluster is deleted, and this `up` creates another) is replaced. It deliberately deletes the cluster
alone: the resources that cost nothing are left to `pulumi destroy`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi
from pulumi_gcp import cloudscheduler, projects, serviceaccount

EXPORT = "expires_at"
"""The stack's export from which a later `up` reads the deadline."""
PERMISSIONS = ("container.clusters.delete",)
EXPORT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
LABEL_FORMAT = "%Y-%m-%dt%H-%Mz"
"""Of the cluster's label `expires`: labels allow neither capitals nor colons."""


@dataclass(frozen=True, slots=True)
class DeadManArgs:
    """Which cluster, and when.

    Attributes:
        project: Google Cloud project id.
        region: of the scheduler's job.
        location: of the cluster.
        cluster_name: of the cluster; also the job's name.
        stack: name of the stack.
        hours: from now to the deadline of a new cluster.
        until: a deadline set by the user instead.
        last_update: the stack's own exports (`last_update`).
    """

    project: str
    region: str
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
    """A scheduled request to delete one cluster.

    Attributes:
        expires_at: deadline in UTC, RFC 3339.
        label: the deadline as a label's value, such as 2026-11-24t15-05z.
        job: must exist before the cluster.
    """

    def __init__(
        self, name: str, args: DeadManArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pull-study:infra:DeadMan", name, None, opts)
        at = args.last_update.get_output(EXPORT).apply(
            lambda earlier: deadline(earlier, datetime.now(UTC), args.hours, args.until)
        )
        self.expires_at: pulumi.Output[str] = at.apply(lambda at: at.strftime(EXPORT_FORMAT))
        self.label: pulumi.Output[str] = at.apply(lambda at: at.strftime(LABEL_FORMAT))
        account, right = self._account_that_deletes(args)
        self.job = cloudscheduler.Job(
            "deadline",
            name=args.cluster_name,
            region=args.region,
            description=f"Deletes the cluster {args.cluster_name} at its deadline.",
            schedule=at.apply(cron),
            time_zone="Etc/UTC",
            http_target=cloudscheduler.JobHttpTargetArgs(
                http_method="DELETE",
                uri="https://container.googleapis.com/v1/"
                f"projects/{args.project}/locations/{args.location}/clusters/{args.cluster_name}",
                oauth_token=cloudscheduler.JobHttpTargetOauthTokenArgs(
                    service_account_email=account.email
                ),
            ),
            # GKE refuses to delete a cluster while another operation runs on it.
            retry_config=cloudscheduler.JobRetryConfigArgs(
                retry_count=5, min_backoff_duration="60s", max_backoff_duration="600s"
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[right]),
        )
        self.register_outputs({EXPORT: self.expires_at})

    def _account_that_deletes(
        self, args: DeadManArgs
    ) -> tuple[serviceaccount.Account, projects.IAMMember]:
        own = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            "expiry",
            account_id=f"expiry-{args.stack}",
            display_name=f"Deletes the cluster of pull-study {args.stack}",
            opts=own,
        )
        role = projects.IAMCustomRole(
            "delete-clusters",
            role_id=f"pullStudyExpiry_{args.stack.replace('-', '_')}",
            title=f"Delete the cluster of pull-study {args.stack}",
            permissions=list(PERMISSIONS),
            opts=own,
        )
        right = projects.IAMMember(
            "expiry-deletes-clusters",
            project=args.project,
            role=role.name,
            member=account.member,
            opts=own,
        )
        return account, right


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
    if earlier:
        known = datetime.strptime(earlier, EXPORT_FORMAT).replace(tzinfo=UTC)
        if known > now:
            return known
    return now.replace(second=0, microsecond=0) + timedelta(hours=hours, minutes=1)


def cron(at: datetime) -> str:
    """Return the unix-cron schedule that first fires at a time within the next year."""
    return f"{at.minute} {at.hour} {at.day} {at.month} *"
