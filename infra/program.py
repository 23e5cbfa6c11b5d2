"""The whole program: settings -> providers -> components -> exports.

The exports are the fields of `schema.stack_outputs.StackOutputs`, no more and no fewer.
"""

from typing import Any

import pulumi

from infra import event_exporter
from infra.cluster import StudyCluster
from infra.event_exporter import EventExporter, EventExporterArgs
from infra.log_sink import LogSink, LogSinkArgs, event_filter
from infra.providers import google_provider, kubernetes_provider
from infra.settings import Settings, load_settings
from schema.errors import UserError
from schema.names import MEASURED_LABEL


def declare() -> None:
    """Declare the current stack.

    Called by `pulumi up` through `infra.__main__`, and by the Automation API as inline program.

    Raises:
        pulumi.RunError: a setting is wrong; Pulumi prints its sentence without a traceback.
    """
    try:
        settings = load_settings()
    except UserError as error:
        raise pulumi.RunError(str(error)) from None
    for name, value in declare_stack(settings).items():
        pulumi.export(name, value)


def declare_stack(settings: Settings) -> dict[str, pulumi.Input[Any]]:
    """Declare every resource of a stack; returns its exports."""
    google = google_provider(settings)
    cluster = StudyCluster(
        settings.cluster_name, settings, pulumi.ResourceOptions(providers=[google])
    )
    kubernetes = kubernetes_provider(cluster)
    EventExporter(
        "event-exporter",
        EventExporterArgs(cluster=cluster.cluster, node_pool=cluster.monitoring_pool),
        # Its pod waits for a node, and whoever waits for the pod should not time out on that.
        pulumi.ResourceOptions(providers=[kubernetes], depends_on=cluster.pools),
    )
    log_filter = event_filter(
        project=settings.project,
        location=settings.location,
        cluster=settings.cluster_name,
        namespace=event_exporter.NAMESPACE,
        container=event_exporter.NAME,
    )
    sink = LogSink(
        "event-archive",
        LogSinkArgs(
            project=settings.project,
            region=settings.region,
            cluster_name=settings.cluster_name,
            log_filter=log_filter,
            bucket=settings.archive_bucket,
            days=settings.archive_days,
            labels=settings.google_labels,
        ),
        pulumi.ResourceOptions(providers=[google]),
    )
    return {
        "project": settings.project,
        "location": settings.location,
        "cluster_name": settings.cluster_name,
        "node_count": settings.node_count,
        "machine_type": settings.machine_type,
        "kubeconfig": cluster.kubeconfig,
        "measured_pool": cluster.measured_pool.name,
        "measured_taint": MEASURED_LABEL,
        "exporter_namespace": event_exporter.NAMESPACE,
        "exporter_deployment": event_exporter.NAME,
        "exporter_container": event_exporter.NAME,
        "log_filter": log_filter,
        "archive_bucket": sink.bucket,
    }
