"""The event exporter: every event of the cluster as a line of JSON on its stdout.

Cloud Logging reads stdout, so the exporter needs no credential for a sink. It is configured for
completeness: with its defaults (events older than 5 s dropped, 5 look-ups a second) nine tenths of
a large study's events are lost. It looks nothing up, so its role covers events only.
"""

import hashlib

import pulumi
import yaml
from pulumi_kubernetes import core, rbac

from infra.components.system_pod import SystemPod, SystemPodArgs, probe

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
_FOLDER = "/data"
_PORT = 2112


class EventExporter(SystemPod):
    """One kubernetes-event-exporter, with a role that reads events and nothing else."""

    def __init__(
        self, name: str, args: SystemPodArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        events = rbac.v1.PolicyRuleArgs(
            api_groups=[""], resources=["events"], verbs=["get", "list", "watch"]
        )
        super().__init__(
            "EventExporter",
            name,
            args,
            app=NAME,
            namespace=NAMESPACE,
            prefix="",
            rules=[events],
            opts=opts,
        )
        configuration = core.v1.ConfigMap(
            "configuration",
            metadata=self.metadata,
            data={"config.yaml": CONFIGURATION},
            opts=self.in_cluster(),
        )
        # A running exporter does not reload its ConfigMap: a changed digest restarts it.
        digest = hashlib.sha256(CONFIGURATION.encode()).hexdigest()
        volume = core.v1.VolumeArgs(
            name="configuration", config_map=core.v1.ConfigMapVolumeSourceArgs(name=NAME)
        )
        self.deploy(
            _container(),
            configuration,
            volumes=[volume],
            annotations={"pull-study/configuration": digest},
        )


def _container() -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=NAME,
        args=[f"-conf={_FOLDER}/config.yaml"],
        ports=[core.v1.ContainerPortArgs(name="metrics", container_port=_PORT)],
        readiness_probe=probe("/-/ready", _PORT),
        liveness_probe=probe("/-/healthy", _PORT),
        # It caches every event of the last hour: 256 nodes and 38 images cause about 50,000.
        resources=core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"}
        ),
        volume_mounts=[
            core.v1.VolumeMountArgs(name="configuration", mount_path=_FOLDER, read_only=True)
        ],
    )
