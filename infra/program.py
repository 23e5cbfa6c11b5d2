"""The whole program: settings -> providers -> components -> exports.

The exports are exactly the fields of `schema.stack_outputs.StackOutputs`.
"""

from typing import Any

import pulumi

from infra.components import event_exporter
from infra.components.cluster import ClusterArgs, StudyCluster
from infra.components.event_exporter import EventExporter
from infra.components.expiry import DeadMan, DeadManArgs, last_update
from infra.components.flux_operator import FluxOperator
from infra.components.log_sink import LogSink, LogSinkArgs, event_filter
from infra.components.system_pod import SystemPodArgs
from infra.config import load_settings
from infra.prices import CLUSTER_USD_PER_HOUR, usd_per_hour
from infra.providers import google_provider, kubernetes_provider
from infra.settings import Settings
from schema.errors import UserError


def declare() -> None:
    """Declare the current stack.

    Called by `pulumi up` through `infra.__main__`, and by the Automation API as inline program.

    Raises:
        pulumi.RunError: a setting is not valid; Pulumi prints the message without a traceback.
    """
    try:
        settings = load_settings()
    except UserError as error:
        raise pulumi.RunError(str(error)) from error
    for name, value in declare_stack(settings).items():
        pulumi.export(name, value)


def declare_stack(settings: Settings) -> dict[str, pulumi.Input[Any]]:
    """Declare every resource of a stack; return its exports."""
    before = last_update()
    google = google_provider(settings, before)
    in_google = pulumi.ResourceOptions(providers=[google], depends_on=[before])
    dead_man = DeadMan(
        "dead-man",
        DeadManArgs(
            project=settings.project,
            location=settings.location,
            cluster_name=settings.cluster_name,
            stack=settings.stack,
            hours=settings.deadline_hours,
            until=settings.expires_at,
            last_update=before,
        ),
        in_google,
    )
    cluster = StudyCluster(
        settings.cluster_name,
        ClusterArgs(settings=settings, dead_man=dead_man),
        in_google,
    )
    _declare_in_cluster(settings, cluster, before)
    exports = settings.exporter_image != ""
    namespace = event_exporter.NAMESPACE if exports else ""
    log_filter = event_filter(
        project=settings.project,
        location=settings.location,
        cluster=settings.cluster_name,
        namespace=namespace,
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
        in_google,
    )
    return {
        "project": settings.project,
        "location": settings.location,
        "zone": settings.zone,
        "cluster_name": settings.cluster_name,
        "node_count": settings.node_count,
        "machine_type": settings.machine_type,
        "kubeconfig": cluster.kubeconfig,
        "preloaded_image": settings.preloaded_disk,
        "remote_repository": settings.pull_through_name,
        "parallel_unpacks": settings.parallel_unpacks,
        "flux_operator": settings.flux_operator_image,
        "exporter_namespace": namespace,
        "exporter_deployment": event_exporter.NAME if exports else "",
        "log_filter": log_filter,
        "archive_bucket": sink.bucket,
        "expires_at": dead_man.expires_at,
        "upgrades_excluded_since": dead_man.excluded_since,
        "usd_per_hour": cluster_usd_per_hour(settings),
    }


def _declare_in_cluster(settings: Settings, cluster: StudyCluster, before: pulumi.Resource) -> None:
    pods = (
        ("event-exporter", EventExporter, settings.exporter_image),
        ("flux-operator", FluxOperator, settings.flux_operator_image),
    )
    wanted = [pod for pod in pods if pod[2]]
    providers: list[pulumi.ProviderResource] = [kubernetes_provider(cluster)] if wanted else []
    for name, component, image in wanted:
        component(
            name,
            SystemPodArgs(
                cluster=cluster.cluster,
                node_pool=cluster.monitoring_pool,
                pools=cluster.pools,
                image=image,
            ),
            pulumi.ResourceOptions(providers=providers, depends_on=[before]),
        )


def cluster_usd_per_hour(settings: Settings) -> float:
    """Return the list price of a cluster in US dollars an hour, without Cloud NAT."""
    private = settings.private_nodes
    measured = usd_per_hour(
        settings.machine_type,
        nodes=settings.node_count,
        disk_type=settings.disk_type,
        disk_gb=settings.disk_size_gb,
        ssds=settings.local_ssd_count,
        spot=settings.spot,
        private=private,
    )
    monitoring = (
        usd_per_hour(settings.monitoring_machine_type, private=private)
        if settings.monitoring_pool
        else 0.0
    )
    return round(CLUSTER_USD_PER_HOUR + measured + monitoring, 2)
