"""The event exporter: every event of the cluster as a line of JSON on its stdout.

Cloud Logging reads stdout, so the exporter needs no credential for a sink. It is configured for
completeness: with its defaults (events older than 5 s dropped, 5 look-ups a second) nine tenths of
a large study's events are lost. It looks nothing up, so its role covers events only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import yaml
from pulumi_kubernetes import apps, core, meta, rbac

NAME = "event-exporter"
"""Of the Deployment, its container, its service account and its ConfigMap."""
NAMESPACE = "monitoring"
CONFIGURATION = yaml.safe_dump(
    {
        "logLevel": "warn",
        # `pretty` would mix the exporter's own log with the events on stdout.
        "logFormat": "json",
        "maxEventAgeSeconds": 1200,
        "kubeQPS": 100,
        "kubeBurst": 500,
        "omitLookup": True,
        "metricsNamePrefix": "event_exporter_",
        "leaderElection": {"enabled": False},
        "route": {"routes": [{"match": [{"receiver": "dump"}]}]},
        "receivers": [{"name": "dump", "stdout": {}}],
    },
    sort_keys=False,
)
_LABELS = {"app": NAME}
_FOLDER = "/data"
_PORT = 2112
_USER = 65532
"""The image's own user and group, nonroot."""


@dataclass(frozen=True, slots=True)
class EventExporterArgs:
    """The exporter's cluster.

    Attributes:
        cluster: deleting it deletes everything in it, so `destroy` skips its objects.
        node_pool: name of the pool to run on; None for any node.
        pools: must exist before the pod waits for a node.
        image: of the exporter, with its digest.
    """

    cluster: pulumi.Resource
    node_pool: pulumi.Input[str] | None
    pools: Sequence[pulumi.Resource]
    image: str


class EventExporter(pulumi.ComponentResource):
    """One kubernetes-event-exporter, with a role that reads events and nothing else."""

    def __init__(
        self, name: str, args: EventExporterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pull-study:infra:EventExporter", name, None, opts)
        self._cluster = args.cluster
        namespace = core.v1.Namespace(
            "namespace",
            metadata=meta.v1.ObjectMetaArgs(name=NAMESPACE, labels=_LABELS),
            opts=self._in_cluster(),
        )
        self._metadata = meta.v1.ObjectMetaArgs(
            name=NAME, namespace=namespace.metadata.name, labels=_LABELS
        )
        account = core.v1.ServiceAccount(
            "account", metadata=self._metadata, opts=self._in_cluster()
        )
        configuration = core.v1.ConfigMap(
            "configuration",
            metadata=self._metadata,
            data={"config.yaml": CONFIGURATION},
            opts=self._in_cluster(),
        )
        apps.v1.Deployment(
            "deployment",
            metadata=self._metadata,
            spec=_deployment(args),
            # Referenced by name only, so the engine cannot see the dependency.
            opts=self._in_cluster(account, configuration, self._binding(), *args.pools),
        )
        self.register_outputs({})

    def _binding(self) -> rbac.v1.ClusterRoleBinding:
        metadata = meta.v1.ObjectMetaArgs(name=f"pull-study-{NAME}", labels=_LABELS)
        events = rbac.v1.PolicyRuleArgs(
            api_groups=[""], resources=["events"], verbs=["get", "list", "watch"]
        )
        role = rbac.v1.ClusterRole(
            "role", metadata=metadata, rules=[events], opts=self._in_cluster()
        )
        return rbac.v1.ClusterRoleBinding(
            "binding",
            metadata=metadata,
            role_ref=rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role.metadata.name
            ),
            subjects=[
                rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=NAME, namespace=self._metadata.namespace
                )
            ],
            opts=self._in_cluster(),
        )

    def _in_cluster(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self, deleted_with=self._cluster, depends_on=list(after)
        )


def _deployment(args: EventExporterArgs) -> apps.v1.DeploymentSpecArgs:
    # A running exporter does not reload its ConfigMap: a changed digest restarts it.
    digest = hashlib.sha256(CONFIGURATION.encode()).hexdigest()
    return apps.v1.DeploymentSpecArgs(
        # Two, even during a rollout, would report every event twice.
        replicas=1,
        strategy=apps.v1.DeploymentStrategyArgs(type="Recreate"),
        selector=meta.v1.LabelSelectorArgs(match_labels=_LABELS),
        template=core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(
                labels=_LABELS, annotations={"pull-study/configuration": digest}
            ),
            spec=_pod(args),
        ),
    )


def _pod(args: EventExporterArgs) -> core.v1.PodSpecArgs:
    pool = args.node_pool
    return core.v1.PodSpecArgs(
        service_account_name=NAME,
        automount_service_account_token=True,
        node_selector={"cloud.google.com/gke-nodepool": pool} if pool else None,
        security_context=core.v1.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=_USER,
            run_as_group=_USER,
            seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        containers=[_container(args.image)],
        volumes=[
            core.v1.VolumeArgs(
                name="configuration", config_map=core.v1.ConfigMapVolumeSourceArgs(name=NAME)
            )
        ],
    )


def _container(image: str) -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        image=image,
        args=[f"-conf={_FOLDER}/config.yaml"],
        ports=[core.v1.ContainerPortArgs(name="metrics", container_port=_PORT)],
        readiness_probe=_probe("/-/ready"),
        liveness_probe=_probe("/-/healthy"),
        # It caches every event of the last hour: 256 nodes and 38 images cause about 50,000.
        resources=core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"}
        ),
        security_context=core.v1.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
        ),
        volume_mounts=[
            core.v1.VolumeMountArgs(name="configuration", mount_path=_FOLDER, read_only=True)
        ],
    )


def _probe(path: str) -> core.v1.ProbeArgs:
    return core.v1.ProbeArgs(http_get=core.v1.HTTPGetActionArgs(path=path, port=_PORT))
