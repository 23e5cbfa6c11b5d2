"""The late archive of a cluster's events: a log sink into a bucket that outlives the stack.

The runner collects events from Cloud Logging before it takes the cluster down. If that fails, the
archive still has them, so the bucket is kept when the stack is destroyed. So are the sink and its
role: Google writes in hourly batches, two to three hours late, when most clusters are deleted.
It deliberately exports events only, not the nodes' other logs.
"""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import logging, storage

WRITER_ROLE = "roles/storage.objectCreator"
"""Create objects; neither read, overwrite nor delete them."""

_PREFIX = 55
"""Characters of a bucket's name, so that Pulumi's suffix fits into Cloud Storage's 63."""


@dataclass(frozen=True, slots=True)
class LogSinkArgs:
    """What to archive, and where.

    Attributes:
        project: Google Cloud project id.
        region: where a new bucket is.
        cluster_name: also the sink's name, unique per stack: a second sink of the same name would
            silently overwrite the first.
        log_filter: Cloud Logging filter.
        bucket: an existing bucket; empty creates one.
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
    """A sink whose own identity may create objects in one bucket and do nothing else.

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
            # The provider adopts an existing one, so the next `up` continues with it.
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
        # The only resource whose name gets Pulumi's random suffix: the bucket outlives the stack,
        # and with a fixed name the stack's next `up` would fail with 409.
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
    """Return the Cloud Logging filter of one cluster's events.

    These are the exporter's lines on stdout, unless `namespace` is empty (no exporter), and GKE's
    own log `events`.
    """
    exporter = (
        'resource.type="k8s_container"'
        f' AND log_id("stdout")'
        f' AND resource.labels.namespace_name="{namespace}"'
        f' AND resource.labels.container_name="{container}"'
    )
    native = 'log_id("events") AND resource.type=("k8s_pod" OR "k8s_node" OR "k8s_cluster")'
    sources = f"(({exporter}) OR ({native}))" if namespace else f"({native})"
    return (
        f'resource.labels.project_id="{project}"'
        f' AND resource.labels.location="{location}"'
        f' AND resource.labels.cluster_name="{cluster}"'
        f" AND {sources}"
    )


def _delete_after(days: int) -> storage.BucketLifecycleRuleArgs:
    # Any version of an object: in a bucket with versions, deleting the live one only hides it.
    return storage.BucketLifecycleRuleArgs(
        action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=storage.BucketLifecycleRuleConditionArgs(age=days, with_state="ANY"),
    )
