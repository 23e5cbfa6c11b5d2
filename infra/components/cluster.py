"""The cluster: control plane, the measured nodes, and a node for everything else.

What a study varies is one pool of N equal nodes. System pods and the event exporter have their own
pool: their image pulls and log traffic would share disk and network with the pulls under
measurement. It deliberately has no autoscaling: N is what the study varies.
docs/running-on-gke.md compares each value with the original study's gcloud command.
"""

from dataclasses import dataclass

import pulumi
import yaml
from pulumi_gcp import container, projects, serviceaccount

from infra.components.expiry import DeadMan
from infra.components.node_init import node_init
from infra.components.nodes import measured_nodes, monitoring_nodes
from infra.components.pull_through import remote_repositories
from infra.settings import Settings

MEASURED_POOL = "measured"
MONITORING_POOL = "monitoring"
NODE_ROLES = ("roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader")
"""Google's minimal role of a node (write logs and metrics), and pulls from Artifact Registry."""
STREAMING_ROLE = "roles/serviceusage.serviceUsageConsumer"
"""Required by image streaming of a node account that is not the default one, besides its API."""
AUTH_PLUGIN_HINT = (
    "gcloud components install gke-gcloud-auth-plugin, or, where gcloud came by apt: "
    "apt-get install google-cloud-cli-gke-gcloud-auth-plugin"
)
_TIMEOUTS = pulumi.CustomTimeouts(create="40m", update="60m", delete="40m")
"""Limits of an `up` that hangs; the provider's own defaults differ by resource."""


@dataclass(frozen=True, slots=True)
class ClusterArgs:
    """The arguments of a cluster.

    Attributes:
        settings: of the stack.
        dead_man: created before the cluster and deleted after it; has its deadline.
    """

    settings: Settings
    dead_man: DeadMan


class StudyCluster(pulumi.ComponentResource):
    """A GKE cluster whose measured pool has exactly `node_count` nodes, in one zone.

    Attributes:
        cluster: the control plane.
        measured_pool: the nodes whose pulls are measured.
        monitoring_pool: name of the pool of the exporter and the system pods; None without one.
        pools: all node pools.
        kubeconfig: YAML that runs gke-gcloud-auth-plugin; it holds no credential.
    """

    def __init__(
        self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pull-study:infra:StudyCluster", name, None, opts)
        self._settings = settings = args.settings
        account = self._node_account()
        # On destroy, nodes are deleted before their roles.
        caches = remote_repositories(settings, self)
        init = node_init(settings, account, self)
        self._needs: list[pulumi.Resource] = [*self._grants(account), *self._apis(), *caches]
        self._needs += init.needs if init else []
        self.cluster = self._control_plane(args)
        self.measured_pool = self._pool(
            MEASURED_POOL,
            settings.node_count,
            measured_nodes(settings, account.email, init.config if init else None),
        )
        self.pools = [self.measured_pool]
        self.monitoring_pool: pulumi.Output[str] | None = None
        if settings.monitoring_pool:
            pool = self._pool(MONITORING_POOL, 1, monitoring_nodes(settings, account.email))
            self.pools.append(pool)
            self.monitoring_pool = pool.name
        self.kubeconfig = pulumi.Output.all(
            self.cluster.name,
            self.cluster.endpoint,
            self.cluster.master_auth.cluster_ca_certificate,
        ).apply(lambda facts: kubeconfig(*facts))
        self.register_outputs({"kubeconfig": self.kubeconfig})

    def _node_account(self) -> serviceaccount.Account:
        stack = self._settings.stack
        return serviceaccount.Account(
            "nodes",
            account_id=nodes_account(stack),
            display_name=f"Nodes of pull-study {stack}",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _grants(self, account: serviceaccount.Account) -> list[projects.IAMMember]:
        roles = (*NODE_ROLES, STREAMING_ROLE) if self._settings.image_streaming else NODE_ROLES
        return [
            projects.IAMMember(
                f"nodes-{role.rpartition('.')[2]}",
                project=self._settings.project,
                role=role,
                member=account.member,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for role in roles
        ]

    def _apis(self) -> list[projects.Service]:
        # Without this API nodes silently pull without streaming; any other missing API is an error.
        if not self._settings.image_streaming:
            return []
        return [
            projects.Service(
                "image-streaming",
                project=self._settings.project,
                service="containerfilesystem.googleapis.com",
                # Other clusters of the project may stream images.
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
        ]

    def _control_plane(self, args: ClusterArgs) -> container.Cluster:
        settings = args.settings
        return container.Cluster(
            "cluster",
            name=settings.cluster_name,
            location=settings.location,
            # A regional cluster would create every pool in three zones: three times N nodes.
            node_locations=[settings.zone] if settings.regional else None,
            # Nodes have their own pools, which can change without the cluster.
            remove_default_node_pool=True,
            initial_node_count=1,
            # The provider's default is True, with which `pulumi destroy` fails.
            deletion_protection=False,
            min_master_version=settings.kubernetes_version or None,
            maintenance_policy=_no_upgrades(args.dead_man),
            release_channel=container.ClusterReleaseChannelArgs(channel=settings.release_channel),
            ip_allocation_policy=container.ClusterIpAllocationPolicyArgs(
                cluster_ipv4_cidr_block=f"/{settings.pod_range_prefix}"
            ),
            private_cluster_config=_private_nodes() if settings.private_nodes else None,
            workload_identity_config=_workload_pool(settings),
            enable_shielded_nodes=settings.shielded_nodes,
            # GKE copies these to the nodes' machines and disks. By the deadline `sweep` finds
            # forgotten clusters.
            resource_labels={**settings.google_labels, "expires": args.dead_man.label},
            opts=self._slow(*args.dead_man.jobs),
        )

    def _pool(
        self, name: str, node_count: int, nodes: container.NodePoolNodeConfigArgs
    ) -> container.NodePool:
        return container.NodePool(
            name,
            name=name,
            cluster=self.cluster.name,
            location=self._settings.location,
            node_count=node_count,
            node_config=nodes,
            version=self._settings.kubernetes_version or None,
            management=_management(self._settings),
            maintenance_policies=_maintenance(self._settings),
            # Deleting a pool alone first drains its nodes, at their full price.
            opts=pulumi.ResourceOptions.merge(
                self._slow(), pulumi.ResourceOptions(deleted_with=self.cluster)
            ),
        )

    def _slow(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self, depends_on=[*self._needs, *after], custom_timeouts=_TIMEOUTS
        )


def nodes_account(stack: str) -> str:
    """Return the id of the service account of a stack's nodes."""
    return f"nodes-{stack}"


def kubeconfig(cluster: str, endpoint: str, authority: str) -> str:
    """Return a kubeconfig that gets its credentials from gke-gcloud-auth-plugin.

    The plugin uses the application-default credentials, as Pulumi and the runner do. A token would
    expire in an hour and be stored, readable, in the state.

    Args:
        cluster: name of cluster, user and context.
        endpoint: address of the control plane, with or without port.
        authority: its certificate authority, PEM in base64.

    Returns:
        YAML.
    """
    login = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "gke-gcloud-auth-plugin",
        # By default the plugin takes gcloud's own login, which can be another account, or none.
        "args": ["--use_application_default_credentials"],
        "installHint": AUTH_PLUGIN_HINT,
        "interactiveMode": "Never",
        "provideClusterInfo": True,
    }
    server = {"server": f"https://{endpoint}", "certificate-authority-data": authority}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": server}],
            "users": [{"name": cluster, "user": {"exec": login}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
            "current-context": cluster,
        },
        sort_keys=False,
    )


def _no_upgrades(dead_man: DeadMan) -> container.ClusterMaintenancePolicyArgs:
    # An upgrade of a zonal control plane takes the API server away for minutes.
    exclusion = container.ClusterMaintenancePolicyMaintenanceExclusionArgs(
        exclusion_name="study",
        start_time=dead_man.excluded_since,
        end_time=dead_man.excluded_until,
        exclusion_options=container.ClusterMaintenancePolicyMaintenanceExclusionExclusionOptionsArgs(
            scope="NO_UPGRADES"
        ),
    )
    # The provider demands a window beside the exclusion; it would begin after it.
    window = container.ClusterMaintenancePolicyDailyMaintenanceWindowArgs(start_time="03:00")
    return container.ClusterMaintenancePolicyArgs(
        daily_maintenance_window=window, maintenance_exclusions=[exclusion]
    )


def _private_nodes() -> container.ClusterPrivateClusterConfigArgs:
    return container.ClusterPrivateClusterConfigArgs(enable_private_nodes=True)


def _workload_pool(settings: Settings) -> container.ClusterWorkloadIdentityConfigArgs | None:
    if settings.workload_metadata != "GKE_METADATA":
        return None
    return container.ClusterWorkloadIdentityConfigArgs(
        workload_pool=f"{settings.project}.svc.id.goog"
    )


def _management(settings: Settings) -> container.NodePoolManagementArgs:
    # In a release channel GKE refuses to disable either ("Auto_upgrade and auto_repair cannot be
    # false when release_channel REGULAR is set"), and clusters without a channel end on 2027-06-14.
    # A repair starts after 10 minutes of NotReady: by then those cells are node-lost.
    automatic = settings.release_channel != "UNSPECIFIED"
    return container.NodePoolManagementArgs(auto_repair=automatic, auto_upgrade=automatic)


def _maintenance(settings: Settings) -> list[container.NodePoolMaintenancePolicyArgs] | None:
    # An upgrade would replace every node, with its images, during a study.
    if settings.release_channel == "UNSPECIFIED":
        return None
    exclusion = container.NodePoolMaintenancePolicyExclusionUntilEndOfSupportArgs(enabled=True)
    return [container.NodePoolMaintenancePolicyArgs(exclusion_until_end_of_supports=[exclusion])]
