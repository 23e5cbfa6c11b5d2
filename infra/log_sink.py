"""The late archive of a cluster's events: a log sink into a bucket that outlives the stack.

The runner collects events from Cloud Logging before it takes the cluster down. Should that fail,
what the sink wrote is still there, so the bucket stays when the stack goes. So do the sink and its
right: Google writes in hourly batches, two to three hours late, and most clusters are gone by then.
It deliberately exports events alone, not the nodes' other logs.
"""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import logging, storage

WRITER_ROLE = "roles/storage.objectCreator"
"""Add objects; neither read, overwrite nor delete any."""

_PREFIX = 55
"""Characters of a bucket's name that leave room for Pulumi's own in Cloud Storage's 63."""


@dataclass(frozen=True, slots=True)
class LogSinkArgs:
    """What to archive, and where.

    Attributes:
        project: Google Cloud project id.
        region: where a new bucket is.
        cluster_name: also the sink's name: a sink of the same name in another stack would silently
            be overwritten.
        log_filter: Cloud Logging filter.
        bucket: an existing bucket; empty makes one.
        days: age at which objects are deleted from a new bucket.
        labels: of a new bucket.
    """

    project: str
    region: str
    cluster_name: str
    log_filter: str
    bucket: str
    days: int
    labels: dict[str, str]


class LogSink(pulumi.ComponentResource):
    """A sink whose own identity may add objects to one bucket and do nothing else.

    Attributes:
        bucket: name of the bucket.
    """

    def __init__(
        self, name: str, args: LogSinkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pull-study:infra:LogSink", name, None, opts)
        self.bucket: pulumi.Output[str] = (
            pulumi.Output.from_input(args.bucket) if args.bucket else self._bucket(args)
        )
        sink = logging.ProjectSink(
            "sink",
            name=args.cluster_name,
            description="Events of a pull study, kept after the cluster is gone.",
            destination=self.bucket.apply(lambda bucket: f"storage.googleapis.com/{bucket}"),
            filter=args.log_filter,
            unique_writer_identity=True,
            # The provider takes one over that is there, so the next `up` finds its own again.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        storage.BucketIAMMember(
            "writer",
            bucket=self.bucket,
            role=WRITER_ROLE,
            member=sink.writer_identity,
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        self.register_outputs({"bucket": self.bucket})

    def _bucket(self, args: LogSinkArgs) -> pulumi.Output[str]:
        # The only resource whose name Pulumi completes with random characters: the bucket stays
        # when the stack goes, and with a fixed name the stack's next `up` would end in a 409.
        bucket = storage.Bucket(
            f"{args.project}-{args.cluster_name}"[:_PREFIX].rstrip("-"),
            location=args.region,
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning=storage.BucketVersioningArgs(enabled=True),
            lifecycle_rules=[_delete_after(args.days)],
            labels=args.labels,
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        return bucket.name


def event_filter(
    *, project: str, location: str, cluster: str, namespace: str, container: str
) -> str:
    """Cloud Logging filter of one cluster's events, from both reporters.

    The exporter's lines on stdout, and the log `events` that GKE itself keeps.
    """
    exporter = (
        'resource.type="k8s_container"'
        f' AND log_id("stdout")'
        f' AND resource.labels.namespace_name="{namespace}"'
        f' AND resource.labels.container_name="{container}"'
    )
    native = 'log_id("events") AND resource.type=("k8s_pod" OR "k8s_node" OR "k8s_cluster")'
    return (
        f'resource.labels.project_id="{project}"'
        f' AND resource.labels.location="{location}"'
        f' AND resource.labels.cluster_name="{cluster}"'
        f" AND (({exporter}) OR ({native}))"
    )


def _delete_after(days: int) -> storage.BucketLifecycleRuleArgs:
    # Any version of an object: in a bucket with versions, deleting the live one only hides it.
    return storage.BucketLifecycleRuleArgs(
        action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=storage.BucketLifecycleRuleConditionArgs(age=days, with_state="ANY"),
    )
